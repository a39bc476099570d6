/* gemm_dp_avx512bf16.c — the bf16 product with vdpbf16ps, for machines that have AVX512_BF16 and no AMX (Zen 4, Cooper Lake).
 *
 * Order "bf16.dp": acc = vdpbf16ps(acc, pair of A, pair of B) over pairs of k in order. A micro-kernel holds R rows x P panels of C, 8 x 3
 * at most; operands are the blocks of gemm.h, so a pair of A is one broadcast of 32 bits and 16 pairs of B are one vector. */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/gemm.h"

enum { MR = 8, PM = 8 };
static const int8_t pmax[MR + 1] = { 0, 8, 8, 6, 5, 4, 4, 3, 3 };
typedef struct {
    int64_t nk;
    const char *a;
    int64_t a_k;
    const char *b;
    int64_t b_o;
    float *c;
    int64_t c_rs;
    const float *bias;
    __mmask16 last;
    bool load;
} args_t;
#define MASK(p) ((p) == P - 1 ? u->last : (__mmask16)0xffff)

static inline __attribute__((always_inline)) void micro(const args_t *u, const int R, const int P) {
    __m512 acc[MR][PM];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) acc[r][p] = u->load ? _mm512_maskz_loadu_ps(MASK(p), u->c + r * u->c_rs + p * 16) : _mm512_setzero_ps();
    const char *a = u->a, *b = u->b;
    for (int64_t k = u->nk; k > 0; k--, a += u->a_k)
        for (int q = 0; q < 16; q++, b += 64) {
            __m512bh x[PM];
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) {
                x[p] = (__m512bh)_mm512_loadu_si512(b + p * u->b_o);
                if (R <= 4) _mm_prefetch(b + p * u->b_o + 2048, _MM_HINT_T0);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                int32_t pair; memcpy(&pair, a + r * 64 + q * 4, 4);
                const __m512bh y = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 8
                for (int p = 0; p < P; p++) acc[r][p] = _mm512_dpbf16_ps(acc[r][p], y, x[p]);
            }
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++)
            _mm512_mask_storeu_ps(u->c + r * u->c_rs + p * 16, MASK(p),
                                  u->bias ? _mm512_add_ps(acc[r][p], _mm512_maskz_loadu_ps(MASK(p), u->bias + p * 16)) : acc[r][p]);
}
typedef void micro_fn(const args_t *u);
#define KERNELS(X) X(1,1) X(1,2) X(1,3) X(1,4) X(1,5) X(1,6) X(1,7) X(1,8) X(2,1) X(2,2) X(2,3) X(2,4) X(2,5) X(2,6) X(2,7) X(2,8) \
    X(3,1) X(3,2) X(3,3) X(3,4) X(3,5) X(3,6) X(4,1) X(4,2) X(4,3) X(4,4) X(4,5) X(5,1) X(5,2) X(5,3) X(5,4) X(6,1) X(6,2) X(6,3) X(6,4) \
    X(7,1) X(7,2) X(7,3) X(8,1) X(8,2) X(8,3)
#define X(r, p) static void micro_##r##x##p(const args_t *u) { micro(u, r, p); }
KERNELS(X)
#undef X
static micro_fn *const kernels[MR + 1][PM + 1] = {
#define X(r, p) [r][p] = micro_##r##x##p,
    KERNELS(X)
#undef X
};
static float bias_at(const lm_gemm *g, int64_t n) {
    return g->bias_dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)g->bias)[n]) : ((const float *)g->bias)[n];
}

/* Rows m0 … m1-1 against panels of columns n0 … n1-1, kn blocks of k. A: a + (row / 16) * a_o + (row % 16) * 64. */
static void sweep(args_t *u, const lm_gemm *g, int64_t batch, const char *A, int64_t a_o, const char *B, int64_t m0, int64_t m1, int64_t n0,
                  int64_t n1, const float *bias) {
    const int64_t np = lm_ceil_div(n1 - n0, 16);
    for (int64_t m = m0; m < m1; m += MR) {
        const int r = (int)lm_min64(MR, m1 - m);
        u->a = A + m / 16 * a_o + m % 16 * 64;
        for (int64_t p = 0; p < np;) {
            const int64_t left = np - p, w = left > pmax[r] && left < 2 * pmax[r] ? (left + 1) / 2 : lm_min64(left, pmax[r]);
            u->b = B + p * u->b_o; u->c = g->c + batch * g->c_bs + m * g->c_rs + n0 + p * 16; u->c_rs = g->c_rs;
            u->bias = bias ? bias + p * 16 : NULL;
            u->last = p + w == np ? (__mmask16)((1u << (n1 - n0 - (np - 1) * 16)) - 1) : 0xffff;
            kernels[r][w](u);
            p += w;
        }
    }
}
static void tile_of(const lm_gemm *g, int64_t tile, char *scratch) {
    const lm_gemm_grid t = lm_bf16_grid(g);
    const bool few = g->M <= LM_BF16_FEW, here = lm_bf16_b_here(g);
    const int64_t batch = tile / (t.n_m * t.n_n), mn = tile % (t.n_m * t.n_n), m0 = mn % t.n_m * t.mb, m1 = lm_min64(m0 + t.mb, g->M);
    const int64_t n0 = mn / t.n_m * t.nbp * 16, n1 = lm_min64(n0 + t.nbp * 16, g->N), nk = lm_ceil_div(g->K, 32),
                  gm = lm_ceil_div(g->M, 16), gn = lm_ceil_div(g->N, 16);
    const int64_t kc = !few ? LM_BF16_KC / 32 : here ? lm_max64(nk, 1) : LM_BF16_KC / 32;
    float *tmp = (float *)scratch, bias[LM_BF16_NBP * 16];
    char *few_a = scratch + 8192, *few_b = few_a + (few ? g->M * 64 * nk : 0);
    for (int64_t n = n0; g->bias && n < n1; n++) bias[n - n0] = bias_at(g, n);
    if (few) for (int64_t k = 0; k < nk; k++) lm_bf16_block(&g->a, batch, 0, g->M, k * 32, g->K, true, (int)g->M, few_a + k * g->M * 64, tmp);
    const char *A = few ? few_a : (const char *)g->apack + batch * gm * nk * 1024,
               *B = here       ? g->b.p
                    : g->bpack ? (const char *)g->bpack + batch * gn * nk * 1024
                               : NULL;
    for (int64_t k = 0; k < nk || k == 0; k += kc) {
        const int64_t kn = lm_min64(kc, nk - k);
        args_t u = { .nk = kn, .a_k = few ? g->M * 64 : 1024, .b_o = (B ? nk : kc) * 1024, .load = k > 0 || g->acc };
        if (!B)
            for (int64_t n = n0; n < n1; n += 16)
                for (int64_t q = 0; q < kn; q++)
                    lm_bf16_block(&g->b, batch, n, lm_min64(16, n1 - n), (k + q) * 32, g->K, false, 16,
                                  few_b + ((n - n0) / 16 * kc + q) * 1024, tmp);
        sweep(&u, g, batch, A + k * u.a_k, nk * 1024, B ? B + (n0 / 16 * nk + k) * 1024 : few_b, m0, m1, n0, n1,
              g->bias && k + kc >= nk ? bias : NULL);
    }
}
void lm_gemm_dp_tile(const lm_gemm *g, int64_t tile, void *scratch) { tile_of(g, tile, scratch); }

static lm_gemm problem(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); lm_bf16_bind(&g, c->shared); return g; }
static int64_t packs(const lm_call *c) { lm_gemm g = problem(c); return lm_bf16_packs(&g); }
static lm_err pack(const lm_call *c, int64_t i, void *scratch) { lm_gemm g = problem(c); lm_bf16_pack(&g, i, scratch); return LM_OK; }
static int64_t tiles(const lm_call *c) { lm_gemm g = problem(c); return lm_bf16_grid(&g).tiles; }
static lm_err run(const lm_call *c, int64_t i, void *scratch) { lm_gemm g = problem(c); tile_of(&g, i, scratch); return LM_OK; }
static size_t shared(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); return lm_bf16_shared(&g, true); }
static size_t bytes(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); return lm_bf16_scratch(&g); }
const lm_kernel lm_k_matmul_dp[] = { { .name = "matmul.bf16.avx512bf16",
                                       .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16,
                                       .order = "bf16.dp",
                                       .accepts = lm_gemm_accepts_bf16,
                                       .shared_bytes = shared,
                                       .thread_bytes = bytes,
                                       .n_phase = 2,
                                       .phase = { { packs, pack }, { tiles, run } } },
                                     { 0 } };
