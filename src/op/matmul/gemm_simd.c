/* gemm_simd.c — the f32 product for each vector instruction set: micro-kernels and one tile of C. Packing is gemm_pack.h.
 *
 *            <-- nb = 24 panels of 16 -->        for each block of kc of k:
 *   A       +----------------------------+         B: kc x nb packed as panels [k][16]          L2, 60 % of it
 *   8 rows  | 8x48 | 8x48 | ...          |         for each 8 rows of A:
 *   [k][8]  +----------------------------+             pack them as [k][8]                      12 KiB, L1
 *           |        tile of C           |             for each 3 panels: C 8x48 in registers, one pass over kc; C loaded before, stored after
 *
 * A micro-kernel holds R rows x P panels of C in registers; per k it loads P panels of B, broadcasts R numbers of A and does R*P FMAs:
 *     AVX-512  8 x 3 panels (8x48): 24 accumulators, 11 loads and 24 FMAs per k      AVX2  6 x 1 panel (6x16): 12 accumulators in 16 registers
 * B streams from L2 at 16 bytes a cycle. The rows of A and the block of C that come next are prefetched one line per 16 k, so that only
 * packing B waits for memory. One row (decode) takes 8 panels at once: 8 chains hide the latency of the FMA, and 8 sequential streams feed
 * the prefetcher.
 *
 * Reached of the FMA peak of one core (Cascade Lake, 145-152 GFLOP/s AVX-512, 86 AVX2; November 2026): micro-kernel 0.92, products of
 * GPT-2's shapes 0.78-0.87; AVX2 0.65-0.86. */
#include "op/matmul/gemm_pack.h"

#if defined(LM_ISA_IS_avx512)
enum { PM = 8, PW = 3, UNROLL = 1 };                               /* panels at once: of rows in place; of packed rows */
#define PACKED(X) X(1) X(2) X(3)
#define KERNELS(X) X(1,1) X(1,2) X(1,3) X(1,4) X(1,5) X(1,6) X(1,7) X(1,8) X(2,1) X(2,2) X(2,3) X(2,4) X(2,5) X(2,6) X(2,7) X(2,8) \
    X(3,1) X(3,2) X(3,3) X(3,4) X(3,5) X(3,6) X(4,1) X(4,2) X(4,3) X(4,4) X(4,5) X(5,1) X(5,2) X(5,3) X(5,4) X(6,1) X(6,2) X(6,3) X(6,4) \
    X(7,1) X(7,2) X(7,3) X(8,1) X(8,2) X(8,3)
static const int8_t pmax[MR + 1] = { 0, 8, 8, 6, 5, 4, 4, 3, 3 };
#elif defined(LM_ISA_IS_avx2)
enum { PM = 4, PW = 1, UNROLL = 4 };
#define PACKED(X) X(1)
#define KERNELS(X) X(1,1) X(1,2) X(1,3) X(1,4) X(2,1) X(2,2) X(2,3) X(3,1) X(3,2) X(4,1) X(5,1) X(6,1)
static const int8_t pmax[MR + 1] = { 0, 4, 3, 2, 1, 1, 1 };
#else
enum { PM = 2, PW = 1, UNROLL = 4 };
#define PACKED(X) X(1)
#define KERNELS(X) X(1,1) X(1,2) X(2,1)
static const int8_t pmax[MR + 1] = { 0, 2, 1 };
#endif
enum { NV = 16 / W, NEAR = 64, FAR = 512 };                 /* prefetch, in floats of a panel: from L2 and from further away */
typedef vn vec;
typedef vnu vecu;
#define LD(p) (*(const vecu *)(p))
#define INL LM_INL

/* ---- micro-kernels ------------------------------------------------------------------------------------------------------ */
typedef struct {
    int64_t k; const float *a; int64_t a_ms, a_ks; const float *b; int64_t b_ps;
    float *c; int64_t c_ms; const float *bias; int n_last; bool load;
    int ahead;                                     /* prefetch distance in B */
    /* block(): prefetch of the C that comes after, and of what will be packed of A after this group, a line per 16 k */
    const float *next, *next_a[2]; int64_t next_step;
} ukr_args;
typedef void ukr_fn(const ukr_args *u);

/* Any rows, any panels, A by strides, ragged last panel, bias. */
INL void ukr(const ukr_args *u, const int R, const int P) {
    vec acc[MR][PM * NV];
    const int tail = u->n_last;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            const float *c = u->c + r * u->c_ms + p * 16;
            float edge[16] = { 0 };
            if (u->load && p == P - 1 && tail < 16) { memcpy(edge, c, (size_t)tail * 4); c = edge; }
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) acc[r][p * NV + v] = u->load ? (vec)LD(c + v * W) : (vec){ 0 };
        }
    const int64_t ms = u->a_ms, ks = u->a_ks, ps = u->b_ps;
    const float *a0 = u->a, *a1 = a0 + 3 * ms, *a2 = a1 + 3 * ms, *b = u->b;
    const int64_t pf = u->ahead;
    for (int64_t k = u->k; k > 0; k--) {
        vec bv[PM * NV];
#pragma GCC unroll 16
        for (int p = 0; p < P; p++)
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) bv[p * NV + v] = LD(b + p * ps + v * W);
#pragma GCC unroll 16
        for (int p = 0; p < P; p++) __builtin_prefetch(b + p * ps + (R <= 4 ? FAR : pf));
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const vec x = (r < 3 ? a0 : r < 6 ? a1 : a2)[(r % 3) * ms] - (vec){ 0 };
#pragma GCC unroll 32
            for (int j = 0; j < P * NV; j++) acc[r][j] = vn_fma(x, bv[j], acc[r][j]);
        }
        a0 += ks; a1 += ks; a2 += ks; b += 16;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            float *c = u->c + r * u->c_ms + p * 16, edge[16];
            const bool cut = p == P - 1 && tail < 16;
            if (u->bias) {
                const float *s = u->bias + p * 16;
                if (cut) { memset(edge, 0, sizeof edge); memcpy(edge, s, (size_t)tail * 4); s = edge; }
#pragma GCC unroll 4
                for (int v = 0; v < NV; v++) acc[r][p * NV + v] += LD(s + v * W);
            }
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) *(vecu *)((cut ? edge : c) + v * W) = acc[r][p * NV + v];
            if (cut) memcpy(c, edge, (size_t)tail * 4);
        }
}
#define X(r, p) static void ukr_##r##x##p(const ukr_args *u) { ukr(u, r, p); }
KERNELS(X)
#undef X
static ukr_fn *const kernels[MR + 1][PM + 1] = {
#define X(r, p) [r][p] = ukr_##r##x##p,
    KERNELS(X)
#undef X
};

/* MR packed rows x P whole panels, no bias: where the time goes. All strides are constants, so that only accumulators need registers. With
 * 48-wide blocks one k is not unrolled with the next: the compiler would gather the prefetches of several k into a burst that fills the
 * line buffers (-6 %); the narrow ones are bound by instructions, and are, with a barrier that keeps each k's prefetch in place. */
INL void one_k(vec acc[MR][PW * NV], const float *a, const float *b, int64_t ps, const int P, const int ahead) {
    vec bv[PW * NV];
#pragma GCC unroll 8
    for (int j = 0; j < P * NV; j++) bv[j] = LD(b + j / NV * ps + j % NV * W);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) __builtin_prefetch(b + p * ps + ahead);
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++) {
        const vec x = a[r] - (vec){ 0 };
#pragma GCC unroll 8
        for (int j = 0; j < P * NV; j++) acc[r][j] = vn_fma(x, bv[j], acc[r][j]);
    }
}
INL void block(const ukr_args *u, const int P, const int ahead) {
    vec acc[MR][PW * NV];
    float *c = u->c;
    const int64_t cs = u->c_ms, ps = u->b_ps;
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 8
        for (int j = 0; j < P * NV; j++) acc[r][j] = u->load ? (vec)LD(c + r * cs + j * W) : (vec){ 0 };
    const float *a = u->a, *b = u->b, *next = u->next, *n0 = u->next_a[0], *n1 = u->next_a[1];
    const int64_t step = u->next_step;
    int64_t k = u->k;
    for (int row = 1; k >= 16; k -= 16, row++, n0 += step, n1 += step) {
        __builtin_prefetch(n0, 0, 2);
        __builtin_prefetch(n1, 0, 2);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) __builtin_prefetch(next + p * 16, 1);
        next += row < MR ? cs : 0;
#pragma GCC unroll 1
        for (int q = 0; q < 16; q += UNROLL, a += UNROLL * MR, b += UNROLL * 16)
#pragma GCC unroll 4
            for (int i = 0; i < UNROLL; i++) { one_k(acc, a + i * MR, b + i * 16, ps, P, ahead); if (UNROLL > 1) __asm__ volatile("" ::: "memory"); }
    }
    for (; k > 0; k--, a += MR, b += 16) one_k(acc, a, b, ps, P, ahead);
#pragma GCC unroll 8
    for (int r = 0; r < MR; r++)
#pragma GCC unroll 8
        for (int j = 0; j < P * NV; j++) *(vecu *)(c + r * cs + j * W) = acc[r][j];
}
#define X(p) static void near_##p(const ukr_args *u) { block(u, p, NEAR); } static void far_##p(const ukr_args *u) { block(u, p, FAR); }
PACKED(X)
#undef X
static ukr_fn *const blocks[2][PW + 1] = {
#define X(p) [0][p] = near_##p, [1][p] = far_##p,
    PACKED(X)
#undef X
};
static void add_bias(float *c, int64_t cs, const float *bias, int64_t panels) {
    for (int r = 0; r < MR; r++) for (int64_t j = 0; j < panels * 16; j += W) *(vecu *)(c + r * cs + j) = LD(c + r * cs + j) + LD(bias + j);
}

/* ---- one tile of C ------------------------------------------------------------------------------------------------------------ */
typedef struct {
    const lm_gemm *g;
    int64_t batch, m0, m1, n0, n1, np;         /* the tile; panels of it */
    int64_t k0, kc;                            /* the block of k */
    float *c; const float *bias;               /* C of the batch; bias of the tile's columns, or NULL */
} tile_t;
/* Row m of A where it lies, at the block of k; A packed for all tiles, at the group of m. */
static const float *row_of(const tile_t *t, int64_t m) { return (const float *)t->g->a.p + t->batch * t->g->a.bs + m * t->g->a.os + t->k0; }
static const float *group_of(const tile_t *t, int64_t m) {
    return (const float *)t->g->apack + (t->batch * lm_ceil_div(t->g->M, MR) + m / MR) * group_stride(t->g) + t->k0 * MR;
}

/* What of A to prefetch while a group is swept: the rows of the next group; or, of an A whose rows are columns in memory, those k of the next
 * strip that are packed after the group that follows, four lines of each. p NULL: nothing. */
typedef struct { const float *p; int64_t rs, columns; } next_t;
static void prefetch_in(const next_t *n, ukr_args *u, int64_t j, int64_t calls) {
    u->next_a[0] = u->next_a[1] = u->a;
    u->next_step = 0;
    if (!n->p) return;
    if (n->columns) {                                   /* a call has time for one line of k/16 of them, or two lines */
        const int64_t each = u->k / 16, two = calls < 8 ? 2 : 1, at = j / 4 * each * two;
        if (at >= n->columns) return;
        u->next_step = n->rs;
        u->next_a[0] = n->p + j % 4 * 16 + at * n->rs;
        u->next_a[1] = u->next_a[0] + (two - 1) * each * n->rs;
        return;
    }
    u->next_step = 16;
    u->next_a[0] = n->p + (j < MR ? j : 0) * n->rs;
    u->next_a[1] = n->p + (j + calls < MR ? j + calls : 0) * n->rs;
}
/* Rows m … m+r-1 times all panels of the tile. */
static void sweep(const tile_t *t, ukr_args *u, int64_t m, int r, const next_t *next) {
    const bool packed = r == MR && u->a_ks == MR, bias = t->bias && t->k0 + t->kc >= t->g->K;
    const int most = packed ? PW : pmax[r], last = (int)(t->n1 - t->n0 - (t->np - 1) * 16);
    const float *b = u->b;
    const int64_t calls = lm_ceil_div(t->np, most);
    for (int64_t p = 0, j = 0; p < t->np; j++) {
        const int64_t left = t->np - p, w = left > most && left < 2 * most ? (left + 1) / 2 : lm_min64(left, most);
        u->b = b + p * u->b_ps;
        u->c = t->c + m * t->g->c_rs + t->n0 + p * 16;
        u->bias = bias ? t->bias + p * 16 : NULL;
        u->n_last = p + w == t->np ? last : 16;
        u->ahead = m == t->m0 ? FAR : NEAR;
        if (packed && u->n_last == 16) {
            u->next = p + w < t->np ? u->c + w * 16 : m + MR < t->m1 ? t->c + (m + MR) * t->g->c_rs + t->n0 : u->c;
            prefetch_in(next, u, j, calls);
            blocks[m == t->m0][w](u);
            if (bias) add_bias(u->c, u->c_ms, u->bias, w);
        } else kernels[r][w](u);
        p += w;
    }
    u->b = b;
}

void LM_ISA_NAME(lm_gemm_f32_tile)(const lm_gemm *g, int64_t tile, void *scratch) {
    const lm_gemm_grid d = lm_gemm_f32_grid(g);
    const int64_t mn = tile % (d.n_m * d.n_n), kc_pack = lm_gemm_kc(g);
    tile_t t = { .g = g, .batch = tile / (d.n_m * d.n_n), .m0 = mn % d.n_m * d.mb, .n0 = mn / d.n_m * d.nbp * 16 };
    t.m1 = lm_min64(t.m0 + d.mb, g->M); t.n1 = lm_min64(t.n0 + d.nbp * 16, g->N); t.np = lm_ceil_div(t.n1 - t.n0, 16);
    const int64_t whole = (t.n1 - t.n0) / 16, gs = kc_pack * MR + 16;                   /* groups of rows of a packed A */
    const bool b_here = lm_gemm_b_here(g), direct = a_direct(g);
    const bool few = !g->apack && (g->M <= 16 || t.np < PW);                             /* A is read where it lies: not worth packing */
    const int64_t kc_max = b_here && few && direct && t.m1 - t.m0 <= MR ? lm_max64(g->K, 1) : kc_pack;
    float *bp = scratch, *ap = bp + (kc_pack + 1) * 16 * lm_min64(lm_ceil_div(g->N, 16), LM_GEMM_NBP),
          *ap2 = ap + LM_GEMM_STRIP * (kc_pack + 16), *tmp = ap2 + LM_GEMM_STRIP * (kc_pack + 16), bias[LM_GEMM_NBP * 16];
    t.c = g->c + t.batch * g->c_bs;
    if (g->bias) { fetch(bias, g->bias, g->bias_dtype, t.n0, t.n1 - t.n0, false); t.bias = bias; }
    if (g->M <= LM_FEW_ROWS && lm_bf16_b_here(g) && g->a.row) { LM_ISA_NAME(lm_few_tile)(g, t.batch, t.n0, t.n1, t.bias, scratch); return; }
    for (t.k0 = 0; t.k0 < g->K || t.k0 == 0; t.k0 += kc_max) {
        const int64_t kc = t.kc = lm_min64(kc_max, g->K - t.k0), k0 = t.k0;
        ukr_args u = {
            .k = kc, .b = bp, /* panels a line apart from a power of two */ .b_ps = kc * 16 + 16, .c_ms = g->c_rs, .load = k0 > 0 || g->acc
        };
        if (b_here) { u.b = (const float *)g->b.p + (t.n0 / 16 * g->b.cols + k0) * 16; u.b_ps = g->b.cols * 16; }
        else {
            int64_t p = 0;
            if (plain_columns(g)) pack_rows(bp, (const float *)g->b.p + t.batch * g->b.bs + t.n0 + k0 * g->b.ks, g->b.ks, kc, p = whole, u.b_ps);
            for (; p < t.np; p++)
                pack_panel(bp + p * u.b_ps, &g->b, t.batch, t.n0 + p * 16, (int)lm_min64(16, t.n1 - t.n0 - p * 16), k0, kc, g->round, tmp);
        }
        /* Rows stored as columns are packed a strip at a time, to read whole lines, and the next strip piece by piece between the sweeps of
         * this one: the lines of a piece, a power of two apart at worst, share few sets of the caches, which would lose those of a strip. */
        const bool columns = !g->apack && !g->a.row;
        const int64_t strip = columns ? PACK_M : MR, piece = lm_round_up(lm_ceil_div(kc, PACK_M / MR), 4);
        const int64_t at = t.batch * g->a.bs + k0 * g->a.ks;                              /* of the columns */
        if (columns) pack_columns(ap, &g->a, at + t.m0, lm_min64(strip, t.m1 - t.m0), kc, gs, g->round);
        for (int64_t s = t.m0; s < t.m1; s += strip) {
            const int64_t s1 = lm_min64(s + strip, t.m1), more = columns ? lm_min64(strip, t.m1 - s1) : 0;
            u.a_ms = 1; u.a_ks = MR;
            for (int64_t m = s; m < s1; m += MR) {
                const int r = (int)lm_min64(MR, s1 - m);
                next_t next = { 0 };
                u.a = g->apack ? group_of(&t, m) : ap + (m - s) / MR * gs;
                if (g->apack) { if (m + MR < t.m1) next = (next_t){ group_of(&t, m + MR), kc, 0 }; }
                else if (g->a.row) {
                    if (!direct)
                        for (int i = 0; i < r; i++)
                            fetch(tmp + i * kc, g->a.p, g->a.dtype, t.batch * g->a.bs + (m + i) * g->a.os + k0, kc, g->round);
                    const float *rows = direct ? row_of(&t, m) : tmp;
                    const int64_t rs = direct ? g->a.os : kc;
                    if (few) { u.a = rows; u.a_ms = rs; u.a_ks = 1; }
                    else pack_group(ap, rows, rs, r, kc);
                    if (direct && m + 2 * MR <= t.m1) next = (next_t){ row_of(&t, m + MR), rs, 0 };
                } else if (g->a.dtype == LM_F32) {
                    const int64_t j = (m - s) / MR + 1, p0 = j * piece < kc && m + MR < s1 ? j * piece : 0, s2 = p0 ? s1 : s1 + strip;
                    if (s2 + strip <= t.m1) next = (next_t){ (const float *)g->a.p + at + s2 + p0 * g->a.ks, g->a.ks, lm_min64(piece, kc - p0) };
                }
                sweep(&t, &u, m, r, &next);
                const int64_t p0 = (m - s) / MR * piece;
                if (more > 0 && p0 < kc)
                    pack_columns(ap2 + p0 * MR, &g->a, at + s1 + p0 * g->a.ks, more, lm_min64(piece, kc - p0), gs, g->round);
            }
            if (columns) { float *p = ap; ap = ap2; ap2 = p; }
        }
    }
}

size_t LM_ISA_NAME(lm_gemm_f32_pack_a)(const lm_gemm *g, void *apack, void *scratch) {
    lm_gemm p = *g;
    p.apack = apack;
    for (int64_t i = 0; i < a_packs(&p); i++) a_pack(&p, i, scratch);
    return a_bytes(&p);
}

/* ---- kernel rows ------------------------------------------------------------------------------------------------------------- */
/* What is packed once for all tiles: an A of bf16 or to be rounded; f32 is packed by each tile, out of lines that were prefetched. B is packed
 * by each tile too: panels that two cores read at once are slower to read than to pack again (2048 cubed, two threads: 206 against 251
 * GFLOP/s; copies of shared panels 233). A dimension may shrink at run time, so the room is that of any smaller problem: M is cut at its limit. */
enum { A_ROWS = 16384 };
static bool wants_apack(const lm_gemm *g) { return g->M > 16 && g->M <= A_ROWS && (g->a.dtype != LM_F32 || g->round); }
static size_t f32_shared(const lm_call *c) {
    lm_gemm g; lm_gemm_of(c, &g);
    g.M = lm_min64(g.M, A_ROWS);
    return wants_apack(&g) ? (a_bytes(&g) + 63) / 64 * 64 : 0;
}
static lm_gemm problem(const lm_call *c) {
    lm_gemm g; lm_gemm_of(c, &g);
    if (wants_apack(&g)) g.apack = c->shared;
    return g;
}
static int64_t f32_packs(const lm_call *c) { const lm_gemm g = problem(c); return a_packs(&g); }
static lm_err f32_pack(const lm_call *c, int64_t i, void *scratch) { const lm_gemm g = problem(c); a_pack(&g, i, scratch); return LM_OK; }
static int64_t f32_tiles(const lm_call *c) { lm_gemm g = problem(c); return lm_gemm_f32_grid(&g).tiles; }
static lm_err f32_run(const lm_call *c, int64_t tile, void *scratch) {
    lm_gemm g = problem(c);
    LM_ISA_NAME(lm_gemm_f32_tile)(&g, tile, scratch);
    return LM_OK;
}
static size_t f32_bytes(const lm_call *c) {
    lm_gemm g;
    lm_gemm_of(c, &g);
    const size_t n = lm_gemm_f32_scratch(&g);
    return n > MR * TMP_K * 4 ? n : MR * TMP_K * 4;
}
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define ORDER "fma.k"
#else
#define ORDER "mad.k"
#endif
const lm_kernel LM_ISA_NAME(lm_k_matmul)[] = {
    { .name = "matmul.f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = ORDER, .accepts = lm_gemm_accepts_f32, .shared_bytes = f32_shared,
      .thread_bytes = f32_bytes, .n_phase = 2, .phase = { { f32_packs, f32_pack }, { f32_tiles, f32_run } } },
    { .name = "matmul.bf16." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = "bf16." ORDER, .accepts = lm_gemm_accepts_bf16, .shared_bytes = f32_shared,
      .thread_bytes = f32_bytes, .n_phase = 2, .phase = { { f32_packs, f32_pack }, { f32_tiles, f32_run } } },
    { 0 }
};
