/* gemm_simd.c — the f32 product for each vector instruction set: packing, micro-kernels, one tile of C.
 *
 * A micro-kernel holds R rows x P panels of C in registers; per k it loads P panels of B, broadcasts R numbers of A and does R*P FMAs:
 *     AVX-512  8 x 3 panels (8x48): 24 accumulators, 11 loads and 24 FMAs per k      AVX2  6 x 1 panel (6x16): 12 accumulators in 16 registers
 * One row (decode) takes 8 panels at once: 8 chains hide the latency of the FMA, and 8 sequential streams feed the prefetcher. */
#include "op/simd.h"
#include "op/matmul/gemm.h"

#if defined(LM_ISA_IS_avx512)
#include <immintrin.h>
enum { W = 16, MR = 8, PM = 8 };
#define KERNELS(X) X(1,1) X(1,2) X(1,3) X(1,4) X(1,5) X(1,6) X(1,7) X(1,8) X(2,1) X(2,2) X(2,3) X(2,4) X(2,5) X(2,6) X(2,7) X(2,8) \
    X(3,1) X(3,2) X(3,3) X(3,4) X(3,5) X(3,6) X(4,1) X(4,2) X(4,3) X(4,4) X(4,5) X(5,1) X(5,2) X(5,3) X(5,4) X(6,1) X(6,2) X(6,3) X(6,4) \
    X(7,1) X(7,2) X(7,3) X(8,1) X(8,2) X(8,3)
static const int8_t pmax[MR + 1] = { 0, 8, 8, 6, 5, 4, 4, 3, 3 };
#elif defined(LM_ISA_IS_avx2)
#include <immintrin.h>
enum { W = 8, MR = 6, PM = 4 };
#define KERNELS(X) X(1,1) X(1,2) X(1,3) X(1,4) X(2,1) X(2,2) X(2,3) X(3,1) X(3,2) X(4,1) X(5,1) X(6,1)
static const int8_t pmax[MR + 1] = { 0, 4, 3, 2, 1, 1, 1 };
#else
enum { W = 4, MR = 2, PM = 2 };
#define KERNELS(X) X(1,1) X(1,2) X(2,1)
static const int8_t pmax[MR + 1] = { 0, 2, 1 };
#endif
enum { NV = 16 / W, NEAR = 64, FAR = 512 };                 /* prefetch, in floats of a panel: from L2 and from further away */
typedef float vec __attribute__((vector_size(4 * W)));
typedef float vecu __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef uint32_t uvec __attribute__((vector_size(4 * W)));
typedef uint32_t uvecu __attribute__((vector_size(4 * W), aligned(4), may_alias));
#define LD(p) (*(const vecu *)(p))
#define INL static inline __attribute__((always_inline))
/* An FMA by name: contraction is the compiler's choice (gcc -O1 makes none), the order id is a promise. */
INL vec madd(vec a, vec b, vec c) {
#if defined(LM_ISA_IS_avx512)
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(LM_ISA_IS_avx2)
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

/* ---- micro-kernels ------------------------------------------------------------------------------------------------------ */
typedef struct {
    int64_t k; const float *a; int64_t a_ms, a_ks; const float *b; int64_t b_ps, b_ks;
    float *c; int64_t c_ms; const float *bias; int n_last; bool load;
    int ahead; const float *next;                  /* prefetch: distance in B; the block of C that comes after */
} ukr_args;
typedef void ukr_fn(const ukr_args *u);

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
    const int64_t ms = u->a_ms, ks = u->a_ks, ps = u->b_ps, bks = u->b_ks;
    const float *a0 = u->a, *a1 = a0 + 3 * ms, *a2 = a1 + 3 * ms, *b = u->b;
    if (R > 4 && u->next)
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) __builtin_prefetch(u->next + r * u->c_ms + p * 16, 1);
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
            for (int j = 0; j < P * NV; j++) acc[r][j] = madd(x, bv[j], acc[r][j]);
        }
        a0 += ks; a1 += ks; a2 += ks; b += bks;
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

/* ---- packing ---------------------------------------------------------------------------------------------------------------- */
INL float rnd(float x, bool round) { return round ? lm_bf16_to_f32(lm_f32_to_bf16(x)) : x; }

/* n numbers of a float dtype as f32, rounded to bf16 if asked. */
static void fetch(float *restrict d, const void *src, lm_dtype dt, int64_t at, int64_t n, bool round) {
    if (dt == LM_BF16) { const uint16_t *s = (const uint16_t *)src + at; for (int64_t i = 0; i < n; i++) d[i] = lm_bf16_to_f32(s[i]); }
    else { const float *s = (const float *)src + at; for (int64_t i = 0; i < n; i++) d[i] = rnd(s[i], round); }
}

/* dst[k][16] = transpose of 16 rows of k numbers. Rows i, 4+i, 8+i, 12+i share a register, one lane each, so 4x4 transposes inside lanes finish the job. */
static void transpose16(float *restrict d, const float *restrict s, int64_t rs, int64_t n) {
    int64_t k = 0;
#if defined(LM_ISA_IS_avx512)
    for (; k + 4 <= n; k += 4) {
        __m512 r[4];
        for (int i = 0; i < 4; i++) {
            r[i] = _mm512_castps128_ps512(_mm_loadu_ps(s + i * rs + k));                     /* lane j of r[i] is row 4j + i */
            r[i] = _mm512_insertf32x4(r[i], _mm_loadu_ps(s + (4 + i) * rs + k), 1);
            r[i] = _mm512_insertf32x4(r[i], _mm_loadu_ps(s + (i + 8) * rs + k), 2);
            r[i] = _mm512_insertf32x4(r[i], _mm_loadu_ps(s + (i + 12) * rs + k), 3);
        }
        const __m512 a = _mm512_unpacklo_ps(r[0], r[1]), b = _mm512_unpackhi_ps(r[0], r[1]), c = _mm512_unpacklo_ps(r[2], r[3]), e = _mm512_unpackhi_ps(r[2], r[3]);
        const __m512d a0 = _mm512_castps_pd(a), b0 = _mm512_castps_pd(b), c0 = _mm512_castps_pd(c), e0 = _mm512_castps_pd(e);
        _mm512_storeu_pd(d + k * 16, _mm512_unpacklo_pd(a0, c0));
        _mm512_storeu_pd(d + k * 16 + 16, _mm512_unpackhi_pd(a0, c0));
        _mm512_storeu_pd(d + k * 16 + 32, _mm512_unpacklo_pd(b0, e0));
        _mm512_storeu_pd(d + k * 16 + 48, _mm512_unpackhi_pd(b0, e0));
    }
#else
    typedef float v4 __attribute__((vector_size(16)));
    typedef float v4u __attribute__((vector_size(16), aligned(4), may_alias));
    for (; k + 4 <= n; k += 4)
        for (int q = 0; q < 16; q += 4) {
            const float *p = s + q * rs + k;
            const v4 r0 = *(const v4u *)p, r1 = *(const v4u *)(p + rs), r2 = *(const v4u *)(p + 2 * rs), r3 = *(const v4u *)(p + 3 * rs);
            const v4 a = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), b = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
            const v4 c = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), e = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
            *(v4u *)(d + k * 16 + q) = __builtin_shufflevector(a, c, 0, 1, 4, 5);
            *(v4u *)(d + k * 16 + 16 + q) = __builtin_shufflevector(a, c, 2, 3, 6, 7);
            *(v4u *)(d + k * 16 + 32 + q) = __builtin_shufflevector(b, e, 0, 1, 4, 5);
            *(v4u *)(d + k * 16 + 48 + q) = __builtin_shufflevector(b, e, 2, 3, 6, 7);
        }
#endif
    for (; k < n; k++) for (int j = 0; j < 16; j++) d[k * 16 + j] = s[j * rs + k];
}

/* Columns o … o+n-1 (n <= 16), reductions k0 … k0+kc-1 of an operand as a panel dst[kc][16]; missing columns are 0. o is a multiple of 16, k0 of 32. */
static void pack_panel(float *restrict d, const lm_mat *m, int64_t batch, int64_t o, int n, int64_t k0, int64_t kc, bool round, float *tmp) {
    if (m->dtype == LM_QUANT) {
        const lm_quant *q = m->t->quant;
        for (int j = 0; j < 16; j++) {
            if (j >= n) { memset(tmp + j * kc, 0, (size_t)kc * 4); continue; }
            const void *comp[LM_QUANT_MAX_COMP];
            for (int c = 0; c < q->n_comp; c++) comp[c] = (const char *)lm_quant_row(m->t, c, o + j) + k0 / q->block * q->comp[c].block_bytes;
            q->to_float(q, comp, kc, tmp + j * kc);
            if (round) for (int64_t i = 0; i < kc; i++) tmp[j * kc + i] = rnd(tmp[j * kc + i], true);
        }
        transpose16(d, tmp, kc, kc);
    } else if (m->layout == LM_PLAIN && m->row) {
        const int64_t at = batch * m->bs + o * m->os + k0;
        if (m->dtype == LM_F32 && !round && n == 16) { transpose16(d, (const float *)m->p + at, m->os, kc); return; }
        for (int j = 0; j < 16; j++)
            if (j < n) fetch(tmp + j * kc, m->p, m->dtype, at + j * m->os, kc, round);
            else memset(tmp + j * kc, 0, (size_t)kc * 4);
        transpose16(d, tmp, kc, kc);
    } else if (m->layout == LM_PLAIN) {
        const int64_t at = batch * m->bs + o + k0 * m->ks;
        if (n < 16) memset(d, 0, (size_t)kc * 64);
        for (int64_t k = 0; k < kc; k++) fetch(d + k * 16, m->p, m->dtype, at + k * m->ks, n, round);
    } else if (m->layout == LM_PANEL16 && m->row) {
        fetch(d, m->p, LM_F32, (o / 16 * m->cols + k0) * 16, kc * 16, round);
    } else if (m->layout == LM_PANEL16) {                                            /* the stored rows are the reduction: 16 of k lie together */
        for (int64_t k = 0; k < kc; k += 16) {
            const int64_t nk = lm_min64(16, kc - k), at = ((k0 + k) / 16 * m->cols + o) * 16;
            memset(tmp, 0, 256 * 4);
            fetch(tmp, m->p, LM_F32, at, n * 16, round);
            transpose16(d + k * 16, tmp, 16, nk);
        }
    } else if (m->row) {                                                                /* PANEL16X2: pairs of k */
        const uint32_t *s = (const uint32_t *)m->p + (o / 16 * (lm_round_up(m->cols, 32) / 2) + k0 / 2) * 16;
        uint32_t *u = (uint32_t *)d;
        for (int64_t k = 0; k < kc; k += 2, s += 16)
#pragma GCC unroll 4
            for (int v = 0; v < 16; v += W) {
                const uvec x = *(const uvecu *)(s + v);
                *(uvecu *)(u + k * 16 + v) = x << 16;
                if (k + 1 < kc) *(uvecu *)(u + k * 16 + 16 + v) = x & 0xffff0000u;
            }
    } else {                                                                            /* PANEL16X2 whose stored rows are the reduction: pairs of columns */
        uint32_t *u = (uint32_t *)tmp;
        for (int64_t k = 0; k < kc; k += 16) {
            const uint32_t *s = (const uint32_t *)m->p + ((k0 + k) / 16 * (lm_round_up(m->cols, 32) / 2) + o / 2) * 16;
            for (int j = 0; j < 16; j += 2, s += 16)
                for (int i = 0; i < 16; i++) { u[j * 16 + i] = s[i] << 16; u[j * 16 + 16 + i] = s[i] & 0xffff0000u; }
            transpose16(d + k * 16, tmp, 16, lm_min64(16, kc - k));
        }
    }
}

/* Whole panels of a plain f32 operand whose columns lie together: row by row, so that memory is read in long runs. */
static void pack_rows(float *restrict d, const float *restrict s, int64_t ks, int64_t kc, int64_t np, int64_t ps) {
    for (int64_t k = 0; k < kc; k++, s += ks, d += 16)
        for (int64_t p = 0; p < np; p++) lm_v_store(d + p * ps, lm_v_load(s + p * 16));
}
/* Rows m … m+rows-1 of an operand whose rows are columns in memory: groups of MR, [k][MR] each. */
static void pack_columns(float *restrict d, const lm_mat *a, int64_t at, int64_t rows, int64_t kc, int64_t gs, bool round) {
    const int64_t whole = a->dtype == LM_F32 && !round ? rows / MR * MR : 0;
    const float *s = (const float *)a->p + at;
    for (int64_t k = 0; whole && k < kc; k++, s += a->ks)
        for (int64_t m = 0; m < whole; m += MR) memcpy(d + m / MR * gs + k * MR, s + m, MR * 4);
    for (int64_t k = 0; whole < rows && k < kc; k++)
        for (int64_t m = whole; m < rows; m += MR) fetch(d + m / MR * gs + k * MR, a->p, a->dtype, at + m + k * a->ks, lm_min64(MR, rows - m), round);
}
/* One group of MR rows whose numbers lie along k: [k][MR]. */
static void pack_group(float *restrict d, const float *restrict s, int64_t rs, int64_t rows, int64_t kc) {
    typedef float v4 __attribute__((vector_size(16)));
    typedef float v4u __attribute__((vector_size(16), aligned(4), may_alias));
    int64_t k = 0, r0 = 0;
    for (; rows - r0 >= 4 && MR >= 4; r0 += 4)
        for (k = 0; k + 4 <= kc; k += 4) {
            const float *p = s + r0 * rs + k; float *o = d + k * MR + r0;
            const v4 a = *(const v4u *)p, b = *(const v4u *)(p + rs), c = *(const v4u *)(p + 2 * rs), e = *(const v4u *)(p + 3 * rs);
            const v4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const v4 ce0 = __builtin_shufflevector(c, e, 0, 4, 1, 5), ce1 = __builtin_shufflevector(c, e, 2, 6, 3, 7);
            *(v4u *)o = __builtin_shufflevector(ab0, ce0, 0, 1, 4, 5);
            *(v4u *)(o + MR) = __builtin_shufflevector(ab0, ce0, 2, 3, 6, 7);
            *(v4u *)(o + 2 * MR) = __builtin_shufflevector(ab1, ce1, 0, 1, 4, 5);
            *(v4u *)(o + 3 * MR) = __builtin_shufflevector(ab1, ce1, 2, 3, 6, 7);
        }
    for (int64_t i = 0; i < kc; i++) for (int64_t r = i < k ? r0 : 0; r < rows; r++) d[i * MR + r] = s[r * rs + i];
}
/* Work item of packing A for all tiles of C: PACK_M rows, [group][k][MR]. */
enum { PACK_M = LM_GEMM_STRIP / MR * MR, TMP_K = 512 };
static int64_t group_stride(const lm_gemm *g) { return g->K * MR + 16; }
static int64_t a_packs(const lm_gemm *g) { return g->apack ? g->batch * lm_ceil_div(g->M, PACK_M) : 0; }
static size_t a_bytes(const lm_gemm *g) { return (size_t)(g->batch * lm_ceil_div(g->M, MR) * group_stride(g)) * 4; }
static void a_pack(const lm_gemm *g, int64_t i, float *tmp) {
    const int64_t n = lm_ceil_div(g->M, PACK_M), batch = i / n, m0 = i % n * PACK_M, m1 = lm_min64(m0 + PACK_M, g->M), gs = group_stride(g), at = batch * g->a.bs;
    float *d = (float *)g->apack + (batch * lm_ceil_div(g->M, MR) + m0 / MR) * gs;
    if (!g->a.row) { pack_columns(d, &g->a, at + m0, m1 - m0, g->K, gs, g->round); return; }
    for (int64_t m = m0; m < m1; m += MR, d += gs) {
        const int64_t rows = lm_min64(MR, m1 - m);
        if (g->a.dtype == LM_F32 && !g->round) { pack_group(d, (const float *)g->a.p + at + m * g->a.os, g->a.os, rows, g->K); continue; }
        for (int64_t k = 0; k < g->K; k += TMP_K) {
            const int64_t kn = lm_min64(TMP_K, g->K - k);
            for (int64_t r = 0; r < rows; r++) fetch(tmp + r * TMP_K, g->a.p, g->a.dtype, at + (m + r) * g->a.os + k, kn, g->round);
            pack_group(d + k * MR, tmp, TMP_K, rows, kn);
        }
    }
}
size_t LM_ISA_NAME(lm_gemm_f32_pack_a)(const lm_gemm *g, void *apack, void *scratch) {
    lm_gemm p = *g;
    p.apack = apack;
    for (int64_t i = 0; i < a_packs(&p); i++) a_pack(&p, i, scratch);
    return a_bytes(&p);
}
static int64_t panel_stride(const lm_gemm *g) { return g->K * 16 + 16; }             /* panels a line apart from a power of two */
/* Packing B for all tiles: work item i is PACK_P panels of one block of k. */
enum { PACK_P = 6 };
static int64_t b_packs(const lm_gemm *g) {
    return g->bpack ? g->batch * lm_ceil_div(lm_ceil_div(g->N, 16), PACK_P) * lm_ceil_div(g->K, lm_gemm_kc(g)) : 0;
}
static size_t b_bytes(const lm_gemm *g) { return (size_t)(g->batch * lm_ceil_div(g->N, 16) * panel_stride(g)) * 4; }
static bool plain_columns(const lm_gemm *g);
static void b_pack(const lm_gemm *g, int64_t i, float *tmp) {
    const int64_t kc = lm_gemm_kc(g), nk = lm_ceil_div(g->K, kc), np = lm_ceil_div(g->N, 16), n_p = lm_ceil_div(np, PACK_P), ps = panel_stride(g);
    const int64_t k0 = i % nk * kc, kn = lm_min64(kc, g->K - k0), p0 = i / nk % n_p * PACK_P, p1 = lm_min64(p0 + PACK_P, np), batch = i / nk / n_p;
    float *d = (float *)g->bpack + batch * np * ps + k0 * 16;
    int64_t p = p0;
    if (plain_columns(g)) {
        p = lm_max64(p0, lm_min64(p1, g->N / 16));
        pack_rows(d + p0 * ps, (const float *)g->b.p + batch * g->b.bs + p0 * 16 + k0 * g->b.ks, g->b.ks, kn, p - p0, ps);
    }
    for (; p < p1; p++) pack_panel(d + p * ps, &g->b, batch, p * 16, (int)lm_min64(16, g->N - p * 16), k0, kn, g->round, tmp);
}
static bool a_direct(const lm_gemm *g) { return g->a.dtype == LM_F32 && g->a.row && !g->round; }
static bool plain_columns(const lm_gemm *g) { return g->b.layout == LM_PLAIN && g->b.dtype == LM_F32 && !g->b.row && !g->round; }

/* ---- one tile of C ------------------------------------------------------------------------------------------------------------ */
void LM_ISA_NAME(lm_gemm_f32_tile)(const lm_gemm *g, int64_t tile, void *scratch) {
    const lm_gemm_grid t = lm_gemm_f32_grid(g);
    const int64_t batch = tile / (t.n_m * t.n_n), mn = tile % (t.n_m * t.n_n), m0 = mn % t.n_m * t.mb, m1 = lm_min64(m0 + t.mb, g->M);
    const int64_t n0 = mn / t.n_m * t.nbp * 16, n1 = lm_min64(n0 + t.nbp * 16, g->N), np = lm_ceil_div(n1 - n0, 16);
    const bool b_here = lm_gemm_b_here(g);
    const bool b_rows = plain_columns(g);
    const bool a_here = !g->apack && a_direct(g);
    const int64_t kc_pack = lm_gemm_kc(g), kc_max = (b_here || g->bpack) && a_here && m1 - m0 <= MR ? lm_max64(g->K, 1) : kc_pack;
    const int64_t gs = kc_pack * MR + 16;                                          /* groups of rows of a packed A */
    const int last = (int)(n1 - n0 - (np - 1) * 16);
    float *bp = scratch, *ap = bp + (kc_pack + 1) * 16 * lm_min64(lm_ceil_div(g->N, 16), LM_GEMM_NBP), *tmp = ap + LM_GEMM_STRIP * (kc_pack + 16);
    float *c = g->c + batch * g->c_bs, bias[LM_GEMM_NBP * 16];
    if (g->bias) fetch(bias, g->bias, g->bias_dtype, n0, n1 - n0, false);
    if (g->M <= LM_FEW_ROWS && lm_bf16_b_here(g) && g->a.row) { LM_ISA_NAME(lm_few_tile)(g, batch, n0, n1, g->bias ? bias : NULL, scratch); return; }
    for (int64_t k0 = 0; k0 < g->K || k0 == 0; k0 += kc_max) {
        const int64_t kc = lm_min64(kc_max, g->K - k0);
        ukr_args u = { .k = kc, .b = bp, /* panels a line apart from a power of two */ .b_ps = kc * 16 + 16, .b_ks = 16, .c_ms = g->c_rs, .load = k0 > 0 || g->acc };
        if (b_here) { u.b = (const float *)g->b.p + (n0 / 16 * g->b.cols + k0) * 16; u.b_ps = g->b.cols * 16; }
        else if (g->bpack) { u.b_ps = panel_stride(g); u.b = (const float *)g->bpack + (batch * lm_ceil_div(g->N, 16) + n0 / 16) * u.b_ps + k0 * 16; }
        else for (int64_t p = b_rows ? (pack_rows(bp, (const float *)g->b.p + batch * g->b.bs + n0 + k0 * g->b.ks, g->b.ks, kc, (n1 - n0) / 16, u.b_ps), (n1 - n0) / 16) : 0; p < np; p++)
            pack_panel(bp + p * u.b_ps, &g->b, batch, n0 + p * 16, (int)lm_min64(16, n1 - n0 - p * 16), k0, kc, g->round, tmp);
        const float *bb = u.b;
        for (int64_t s = m0; s < m1; s += LM_GEMM_STRIP / MR * MR) {
            const int64_t s1 = lm_min64(s + LM_GEMM_STRIP / MR * MR, m1);
            if (g->apack) { u.a_ms = 1; u.a_ks = MR; }
            else if (a_here) { u.a_ms = g->a.os; u.a_ks = 1; }
            else if (g->a.row) {
                u.a_ms = kc_pack + 16; u.a_ks = 1;
                for (int64_t m = s; m < s1; m++) fetch(ap + (m - s) * u.a_ms, g->a.p, g->a.dtype, batch * g->a.bs + m * g->a.os + k0, kc, g->round);
            } else {
                u.a_ms = 1; u.a_ks = MR;
                pack_columns(ap, &g->a, batch * g->a.bs + s + k0 * g->a.ks, s1 - s, kc, gs, g->round);
            }
            for (int64_t m = s; m < s1; m += MR) {
                const int r = (int)lm_min64(MR, s1 - m);
                u.a = g->apack ? (const float *)g->apack + (batch * lm_ceil_div(g->M, MR) + m / MR) * group_stride(g) + k0 * MR : a_here ? (const float *)g->a.p + batch * g->a.bs + m * g->a.os + k0 : ap + (g->a.row ? (m - s) * u.a_ms : (m - s) / MR * gs);
                for (int64_t p = 0; p < np;) {
                    const int64_t left = np - p, w = left > pmax[r] && left < 2 * pmax[r] ? (left + 1) / 2 : lm_min64(left, pmax[r]);
                    u.b = bb + p * u.b_ps;
                    u.ahead = m == m0 ? FAR : NEAR;
                    u.c = c + m * g->c_rs + n0 + p * 16;
                    u.bias = g->bias && k0 + kc >= g->K ? bias + p * 16 : NULL;
                    u.n_last = p + w == np ? last : 16;
                    u.next = p + w < np ? u.c + w * 16 : m + MR < m1 ? c + (m + MR) * g->c_rs + n0 : NULL;
                    kernels[r][w](&u);
                    p += w;
                }
            }
        }
    }
}

/* ---- kernel rows ------------------------------------------------------------------------------------------------------------- */
/* Rows of plain f32 are broadcast from where they lie. */
/* What is packed once for all tiles: A that cannot be read in place; B where C is too small for tall tiles, which would pack it again and again. Sizes beyond
 * the limits are packed tile by tile. A dimension may shrink at run time, so the room is that of any smaller problem: each dimension is cut at its limit. */
enum { A_ROWS = 16384, B_ROWS = 256 /* least rows of C */, B_COLS = 12288, B_K = 8192, C_MOST = 3 << 20 };
static bool wants_apack(const lm_gemm *g) { return g->M > 16 && g->M <= A_ROWS && !a_direct(g); }
static bool wants_bpack(const lm_gemm *g) { return g->M >= B_ROWS && g->M * g->N < C_MOST && g->N <= B_COLS && g->K <= B_K && !lm_gemm_b_here(g); }
static size_t a_room(const lm_gemm *g) {
    lm_gemm t = *g;
    t.M = lm_min64(g->M, A_ROWS);
    return t.M > 16 && !a_direct(g) ? (a_bytes(&t) + 63) / 64 * 64 : 0;
}
static size_t b_room(const lm_gemm *g) {
    lm_gemm t = *g;
    t.N = lm_min64(g->N, B_COLS); t.K = lm_min64(g->K, B_K);
    return g->M >= B_ROWS && !lm_gemm_b_here(g) ? b_bytes(&t) : 0;
}
static lm_gemm problem(const lm_call *c) {
    lm_gemm g; lm_gemm_of(c, &g);
    if (wants_apack(&g)) g.apack = c->shared;
    if (wants_bpack(&g)) g.bpack = (char *)c->shared + (g.apack ? a_room(&g) : 0);
    return g;
}
static int64_t f32_packs(const lm_call *c) { lm_gemm g = problem(c); return a_packs(&g) + b_packs(&g); }
static lm_err f32_pack(const lm_call *c, int64_t i, void *scratch) {
    lm_gemm g = problem(c);
    const int64_t n = a_packs(&g);
    if (i < n) a_pack(&g, i, scratch); else b_pack(&g, i - n, scratch);
    return LM_OK;
}
static int64_t f32_tiles(const lm_call *c) { lm_gemm g = problem(c); return lm_gemm_f32_grid(&g).tiles; }
static lm_err f32_run(const lm_call *c, int64_t tile, void *scratch) { lm_gemm g = problem(c); LM_ISA_NAME(lm_gemm_f32_tile)(&g, tile, scratch); return LM_OK; }
static size_t f32_shared(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); return a_room(&g) + b_room(&g); }
static size_t f32_bytes(const lm_call *c) { lm_gemm g; lm_gemm_of(c, &g); const size_t n = lm_gemm_f32_scratch(&g); return n > MR * TMP_K * 4 ? n : MR * TMP_K * 4; }
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
