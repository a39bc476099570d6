/* attn_core.h — the block step of the online softmax, for attn, attn_grad and attn_paged alike. Private; include in *_simd.c files only.
 *
 * Keys come in blocks of LM_KV_PAGE = 64, aligned at the start of their document or sequence, so that the additions for one query are the same in
 * training, in prefill chunks of any size and in paged decode. For one query row and head, block after block:
 *
 *   s_j = scale * (chain over d of q_d k_jd)             lanes are keys; K lies as [4][D][16]: element (j, d) at (j/16 * D + d) * 16 + j%16
 *   m'  = max(m, max_j s_j);  p_j = exp(s_j - m');  a = exp(m - m')
 *   l   = l*a + sum_j p_j                                 four vectors pairwise, then ac_sum's tree
 *   o_d = o_d*a, then the chain over visible j of p_j v_jd    lanes are d; V lies as [64][ldv]
 *
 * Keys that a row does not see take no part: their scores are replaced, their V rows are not touched, so stale pages may hold anything. A
 * block of which a row sees nothing leaves the row as it is. The tiles below (MR rows × MG vectors of accumulators in registers) only
 * decide what shares a load: every accumulator lane is a chain of its own, so a row's bits depend on nothing but the row. */
#ifndef LM_ATTN_CORE_H
#define LM_ATTN_CORE_H
#include "op/attn/attn.h"
#include "op/simd.h"
#include "op/lanes.h"
#include "op/rule.h"
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#include <immintrin.h>
#endif
#if defined(LM_ISA_IS_avx512)
enum { AC_MR = 6, AC_MG = 4 };    /* 24 of 32 registers */
#elif defined(LM_ISA_IS_avx2)
enum { AC_MR = 6, AC_MG = 1 };     /* 12 of 16 */
#else
enum { AC_MR = 2, AC_MG = 1 };     /* 8 of 16 xmm */
#endif
#if defined(__FMA__)
#define AC_ORDER(id) id "/fma"
#else
#define AC_ORDER(id) id
#endif
enum { AC_BLK = LM_KV_PAGE, AC_V = 16 };
#define AC_INLINE static inline __attribute__((always_inline))
typedef float ac_v8 __attribute__((vector_size(32)));
typedef float ac_v4 __attribute__((vector_size(16)));
typedef float ac_v8u __attribute__((vector_size(32), aligned(4), may_alias));
typedef float ac_v4u __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint32_t ac_v16w __attribute__((vector_size(64)));

/* Vectors here are as wide as the registers (vn): of wider ones GCC makes a mess in memory. Sixteen lanes are AC_NW of them. */
enum { AC_NW = AC_V / VN, AC_MW = AC_MG * AC_NW, AC_BW = AC_BLK / VN };        /* registers per 16 lanes, per row of a tile, per row of a block */
#define AC_EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)
static inline int64_t ac_pad(int64_t d) { return lm_round_up(d, AC_V); }
/* Bits [lo, hi) of 64: the keys of a block that a row sees. */
AC_INLINE uint64_t ac_bits(int lo, int hi) { return lo >= hi ? 0 : (~UINT64_C(0) >> (64 - (hi - lo))) << lo; }
#if defined(LM_ISA_IS_avx512)
/* What the compiler makes of vector comparisons is twice as long. Same results as the generic forms below, bit for bit. */
AC_INLINE vn ac_pick(uint64_t bits, vn x, vn other) { return (vn)_mm512_mask_mov_ps((__m512)other, (__mmask16)bits, (__m512)x); }
AC_INLINE vn ac_max(vn a, vn b) { return (vn)_mm512_max_ps((__m512)a, (__m512)b); }
#else
AC_INLINE vn ac_pick(uint64_t bits, vn x, vn other) {
    vni lane;
    AC_EACH(i, VN) lane[i] = 1 << i;
    return vn_sel((((int32_t)(bits & 0xffff) - (vni){0}) & lane) != 0, x, other);
}
AC_INLINE vn ac_max(vn a, vn b) { return vn_max(a, b); }
#endif
/* vn_exp, lane for lane; not_above_0 promises that of x (NaN is fine) and saves the upper clamp. */
AC_INLINE vn ac_exp(vn x, bool not_above_0) {
    const vn lo = vn_set(-87.3365447505f), hi = vn_set(88.3762626647f);
#if defined(LM_ISA_IS_avx512)
    vn c = (vn)_mm512_max_ps((__m512)lo, (__m512)x);                 /* NaN passes */
    if (!not_above_0) c = (vn)_mm512_min_ps((__m512)hi, (__m512)c);
#else
    vn c = ac_max(x, lo);
    if (!not_above_0) c = vn_sel(c < hi, c, hi);
#endif
    const vn t = vn_fma(c, vn_set(1.44269504088896341f), vn_set(12582912.0f)), f = t - 12582912.0f;
    const vn p = vn_exp_poly(vn_fma(f, vn_set(2.12194440e-4f), vn_fma(f, vn_set(-0.693359375f), c)));
#if defined(LM_ISA_IS_avx512)
    const __m512 y = _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)x, (__m512)lo, _CMP_NLT_UQ), (__m512)p, (__m512)f);
    return (vn)(not_above_0 ? y : _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask((__m512)x, (__m512)hi, _CMP_GT_OQ), _mm512_set1_ps(INFINITY)));
#else
    vn y = p * (vn)(((vni)t - 0x4b400000 + 127) << 23);
    y = (vn)((vni)y & ~(x < lo));
    if (!not_above_0) y = vn_sel(x > hi, vn_set(INFINITY), y);
    return vn_sel(x != x, x, y);
#endif
}
/* Sixteen lanes in AC_NW registers -> 4, by halves; then one. The sum is a tree: (i, i+8), (i, i+4), (i, i+2), (i, i+1). */
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#if defined(LM_ISA_IS_avx512)
#define AC_HALVES(v) ac_v8 a = __builtin_shufflevector((v)[0], (v)[0], 0, 1, 2, 3, 4, 5, 6, 7), b = __builtin_shufflevector((v)[0], (v)[0], 8, 9, 10, 11, 12, 13, 14, 15)
#else
#define AC_HALVES(v) ac_v8 a = (v)[0], b = (v)[1]
#endif
AC_INLINE float ac_sum(const vn *v) {
    AC_HALVES(v);
    a += b;
    ac_v4 c = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (c[0] + c[2]) + (c[1] + c[3]);
}
AC_INLINE float ac_hmax(const vn *v) {
    AC_HALVES(v);
    a = (ac_v8)_mm256_max_ps((__m256)a, (__m256)b);
    ac_v4 c = (ac_v4)_mm_max_ps((__m128)__builtin_shufflevector(a, a, 0, 1, 2, 3), (__m128)__builtin_shufflevector(a, a, 4, 5, 6, 7));
    float x = c[0] > c[2] ? c[0] : c[2], y = c[1] > c[3] ? c[1] : c[3];
    return x > y ? x : y;
}
#else
AC_INLINE float ac_sum(const vn *v) { vn c = (v[0] + v[2]) + (v[1] + v[3]); return (c[0] + c[2]) + (c[1] + c[3]); }
AC_INLINE float ac_hmax(const vn *v) {
    vn c = ac_max(ac_max(v[0], v[2]), ac_max(v[1], v[3]));
    float x = c[0] > c[2] ? c[0] : c[2], y = c[1] > c[3] ? c[1] : c[3];
    return x > y ? x : y;
}
#endif
static inline v16 ac_round_bf16(v16 v) {
    ac_v16w u = (ac_v16w)v, r = (u + 0x7fffu + ((u >> 16) & 1u)) & 0xffff0000u, nan = (u | 0x400000u) & 0xffff0000u;
#if defined(LM_ISA_IS_avx512)
    return (v16)_mm512_mask_mov_ps((__m512)r, _mm512_cmp_ps_mask((__m512)v, (__m512)v, _CMP_UNORD_Q), (__m512)nan);
#else
    return lm_v_sel(v != v, (v16)nan, (v16)r);
#endif
}

/* ---- micro-kernels: attn_core_simd.c ------------------------------------------------------------------------------------- */
#define ac_nt LM_ISA_NAME(lm_ac_nt)
#define ac_nn LM_ISA_NAME(lm_ac_nn)
#define ac_pv LM_ISA_NAME(lm_ac_pv)
/* s[r][j] = scale * sum_d a[r][d] kt[j/16][d][j%16] for any number of rows, key groups [g0, g1). */
void ac_nt(int rows, int g0, int g1, const float *a, int64_t lda, const float *kt, int64_t D, float scale, float *s);
/* c[r][n] += sum over k in [0, kn) of a[r*ars + k*aks] b[k][n] for any number of rows, nv vectors of 16 wide. */
void ac_nn(int rows, int nv, const float *a, int64_t ars, int64_t aks, const float *b, int64_t ldb, int64_t kn, float *c, int64_t ldc);
/* c[r][n] += sum over j in [lo_r, hi_r) of p[r][j] v[j][n], j ascending for every row; rows ≤ AC_MR. [from, to) is the intersection of the
 * rows' ranges, [least, most) their union; the intersection must not be empty. v is looked at nowhere else than in a row's own range. */
void ac_pv(int rows, int nv, const float *p, const float *v, int64_t ldv, const int *lo, const int *hi, int least, int from, int to, int most,
           float *c, int64_t ldc);

/* ---- packing ----------------------------------------------------------------------------------------------------------- */
/* n rows of D floats -> [n][Dp], pads zero, rounded to bf16 if asked. */
static inline void ac_pack_rows(float *dst, const float *src, int64_t stride, int64_t n, int64_t D, bool bf16) {
    const int64_t Dp = ac_pad(D);
    for (int64_t i = 0; i < n; i++, dst += Dp, src += stride) {
        int64_t d = 0;
        for (; d + AC_V <= D; d += AC_V) { v16 v = lm_v_load(src + d); lm_v_store(dst + d, bf16 ? ac_round_bf16(v) : v); }
        if (d < D) { v16 v = lm_v_loadn(src + d, D - d); lm_v_store(dst + d, bf16 ? ac_round_bf16(v) : v); }
    }
}
/* Rows ld apart, of which those in [j0, j1) are set -> [4][D][16]; lanes of other rows become 0. Groups outside are left alone.
 * Reads whole fours of each row, so D must be a multiple of 4 or the rows padded. */
AC_INLINE ac_v8 ac_two(const float *a, const float *b) {
    return __builtin_shufflevector(*(const ac_v4u *)a, *(const ac_v4u *)b, 0, 1, 2, 3, 4, 5, 6, 7);
}
static inline void ac_interleave(float *kt, const float *rows, int64_t ld, int64_t D, int64_t j0, int64_t j1) {
    for (int64_t j = j0 & ~INT64_C(15); j < lm_round_up(j1, 16); j += 8) {
        float *out = kt + (j >> 4) * D * AC_V + (j & 15);
        if (j < j0 || j + 8 > j1) {                                    /* a piece with rows missing */
            for (int64_t jj = j; jj < j + 8; jj++)
                for (int64_t d = 0; d < D; d++) out[d * AC_V + (jj - j)] = jj >= j0 && jj < j1 ? rows[jj * ld + d] : 0;
            continue;
        }
        const float *in = rows + j * ld;
        for (int64_t d = 0; d < D; d += 4) {                           /* two 4×4 transpositions side by side */
            ac_v8 a = ac_two(in + d, in + 4 * ld + d), b = ac_two(in + ld + d, in + 5 * ld + d);
            ac_v8 c = ac_two(in + 2 * ld + d, in + 6 * ld + d), e = ac_two(in + 3 * ld + d, in + 7 * ld + d);
            ac_v8 ab0 = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13), ab1 = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
            ac_v8 ce0 = __builtin_shufflevector(c, e, 0, 8, 1, 9, 4, 12, 5, 13), ce1 = __builtin_shufflevector(c, e, 2, 10, 3, 11, 6, 14, 7, 15);
            *(ac_v8u *)(out + d * AC_V) = __builtin_shufflevector(ab0, ce0, 0, 1, 8, 9, 4, 5, 12, 13);
            *(ac_v8u *)(out + (d + 1) * AC_V) = __builtin_shufflevector(ab0, ce0, 2, 3, 10, 11, 6, 7, 14, 15);
            if (d + 2 >= D) break;
            *(ac_v8u *)(out + (d + 2) * AC_V) = __builtin_shufflevector(ab1, ce1, 0, 1, 8, 9, 4, 5, 12, 13);
            *(ac_v8u *)(out + (d + 3) * AC_V) = __builtin_shufflevector(ab1, ce1, 2, 3, 10, 11, 6, 7, 14, 15);
        }
    }
}

/* s = cap tanh(s / cap) for n rows, key groups [g0, g1). */
static inline void ac_cap(int n, int g0, int g1, float cap, float *s) {
    for (int r = 0; r < n; r++)
        for (int j = g0 * AC_V; j < g1 * AC_V; j += VN) vn_store(s + r * AC_BLK + j, vn_softcap(vn_load(s + r * AC_BLK + j), cap));
}

/* ---- the step ---------------------------------------------------------------------------------------------------------------- */
typedef struct {                                 /* query rows that walk through key blocks together */
    int64_t D, Dp; float scale, cap; int n;
    float *q, *o, *m, *l;                        /* (n, Dp), (n, Dp), (n), (n) */
    int64_t *lo, *hi;                            /* (n): the keys a row sees, [lo, hi), counted from the document's start */
    float *s;                                    /* (AC_MR, 64) */
} ac_rows;
static inline size_t ac_rows_bytes(int64_t n, int64_t D) {
    return (size_t)(n * 2 * ac_pad(D) + 2 * lm_round_up(n, 16) + AC_MR * AC_BLK) * 4 + (size_t)lm_round_up(n, 8) * 16;
}
static inline char *ac_rows_carve(ac_rows *t, char *at, int64_t n, int64_t D) {
    const int64_t Dp = ac_pad(D), np = lm_round_up(n, 16);
    t->D = D; t->Dp = Dp; t->n = 0;
    t->q = (float *)at; t->o = t->q + n * Dp; t->s = t->o + n * Dp; t->m = t->s + AC_MR * AC_BLK; t->l = t->m + np;
    t->lo = (int64_t *)(t->l + np); t->hi = t->lo + lm_round_up(n, 8);
    return (char *)(t->hi + lm_round_up(n, 8));
}
static inline void ac_rows_reset(ac_rows *t) {
    memset(t->o, 0, (size_t)(t->n * t->Dp) * 4);
    for (int i = 0; i < t->n; i++) { t->m[i] = -INFINITY; t->l[i] = 0; }
}
/* Scores s (n ≤ AC_MR rows) become probabilities; m and l move on; o is scaled. */
static inline void ac_softmax(int n, const int *lo, const int *hi, float *s, float *m, float *l, float *o, int64_t Dp) {
    float now[AC_V], step[AC_V] = {0}, a[AC_V];
    for (int r = 0; r < n; r++) {
        now[r] = m[r];
        if (lo[r] >= hi[r]) continue;
        float *x = s + r * AC_BLK;
        if (hi[r] - lo[r] < AC_BLK) {
            const uint64_t bits = ac_bits(lo[r], hi[r]);
            AC_EACH(w, AC_BW) vn_store(x + w * VN, ac_pick(bits >> (w * VN), vn_load(x + w * VN), vn_set(-INFINITY)));
        }
        vn g[AC_NW];
        AC_EACH(w, AC_NW)
        g[w] = ac_max(ac_max(vn_load(x + w * VN), vn_load(x + 16 + w * VN)),
                      ac_max(vn_load(x + 32 + w * VN), vn_load(x + 48 + w * VN)));
        const float mx = ac_hmax(g);
        now[r] = m[r] > mx ? m[r] : mx;
        step[r] = m[r] - now[r];
    }
    for (int w = 0; w < n; w += VN) vn_store(a + w, ac_exp(vn_load(step + w), true));
    for (int r = 0; r < n; r++) {
        if (lo[r] >= hi[r]) continue;
        float *x = s + r * AC_BLK;
        const vn top = vn_set(now[r]);
        vn sum[AC_NW];
        AC_EACH(w, AC_NW) {
            float *y = x + w * VN;
            const vn p0 = ac_exp(vn_load(y) - top, true), p1 = ac_exp(vn_load(y + 16) - top, true),
                       p2 = ac_exp(vn_load(y + 32) - top, true), p3 = ac_exp(vn_load(y + 48) - top, true);
            vn_store(y, p0); vn_store(y + 16, p1); vn_store(y + 32, p2); vn_store(y + 48, p3);
            sum[w] = (p0 + p1) + (p2 + p3);
        }
        l[r] = l[r] * a[r] + ac_sum(sum);
        m[r] = now[r];
        if (a[r] != 1.0f) for (int64_t d = 0; d < Dp; d += VN) vn_store(o + r * Dp + d, vn_load(o + r * Dp + d) * a[r]);
    }
}
/* One key block, whose first key is number kb of the document, for all rows. Of rows [r, r+n), scores() puts those of key groups [g0, g1) into t->s and
 * values() does what ac_pv does. */
typedef struct ac_page {
    void (*scores)(const struct ac_page *pg, const ac_rows *t, int r, int n, int g0, int g1);
    void (*values)(const struct ac_page *pg, int n, const float *p, const int *lo, const int *hi, int least, int from, int to, int most, float *o, int64_t ldo);
} ac_page;
AC_INLINE void ac_step_of(const ac_rows *t, int64_t kb, const ac_page *pg) {
    for (int r = 0; r < t->n; r += AC_MR) {
        const int n = t->n - r < AC_MR ? t->n - r : AC_MR;
        int lo[AC_MR], hi[AC_MR], from = AC_BLK, to = 0, all_from = 0, all_to = AC_BLK;   /* union and intersection of what the rows see */
        for (int i = 0; i < n; i++) {
            int64_t a = lm_max64(t->lo[r + i] - kb, 0), b = lm_min64(t->hi[r + i] - kb, AC_BLK);
            lo[i] = a > AC_BLK ? AC_BLK : (int)a; hi[i] = b < 0 ? 0 : (int)b;
            if (lo[i] < hi[i]) { if (lo[i] < from) from = lo[i]; if (hi[i] > to) to = hi[i]; }
            if (lo[i] > all_from) all_from = lo[i];
            if (hi[i] < all_to) all_to = hi[i];
        }
        if (from >= to) continue;
        float *o = t->o + r * t->Dp, *s = t->s;
        pg->scores(pg, t, r, n, from / AC_V, (to + AC_V - 1) / AC_V);
        if (t->cap > 0) ac_cap(n, from / AC_V, (to + AC_V - 1) / AC_V, t->cap, s);
        ac_softmax(n, lo, hi, s, t->m + r, t->l + r, o, t->Dp);
        if (all_from >= all_to) {                                      /* nothing in common: row by row */
            for (int i = 0; i < n; i++)
                if (lo[i] < hi[i]) pg->values(pg, 1, s + i * AC_BLK, lo + i, hi + i, lo[i], lo[i], hi[i], hi[i], o + i * t->Dp, t->Dp);
            continue;
        }
        pg->values(pg, n, s, lo, hi, from, all_from, all_to, to, o, t->Dp);
    }
}
/* The same where keys and values lie in f32; v rows are ldv apart and Dp wide. */
typedef struct { ac_page pg; const float *kt, *v; int64_t ldv; int nv; } ac_floats;
static inline void ac_float_scores(const ac_page *pg, const ac_rows *t, int r, int n, int g0, int g1) {
    ac_nt(n, g0, g1, t->q + r * t->Dp, t->Dp, ((const ac_floats *)pg)->kt, t->D, t->scale, t->s);
}
static inline void ac_float_values(const ac_page *pg, int n, const float *p, const int *lo, const int *hi, int least, int from, int to, int most, float *o,
                                   int64_t ldo) {
    const ac_floats *f = (const ac_floats *)pg;
    ac_pv(n, f->nv, p, f->v, f->ldv, lo, hi, least, from, to, most, o, ldo);
}
static inline void ac_step(const ac_rows *t, int64_t kb, const float *kt, const float *v, int64_t ldv) {
    const ac_floats f = { { ac_float_scores, ac_float_values }, kt, v, ldv, (int)(t->Dp / AC_V) };
    ac_step_of(t, kb, &f.pg);
}
/* o/l of row r to y (D floats); a row that saw nothing is 0. Returns lse. */
static inline float ac_finish(const ac_rows *t, int r, float *y) {
    const float l = t->l[r], *o = t->o + r * t->Dp;
    int64_t d = 0;
    if (l == 0) { memset(y, 0, (size_t)t->D * 4); return -INFINITY; }
    for (; d + AC_V <= t->D; d += AC_V) lm_v_store(y + d, lm_v_load(o + d) / l);
    if (d < t->D) lm_v_storen(y + d, lm_v_load(o + d) / l, t->D - d);
    return (float)((double)t->m[r] + log((double)l));
}
/* Query tokens per tile: about 96 rows (tokens × heads of one kv head), a multiple of AC_MR for the usual group sizes; twice that, which
 * halves the packing, where there are tiles enough for many threads. Grows with N. */
static inline int64_t ac_tile_tokens(int64_t n, int64_t n_kv, int64_t heads) {
    const int64_t wide = lm_max64(1, 192 / heads);
    return lm_ceil_div(n, wide) * n_kv >= 64 ? wide : lm_max64(1, 96 / heads);
}
#endif
