/* gemm_pack.h — the f32 product's operands brought into the order its micro-kernels read: B as panels [k][16], A as groups [k][MR].
 *
 * Every storage the product can read (plain f32 and bf16 either way round, panels both ways, any quantized format) becomes one of these
 * two. Packing costs one pass over memory that no multiplication hides, so it reads whole lines and long runs, and asks for lines some 60
 * ahead of use: the hardware's prefetcher does not follow short runs from page to page (B of a 3072-wide matrix, 384 columns at a time:
 * 2.0 GB/s without, 5.0 with, Cascade Lake). Included by gemm_simd.c alone, for one instruction set at a time.
 *
 * Lifetime: nothing is kept.  Threads: pure but for the destination.  Errors: none; shapes were checked by the op. */
#ifndef LM_GEMM_PACK_H
#define LM_GEMM_PACK_H
#include "op/simd.h"
#include "op/lanes.h"
#include "op/matmul/gemm.h"
#if defined(LM_ISA_IS_avx512)
enum { W = VN, MR = 8 };                          /* floats of a vector; rows of a group */
#elif defined(LM_ISA_IS_avx2)
enum { W = VN, MR = 6 };
#else
enum { W = VN, MR = 2 };
#endif
#define LM_GEMM_INL LM_INL
LM_GEMM_INL float rnd(float x, bool round) { return round ? lm_bf16_to_f32(lm_f32_to_bf16(x)) : x; }

/* n numbers of a float dtype as f32, rounded to bf16 if asked. */
static inline void fetch(float *restrict d, const void *src, lm_dtype dt, int64_t at, int64_t n, bool round) {
    if (dt == LM_BF16) { const uint16_t *s = (const uint16_t *)src + at; for (int64_t i = 0; i < n; i++) d[i] = lm_bf16_to_f32(s[i]); }
    else { const float *s = (const float *)src + at; for (int64_t i = 0; i < n; i++) d[i] = rnd(s[i], round); }
}

typedef uint32_t uvec __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef float v4 __attribute__((vector_size(16)));
typedef float v4u __attribute__((vector_size(16), aligned(4), may_alias));
/* o[j*os …] = column j of four rows, j < 4. */
LM_GEMM_INL void transpose4(float *o, int64_t os, const float *p, int64_t rs) {
    const v4 a = *(const v4u *)p, b = *(const v4u *)(p + rs), c = *(const v4u *)(p + 2 * rs), e = *(const v4u *)(p + 3 * rs);
    const v4 ab0 = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab1 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const v4 ce0 = __builtin_shufflevector(c, e, 0, 4, 1, 5), ce1 = __builtin_shufflevector(c, e, 2, 6, 3, 7);
    *(v4u *)o = __builtin_shufflevector(ab0, ce0, 0, 1, 4, 5);
    *(v4u *)(o + os) = __builtin_shufflevector(ab0, ce0, 2, 3, 6, 7);
    *(v4u *)(o + 2 * os) = __builtin_shufflevector(ab1, ce1, 0, 1, 4, 5);
    *(v4u *)(o + 3 * os) = __builtin_shufflevector(ab1, ce1, 2, 3, 6, 7);
}
#if defined(LM_ISA_IS_avx512)
/* 4 k of 16 (G = 4) or twice 4 k of 8 rows (G = 2): row G' i + g … of four registers lie one to a 128-bit lane, so 4x4 transposes inside
 * lanes finish the job: lane j of t[i] is column i of the four rows that lane j of r[0 … 3] came from. */
LM_GEMM_INL void lanes4(const __m512 r[4], __m512d t[4]) {
    const __m512d a = _mm512_castps_pd(_mm512_unpacklo_ps(r[0], r[1])), b = _mm512_castps_pd(_mm512_unpackhi_ps(r[0], r[1]));
    const __m512d c = _mm512_castps_pd(_mm512_unpacklo_ps(r[2], r[3])), e = _mm512_castps_pd(_mm512_unpackhi_ps(r[2], r[3]));
    t[0] = _mm512_unpacklo_pd(a, c); t[1] = _mm512_unpackhi_pd(a, c); t[2] = _mm512_unpacklo_pd(b, e); t[3] = _mm512_unpackhi_pd(b, e);
}
LM_GEMM_INL __m512 four(const float *a, const float *b, const float *c, const float *e) {
    return _mm512_insertf32x4(
        _mm512_insertf32x4(_mm512_insertf32x4(_mm512_castps128_ps512(_mm_loadu_ps(a)), _mm_loadu_ps(b), 1), _mm_loadu_ps(c), 2),
        _mm_loadu_ps(e), 3);
}
#endif

/* dst[k][16] = transpose of 16 rows of n numbers. Sixteen k at a time, all of a row's line before the next row: rows a power of two apart
 * share a set of the cache. */
static inline void transpose16(float *restrict d, const float *restrict s, int64_t rs, int64_t n) {
    int64_t k = 0;
    for (; k + 16 <= n; k += 16) {
        for (int r = 0; r < 16; r++) __builtin_prefetch(s + r * rs + k + 64);
#if defined(LM_ISA_IS_avx512)
        __m512 r[4][4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
            for (int q = 0; q < 4; q++) { const float *p = s + i * rs + k + 4 * q; r[q][i] = four(p, p + 4 * rs, p + 8 * rs, p + 12 * rs); }
#pragma GCC unroll 4
        for (int q = 0; q < 4; q++) {
            __m512d t[4]; lanes4(r[q], t);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) _mm512_storeu_pd(d + (k + 4 * q + i) * 16, t[i]);
        }
#else
        for (int r = 0; r < 16; r += 4)
            for (int q = 0; q < 16; q += 4) transpose4(d + (k + q) * 16 + r, 16, s + r * rs + k + q, rs);
#endif
    }
    for (; k + 4 <= n; k += 4) for (int r = 0; r < 16; r += 4) transpose4(d + k * 16 + r, 16, s + r * rs + k, rs);
    for (; k < n; k++) for (int j = 0; j < 16; j++) d[k * 16 + j] = s[j * rs + k];
}

/* Columns o … o+n-1 (n <= 16), reductions k0 … k0+kc-1 of an operand as a panel dst[kc][16]; missing columns are 0. o is a multiple of 16,
 * k0 of 32. */
static inline void pack_panel(float *restrict d, const lm_mat *m, int64_t batch, int64_t o, int n, int64_t k0, int64_t kc, bool round, float *tmp) {
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
        /* by vectors: the compiler makes single stores of the plain loop */
        for (int64_t k = 0; k < kc; k += 2, s += 16)
#pragma GCC unroll 4
            for (int v = 0; v < 16; v += W) {
                const uvec x = *(const uvec *)(s + v);
                *(uvec *)(u + k * 16 + v) = x << 16;
                if (k + 1 < kc) *(uvec *)(u + k * 16 + 16 + v) = x & 0xffff0000u;
            }
    } else { /* PANEL16X2 whose stored rows are the reduction: pairs of columns */
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
static inline void pack_rows(float *restrict d, const float *restrict s, int64_t ks, int64_t kc, int64_t np, int64_t ps) {
    for (int64_t k = 0; k < kc; k++, s += ks, d += 16)
        for (int64_t p = 0; p < np; p++) { __builtin_prefetch(s + 3 * ks + p * 16); lm_v_store(d + p * ps, lm_v_load(s + p * 16)); }
}
/* `rows` outer indices of an operand whose columns they are in memory, from element `at`: groups of MR, [k][MR] each, gs apart. Several k at
 * a time fill whole lines. */
static inline void pack_columns(float *restrict d, const lm_mat *a, int64_t at, int64_t rows, int64_t kc, int64_t gs, bool round) {
    const int64_t whole = a->dtype == LM_F32 && !round ? rows / MR * MR : 0, ks = a->ks;
    const float *s = (const float *)a->p + at;
    int64_t k = 0;
#if defined(LM_ISA_IS_avx512)
    for (; whole && k + 2 <= kc; k += 2, s += 2 * ks) {
        int64_t m = 0;
        float *o = d + k * MR;
        for (; m + 16 <= whole; m += 16, o += 2 * gs) {
            const __m512d x = _mm512_loadu_pd(s + m), y = _mm512_loadu_pd(s + ks + m);
            __builtin_prefetch(s + 8 * ks + m); __builtin_prefetch(s + 9 * ks + m);
            _mm512_storeu_pd(o, _mm512_shuffle_f64x2(x, y, 0x44));
            _mm512_storeu_pd(o + gs, _mm512_shuffle_f64x2(x, y, 0xee));
        }
        if (m < whole) { memcpy(o, s + m, MR * 4); memcpy(o + MR, s + ks + m, MR * 4); }
    }
#else
    for (; whole && k + 4 <= kc; k += 4, s += 4 * ks)
        for (int64_t m = 0; m < whole; m += MR) {
            float *o = d + m / MR * gs + k * MR;
            if (m % 16 < MR)
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) __builtin_prefetch(s + (8 + i) * ks + m);
#pragma GCC unroll 4
            for (int i = 0; i < 4; i++) memcpy(o + i * MR, s + i * ks + m, MR * 4);
        }
#endif
    for (; whole && k < kc; k++, s += ks) for (int64_t m = 0; m < whole; m += MR) memcpy(d + m / MR * gs + k * MR, s + m, MR * 4);
    for (k = 0; whole < rows && k < kc; k++)
        for (int64_t m = whole; m < rows; m += MR) fetch(d + m / MR * gs + k * MR, a->p, a->dtype, at + m + k * ks, lm_min64(MR, rows - m), round);
}
/* One group of at most MR rows whose numbers lie along k: [k][MR]. */
static inline void pack_group(float *restrict d, const float *restrict s, int64_t rs, int64_t rows, int64_t kc) {
    int64_t k = 0;
#if defined(LM_ISA_IS_avx512)
    if (rows == MR)
        for (; k + 16 <= kc; k += 16)
#pragma GCC unroll 2
            /* lanes 0, 1 of t: rows 0-3, 4-7 of one k; 2, 3: of the k four on */
            for (int h = 0; h < 16; h += 8) {
                __m512 r[4]; __m512d t[4];
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) { const float *p = s + i * rs + k + h; r[i] = four(p, p + 4 * rs, p + 4, p + 4 * rs + 4); }
                lanes4(r, t);
                float *o = d + (k + h) * MR;
#pragma GCC unroll 4
                for (int i = 0; i < 4; i++) {
                    _mm256_storeu_pd((double *)(o + i * MR), _mm512_castpd512_pd256(t[i]));
                    _mm256_storeu_pd((double *)(o + (4 + i) * MR), _mm512_extractf64x4_pd(t[i], 1));
                }
            }
#endif
    for (; k + 4 <= kc; k += 4) {
        int64_t r = 0;
        const float *p = s + k; float *o = d + k * MR;
        for (; MR >= 4 && r + 4 <= rows; r += 4, p += 4 * rs, o += 4) transpose4(o, MR, p, rs);
        for (; r + 2 <= rows; r += 2, p += 2 * rs, o += 2) {
            const v4 a = *(const v4u *)p, b = *(const v4u *)(p + rs), lo = __builtin_shufflevector(a, b, 0, 4, 1, 5),
                     hi = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            memcpy(o, &lo, 8); memcpy(o + MR, (const char *)&lo + 8, 8); memcpy(o + 2 * MR, &hi, 8); memcpy(o + 3 * MR, (const char *)&hi + 8, 8);
        }
        if (r < rows) for (int i = 0; i < 4; i++) o[i * MR] = p[i];
    }
    for (; k < kc; k++) for (int64_t r = 0; r < rows; r++) d[k * MR + r] = s[r * rs + k];
}

/* ---- packing for all tiles at once: work items of the first phase -------------------------------------------------------------------------- */
/* A: PACK_M rows over all of k, or, where rows are columns in memory, PACK_COLS of them over PACK_K. */
enum { PACK_M = LM_GEMM_STRIP / MR * MR, PACK_COLS = 1024 / (MR * 16) * (MR * 16), PACK_K = 64, TMP_K = 512 };
static inline int64_t group_stride(const lm_gemm *g) { return g->K * MR + 16; }       /* a line apart from a power of two */
static inline size_t a_bytes(const lm_gemm *g) { return (size_t)(g->batch * lm_ceil_div(g->M, MR) * group_stride(g)) * 4; }
static inline bool a_direct(const lm_gemm *g) { return g->a.dtype == LM_F32 && g->a.row && !g->round; }
static inline bool plain_columns(const lm_gemm *g) { return g->b.layout == LM_PLAIN && g->b.dtype == LM_F32 && !g->b.row && !g->round; }

static inline int64_t a_packs(const lm_gemm *g) {
    if (!g->apack) return 0;
    return g->batch * (g->a.row ? lm_ceil_div(g->M, PACK_M) : lm_ceil_div(g->M, PACK_COLS) * lm_ceil_div(g->K, PACK_K));
}
static inline void a_pack(const lm_gemm *g, int64_t i, float *tmp) {
    const int64_t n_k = g->a.row ? 1 : lm_ceil_div(g->K, PACK_K), run = g->a.row ? PACK_M : PACK_COLS, n = lm_ceil_div(g->M, run),
                  gs = group_stride(g);
    const int64_t k0 = i % n_k * PACK_K, batch = i / n_k / n, m0 = i / n_k % n * run, m1 = lm_min64(m0 + run, g->M), at = batch * g->a.bs;
    float *d = (float *)g->apack + (batch * lm_ceil_div(g->M, MR) + m0 / MR) * gs;
    if (!g->a.row) { pack_columns(d + k0 * MR, &g->a, at + m0 + k0 * g->a.ks, m1 - m0, lm_min64(PACK_K, g->K - k0), gs, g->round); return; }
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
#endif
