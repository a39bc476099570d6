/* gemm_pack_avx512bf16.c — operands of the bf16 products: any storage into 1 KiB blocks of 16 outer by 32 of k.
 *
 * A block is 16 registers, either one per outer index (32 of k: what A wants) or one per pair of k (16 outer: what B wants). Each storage
 * gives one of the two directly; if it is the other one, a 16x16 transpose of 32-bit pairs (64 shuffles for 512 numbers). */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/gemm.h"

enum { PACK_A = 64, PACK_B = 4 };                     /* rows of A, panels of B in a work item */

static inline __m512i to_bf16(__m512 lo, __m512 hi) { return (__m512i)_mm512_cvtne2ps_pbh(hi, lo); }
/* (a0 … a15, b0 … b15) -> (a0, b0, a1, b1, …) */
static inline __m512i zip(__m512i v) {
    const __m512i at = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18,
                                        2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(at, v);
}
/* 16x16 of 32 bits in place. */
static inline __attribute__((always_inline)) void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) { t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]); t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]); }
    for (int i = 0; i < 16; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
            r[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
        }
    for (int i = 0; i < 4; i++) {                       /* lane l of r[4q + i] is columns 4l + i of rows 4q … 4q+3 */
        t[i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0x88); t[4 + i] = _mm512_shuffle_i32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0x88); t[12 + i] = _mm512_shuffle_i32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88); r[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        r[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88); r[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

void lm_bf16_transpose(void *r) { transpose(r); }

/* One number of any storage as f32: the edges. */
static float at(const lm_mat *m, int64_t batch, int64_t o, int64_t k) {
    const int64_t r = m->row ? o : k, c = m->row ? k : o;
    switch (m->layout) {
    case LM_PANEL16: return ((const float *)m->p)[(r / 16 * m->cols + c) * 16 + r % 16];
    case LM_PANEL16X2: return lm_bf16_to_f32(((const uint16_t *)m->p)[(r / 16 * (lm_round_up(m->cols, 32) / 2) + c / 2) * 32 + r % 16 * 2 + c % 2]);
    default: break;
    }
    const int64_t i = batch * m->bs + o * m->os + k * m->ks;
    return m->dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)m->p)[i]) : ((const float *)m->p)[i];
}
static void quant_rows(const lm_mat *m, int64_t o, int64_t n, int64_t k, int64_t K, float *tmp) {
    const lm_quant *q = m->t->quant;
    const int64_t lo = k / q->block * q->block;
    float whole[LM_GEMM_KC];
    memset(tmp, 0, 16 * 32 * 4);
    for (int64_t j = 0; j < n && k < K; j++) {
        const void *comp[LM_QUANT_MAX_COMP];
        for (int c = 0; c < q->n_comp; c++) comp[c] = (const char *)lm_quant_row(m->t, c, o + j) + lo / q->block * q->comp[c].block_bytes;
        q->to_float(q, comp, lm_min64(lm_round_up(k + 32 - lo, q->block), K - lo), whole);
        memcpy(tmp + j * 32, whole + (k - lo), (size_t)lm_min64(32, K - k) * 4);
    }
}

void lm_bf16_block(const lm_mat *m, int64_t batch, int64_t o, int64_t n, int64_t k, int64_t K, bool as_a, int rows, void *dst, float *tmp) {
    __m512i r[16];
    bool per_outer = true;
    if (m->dtype == LM_QUANT || n < 16 || k + 32 > K) {
        if (m->dtype == LM_QUANT) quant_rows(m, o, n, k, K, tmp);
        else if (m->layout == LM_PLAIN && m->row && k + 32 <= K) {                     /* few rows */
            memset(tmp, 0, 16 * 32 * 4);
            for (int64_t j = 0; j < n; j++)
                if (m->dtype == LM_F32) memcpy(tmp + j * 32, (const float *)m->p + batch * m->bs + (o + j) * m->os + k, 128);
                else
                    for (int i = 0; i < 32; i++) tmp[j * 32 + i] = at(m, batch, o + j, k + i);
        } else
            for (int64_t j = 0; j < 16; j++)
                for (int64_t i = 0; i < 32; i++) tmp[j * 32 + i] = j < n && k + i < K ? at(m, batch, o + j, k + i) : 0;
        for (int j = 0; j < 16; j++) r[j] = to_bf16(_mm512_loadu_ps(tmp + j * 32), _mm512_loadu_ps(tmp + j * 32 + 16));
    } else if (m->layout == LM_PLAIN && m->row) {
        const int64_t i = batch * m->bs + o * m->os + k;
        if (m->dtype == LM_F32)
            for (int j = 0; j < 16; j++) {
                const float *s = (const float *)m->p + i + j * m->os;
                r[j] = to_bf16(_mm512_loadu_ps(s), _mm512_loadu_ps(s + 16));
            }
        else
            for (int j = 0; j < 16; j++) r[j] = _mm512_loadu_si512((const uint16_t *)m->p + i + j * m->os);
    } else if (m->layout == LM_PLAIN) {
        const int64_t i = batch * m->bs + o + k * m->ks;
        per_outer = false;
        if (m->dtype == LM_F32)
            for (int j = 0; j < 16; j++) {
                const float *s = (const float *)m->p + i + 2 * j * m->ks;
                r[j] = zip(to_bf16(_mm512_loadu_ps(s), _mm512_loadu_ps(s + m->ks)));
            }
        else
            for (int j = 0; j < 16; j++) {
                const uint16_t *s = (const uint16_t *)m->p + i + 2 * j * m->ks;
                r[j] = zip(_mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)s)),
                                              _mm256_loadu_si256((const __m256i *)(s + m->ks)), 1));
            }
    } else if (m->layout == LM_PANEL16 && m->row) {
        const float *s = (const float *)m->p + (o / 16 * m->cols + k) * 16;
        per_outer = false;
        for (int j = 0; j < 16; j++, s += 32) r[j] = zip(to_bf16(_mm512_loadu_ps(s), _mm512_loadu_ps(s + 16)));
    } else if (m->layout == LM_PANEL16) {
        const float *s = (const float *)m->p + (k / 16 * m->cols + o) * 16;
        for (int j = 0; j < 16; j++, s += 16) r[j] = to_bf16(_mm512_loadu_ps(s), _mm512_loadu_ps(s + m->cols * 16));
    } else {
        const int64_t half = lm_round_up(m->cols, 32) / 2;
        const uint32_t *s = (const uint32_t *)m->p + (m->row ? o / 16 * half + k / 2 : k / 16 * half + o / 2) * 16;
        if (m->row) { per_outer = false; for (int j = 0; j < 16; j++, s += 16) r[j] = _mm512_loadu_si512(s); }
        else for (int j = 0; j < 16; j += 2, s += 16) {                              /* pairs of outer indices, 16 and 16 of k */
            const __m512i a = _mm512_loadu_si512(s), b = _mm512_loadu_si512(s + half * 16), low = _mm512_set1_epi32(0xffff);
            const __m512i e = _mm512_or_si512(_mm512_and_si512(a, low), _mm512_slli_epi32(b, 16)),
                          f = _mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_andnot_si512(low, b));
            const __m512i unzip = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, 30, 28, 26, 24, 22, 20, 18,
                                                   16, 14, 12, 10, 8, 6, 4, 2, 0);
            r[j] = _mm512_permutexvar_epi16(unzip, e); r[j + 1] = _mm512_permutexvar_epi16(unzip, f);
        }
    }
    if (per_outer != as_a) transpose(r);
    for (int j = 0; j < rows; j++) _mm512_storeu_si512((char *)dst + j * 64, r[j]);
}

/* ---- packing for all tiles ----------------------------------------------------------------------------------------------------------- */
static int64_t a_items(const lm_gemm *g) { return g->apack ? g->batch * lm_ceil_div(g->M, PACK_A) : 0; }
static int64_t b_items(const lm_gemm *g) { return g->bpack ? g->batch * lm_ceil_div(lm_ceil_div(g->N, 16), PACK_B) : 0; }
int64_t lm_bf16_packs(const lm_gemm *g) { return a_items(g) + b_items(g); }
void lm_bf16_pack(const lm_gemm *g, int64_t i, void *scratch) {
    const bool is_a = i < a_items(g);
    const lm_mat *m = is_a ? &g->a : &g->b;
    const int64_t O = is_a ? g->M : g->N, groups = lm_ceil_div(O, 16), each = is_a ? PACK_A / 16 : PACK_B, n = lm_ceil_div(groups, each),
                  nk = lm_ceil_div(g->K, 32);
    if (!is_a) i -= a_items(g);
    const int64_t batch = i / n, q0 = i % n * each, q1 = lm_min64(q0 + each, groups);
    char *d = (char *)(is_a ? g->apack : g->bpack) + batch * groups * nk * 1024;
    if (m->row && m->layout == LM_PLAIN) {             /* along the rows of memory, else across them */
        for (int64_t q = q0; q < q1; q++)
            for (int64_t k = 0; k < nk; k++)
                lm_bf16_block(m, batch, q * 16, lm_min64(16, O - q * 16), k * 32, g->K, is_a, 16, d + (q * nk + k) * 1024, scratch);
    } else
        for (int64_t k = 0; k < nk; k++)
            for (int64_t q = q0; q < q1; q++)
                lm_bf16_block(m, batch, q * 16, lm_min64(16, O - q * 16), k * 32, g->K, is_a, 16, d + (q * nk + k) * 1024, scratch);
}
