/* gemm_amx.c — the bf16 product on AMX tiles.
 *
 * Order "bf16.amx": C = tdpbf16ps(C, A block, B block) over blocks of 32 of k in order. A micro-kernel holds 2 x 2 tiles of C (32x32); per
 * block of k it loads 2 KiB of A and 2 KiB of B and does four products of 16x16x32.
 *
 * What bounds it is not the tiles (2.75 TFLOP/s a core) but L3 and memory, 10-20 GB/s a core: at 1.5 TFLOP/s that is one byte per 100 flops.
 * Per flop a tile of mb x nb reads 1/mb bytes of B and 1/nb of A, and each pass over C moves 4/kc there and as much back. So K is one pass
 * up to 2048; A of a tile, at most 1 MiB, stays in half of L2 and is swept for every pair of panels of B, which pass once, asked for while
 * the pair before is at work. A longer K goes in parts, and then the tile of C stays in L2 too. Where all rows of A are one tile's, nobody
 * else needs a panel of B: the tile packs each pair right before its use, and B is not written to memory and read again.
 *
 * Up to 16 rows (decode): six panels at a time against one A tile of M rows; B streams from memory, each panel a sequential stream. The
 * tile configuration is loaded at the start of a tile of work and released at its end: no other code sees AMX state. */
#include "op/matmul/amx.h"

static float bias_at(const lm_gemm *g, int64_t n) {
    return g->bias_dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)g->bias)[n]) : ((const float *)g->bias)[n];
}
static void add_bias(float *c, int64_t cs, int64_t rows, const float *bias, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) for (int64_t j = 0; j < cols; j++) c[r * cs + j] += bias[j];
}

enum { A_MOST = 512 * 1024, C_MOST = 128 * 1024, K_ONE = 2048, K_PART = 1536 };     /* elements of A and C in L2; k in one pass, and in parts */
static int64_t part_of_k(const lm_gemm *g) {
    const int64_t kp = lm_max64(lm_round_up(g->K, 32), 32);
    return kp <= K_ONE ? kp : lm_round_up(lm_ceil_div(kp, lm_ceil_div(kp, K_PART)), 32);
}
/* The largest part for this K and every smaller one; all rows in one tile, for this M and K and all smaller ones: what is laid out for the
 * largest run must do for the others. */
static int64_t most_of_k(const lm_gemm *g) { return lm_min64(lm_max64(lm_round_up(g->K, 32), 32), K_ONE); }
static bool one_tile_high(const lm_gemm *g) { return lm_round_up(g->M, 32) * most_of_k(g) <= A_MOST; }
/* The cheapest of some tile sizes, costs being fractions of the work: reading A again, reading B again, and the idle time of 2 … 16 threads. */
static lm_gemm_grid grid_of(const lm_gemm *g) {
    static const int16_t mbs[] = { 512, 256, 128, 64, 32 }, nbps[] = { LM_BF16_NBP, 24, 16, 8, 4 };
    if (g->M <= LM_BF16_FEW) return lm_bf16_grid(g);
    const int64_t np = lm_ceil_div(g->N, 16), M = g->M, kc = part_of_k(g);
    const bool one = one_tile_high(g);
    lm_gemm_grid t = { .mb = 32, .nbp = 4 };
    double best = 1e30;
    for (int j = 0; j < LM_COUNT(nbps); j++)
        for (int i = 0; i < (one ? 1 : LM_COUNT(mbs)); i++) {
            const int64_t mb = one ? lm_round_up(M, 32) : lm_round_up(lm_ceil_div(M, lm_ceil_div(M, mbs[i])), 32), n_n = lm_ceil_div(np, nbps[j]),
                          nbp = lm_round_up(lm_ceil_div(np, lm_max64(n_n, 1)), 2), tiles = lm_ceil_div(M, mb) * n_n * g->batch;
            if ((mb * kc > A_MOST && mb > 32) || (kc < g->K && mb * nbp * 16 > C_MOST && nbp > 4)) continue;
            double cost = (one ? 0.25 : 2.0) / (double)nbps[j] + 32.0 / (double)mb;
            for (int n = 2; n <= 16 && tiles; n *= 2) cost += 0.4 / n * (double)(lm_ceil_div(tiles, n) * n - tiles) / (double)tiles;
            if (cost < best) { best = cost; t.mb = mb; t.nbp = lm_max64(nbp, 2); }
        }
    t.n_m = lm_ceil_div(M, t.mb);
    t.n_n = lm_ceil_div(np, t.nbp);
    t.tiles = t.n_m * t.n_n * g->batch;
    return t;
}
static void bind(lm_gemm *g, void *shared) {
    lm_bf16_bind(g, shared);
    if (one_tile_high(g)) g->bpack = NULL;
}

static void many_rows(const lm_gemm *g, int64_t tile, float *tmp, float *edge, char *pair) {
    const lm_gemm_grid t = grid_of(g);
    const int64_t batch = tile / (t.n_m * t.n_n), mn = tile % (t.n_m * t.n_n), m0 = mn % t.n_m * t.mb, m1 = lm_min64(m0 + t.mb, g->M);
    const int64_t n0 = mn / t.n_m * t.nbp * 16, n1 = lm_min64(n0 + t.nbp * 16, g->N);
    const int64_t nk = lm_ceil_div(g->K, 32), gm = lm_ceil_div(g->M, 16), gn = lm_ceil_div(g->N, 16), kc = part_of_k(g) / 32;
    const char *A = (const char *)g->apack + batch * gm * nk * 1024,
               *B = lm_bf16_b_here(g) ? g->b.p : g->bpack ? (const char *)g->bpack + batch * gn * nk * 1024 : NULL;
    const int64_t ahead = B ? lm_ceil_div(16, lm_ceil_div(m1 - m0, 32)) : 0;      /* lines of a panel a step, so that all m of this pair fetch the next */
    float *C = g->c + batch * g->c_bs, bias[32];
    lm_amx_begin(16, 8);
    for (int64_t k = 0; k < nk || k == 0; k += kc) {
        const int64_t kn = lm_min64(kc, nk - k);
        lm_amx u = { .nk = kn, .a_k = 1024, .a_o = nk * 1024, .b_k = 1024, .b_o = (B ? nk : kc) * 1024, .load = k > 0 || g->acc, .ahead = true,
                     .next_r = g->c_rs * 4 };
        const bool last = g->bias && k + kc >= nk;
        for (int64_t n = n0; n < n1; n += 32) {
            const int64_t cols = lm_min64(32, n1 - n);
            const char *b = B ? B + (n / 16 * nk + k) * 1024 : pair;
            if (last) for (int64_t j = 0; j < cols; j++) bias[j] = bias_at(g, n + j);
            for (int64_t j = 0; !B && j < cols; j += 16)
                for (int64_t q = 0; q < kn; q++)
                    lm_bf16_block(&g->b, batch, n + j, lm_min64(16, cols - j), (k + q) * 32, g->K, false, 16, pair + (j / 16 * kc + q) * 1024, tmp);
            for (int64_t m = m0; m < m1; m += 32) {
                const int64_t rows = lm_min64(32, m1 - m), at = (m - m0) / 32 * ahead;
                float *c = C + m * g->c_rs + n;
                u.a = A + (m / 16 * nk + k) * 1024; u.b = b;
                u.next_c = (const char *)(m + 32 < m1 ? c + 32 * g->c_rs : n + 32 < n1 ? C + m0 * g->c_rs + n + 32 : c);
                u.next_b = b + 2 * nk * 1024 + at * kn * 64;
                u.next_lines = n + 32 < n1 && at < 16 ? ahead : 0;
                lm_amx_into(&u, c, g->c_rs, rows, cols, edge);
                if (last) add_bias(c, g->c_rs, rows, bias, cols);
            }
        }
    }
    lm_amx_end();
}

/* Up to six panels against M rows. */
#define PANEL(i) if (P > i) { _tile_loadd(7, b + i * bs, 64); _tile_dpbf16ps(i, 6, 7); }
#define EACH(f) f(0) f(1) f(2) f(3) f(4) f(5)
#define LOAD(i) if (P > i) _tile_loadd(i, c + i * 16, cs * 4);
#define ZERO(i) if (P > i) _tile_zero(i);
#define STORE(i) if (P > i) _tile_stored(i, c + i * 16, cs * 4);
#define AHEAD(i) if (P > i) for (int q = 0; q < 1024; q += 64) _mm_prefetch(b + i * bs + 4096 + q, _MM_HINT_T0);
static inline __attribute__((always_inline)) void few(const int P, int64_t nk, const char *a, int64_t ar, const char *b, int64_t bs,
                                                      float *c, int64_t cs, bool load) {
    if (load) { EACH(LOAD) } else { EACH(ZERO) }
    for (int64_t k = 0; k < nk; k++, a += ar, b += 1024) {
        _tile_loadd(6, a, 64);
        EACH(AHEAD)
        EACH(PANEL)
    }
    EACH(STORE)
}
static void few_rows(const lm_gemm *g, int64_t tile, char *scratch) {
    const lm_gemm_grid t = lm_bf16_grid(g);
    const int64_t batch = tile / t.n_n, n0 = tile % t.n_n * t.nbp * 16, n1 = lm_min64(n0 + t.nbp * 16, g->N), nk = lm_ceil_div(g->K, 32), M = g->M;
    const bool here = lm_bf16_b_here(g);
    const int64_t kc = here ? lm_max64(nk, 1) : LM_BF16_KC / 32;
    float *tmp = (float *)scratch, *edge = tmp + 1024, bias[16];
    char *A = scratch + 8192, *Bp = A + M * 64 * nk;
    for (int64_t k = 0; k < nk; k++) lm_bf16_block(&g->a, batch, 0, M, k * 32, g->K, true, (int)M, A + k * M * 64, tmp);
    for (int64_t k = 0; k < nk || k == 0; k += kc) {
        const int64_t kn = lm_min64(kc, nk - k);
        if (!here)
            for (int64_t n = n0; n < n1; n += 16)
                for (int64_t q = 0; q < kn; q++)
                    lm_bf16_block(&g->b, batch, n, lm_min64(16, n1 - n), (k + q) * 32, g->K, false, 16,
                                  Bp + ((n - n0) / 16 * kc + q) * 1024, tmp);
        lm_amx_begin((int)M, 7);
        for (int64_t n = n0; n < n1;) {
            const bool ragged = n1 - n < 16, load = k > 0 || g->acc;
            const int64_t p = ragged ? 1 : lm_min64(6, (n1 - n) / 16), cs = ragged ? 16 : g->c_rs, bs = here ? nk * 1024 : kc * 1024;
            float *c = g->c + batch * g->c_bs + n, *o = ragged ? edge : c;
            const char *a = A + k * M * 64, *b = here ? (const char *)g->b.p + (n / 16 * nk + k) * 1024 : Bp + (n - n0) / 16 * bs;
            if (ragged && load) lm_amx_copy(edge, 16, c, g->c_rs, M, n1 - n);
            switch (p) {
            case 6: few(6, kn, a, M * 64, b, bs, o, cs, load); break;
            case 5: few(5, kn, a, M * 64, b, bs, o, cs, load); break;
            case 4: few(4, kn, a, M * 64, b, bs, o, cs, load); break;
            case 3: few(3, kn, a, M * 64, b, bs, o, cs, load); break;
            case 2: few(2, kn, a, M * 64, b, bs, o, cs, load); break;
            default: few(1, kn, a, M * 64, b, bs, o, cs, load); break;
            }
            if (ragged) lm_amx_copy(c, g->c_rs, edge, 16, M, n1 - n);
            n += p * 16;
        }
        lm_amx_end();
    }
    if (g->bias)
        for (int64_t n = n0; n < n1; n += 16) {
            const int64_t cols = lm_min64(16, n1 - n);
            for (int64_t j = 0; j < cols; j++) bias[j] = bias_at(g, n + j);
            add_bias(g->c + batch * g->c_bs + n, g->c_rs, M, bias, cols);
        }
}
void lm_gemm_amx_tile(const lm_gemm *g, int64_t tile, void *scratch) {
    if (g->M <= LM_BF16_FEW) few_rows(g, tile, scratch);
    else many_rows(g, tile, scratch, (float *)scratch + 1024, (char *)scratch + 8192);
}

static lm_gemm problem(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); bind(&g, c->shared); return g; }
static int64_t packs(const lm_call *c) { lm_gemm g = problem(c); return g.M <= LM_BF16_FEW ? 0 : lm_bf16_packs(&g); }
static lm_err pack(const lm_call *c, int64_t i, void *scratch) { lm_gemm g = problem(c); lm_bf16_pack(&g, i, scratch); return LM_OK; }
static int64_t tiles(const lm_call *c) { lm_gemm g = problem(c); return grid_of(&g).tiles; }
static lm_err run(const lm_call *c, int64_t i, void *scratch) { lm_gemm g = problem(c); lm_gemm_amx_tile(&g, i, scratch); return LM_OK; }
static size_t shared(const lm_call *c) {
    lm_gemm g; lm_gemm_of(c, &g);
    return lm_bf16_shared(&g, !one_tile_high(&g));
}
static size_t bytes(const lm_call *c) {
    lm_gemm g; lm_gemm_of(c, &g);
    const size_t few = lm_bf16_scratch(&g), pair = g.M > LM_BF16_FEW && !lm_bf16_b_here(&g) ? 8192 + 64 * (size_t)most_of_k(&g) : 0;
    return few > pair ? few : pair;
}
const lm_kernel lm_k_matmul_amx[] = { { .name = "matmul.bf16.amx",
                                        .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16 | LM_CPU_AMX_BF16,
                                        .order = "bf16.amx",
                                        .accepts = lm_gemm_accepts_bf16,
                                        .shared_bytes = shared,
                                        .thread_bytes = bytes,
                                        .n_phase = 2,
                                        .phase = { { packs, pack }, { tiles, run } } },
                                      { 0 } };
