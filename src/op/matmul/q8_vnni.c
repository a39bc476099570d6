/* q8_vnni.c — integer products with vpdpbusd: per block of 32 of k and row of A, 8 instructions for 16 outputs.
 *
 * Many rows take a stretch of blocks at a time, two panels of which stay in the first-level cache while all rows of A pass; six rows are in
 * registers, so that twelve sums hide the instruction's five cycles. A block costs 96 of them and 36 to turn and add what they give. */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/q8.h"

typedef struct { __m512i q[8]; __m512 d; } block_t;             /* unsigned codes [quad][row][4]; 576 bytes */
enum { ROWS = LM_Q8_ROWS, FEW = 4, AHEAD = 2048 /* bytes of a panel asked for ahead */ };

static inline __m512i flip(__m512i x) { return _mm512_xor_si512(x, _mm512_set1_epi8((char)128)); }
static void from_panel(const lm_q8 *t, int64_t n0, int64_t b0, int64_t b1, block_t *out) {
    const __m512i low = _mm512_set1_epi8(15);
    const char *p = lm_q8_panel(t, n0, b0);
    for (int64_t b = b0; b < b1; b++, out++, p += 16 * t->block) {
        if (t->nibbles)
            for (int i = 0; i < 4; i++) {
                const __m512i x = _mm512_loadu_si512(p + 32 + 64 * i);
                out->q[i] = _mm512_and_si512(x, low);
                out->q[i + 4] = _mm512_and_si512(_mm512_srli_epi16(x, 4), low);
            }
        else for (int i = 0; i < 8; i++) out->q[i] = flip(_mm512_loadu_si512(p + 32 + 64 * i));
        out->d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
    }
}
/* n rows of the sixteen are there. */
static void from_rows(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t b1, block_t *out) {
    static const char none[64];
    const __m128i low = _mm_set1_epi8(15);
    for (int64_t b = b0; b < b1; b++, out++) {
        uint16_t d[16];
        __m256i r[16], s[16];
        for (int j = 0; j < 16; j++) {
            const char *x = j < n ? lm_q8_row(t, n0 + j, b) : none;
            memcpy(&d[j], x, 2);
            if (j < n) _mm_prefetch(x + 8 * t->block, _MM_HINT_T0);
            if (t->nibbles) {
                const __m128i v = _mm_loadu_si128((const __m128i *)(x + 2));
                r[j] = _mm256_set_m128i(_mm_and_si128(_mm_srli_epi16(v, 4), low), _mm_and_si128(v, low));
            } else r[j] = _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(x + 2)), _mm256_set1_epi8((char)128));
        }
        for (int h = 0; h < 16; h += 8) {                        /* 8x8 of quads: lanes hold quads 0-3 and 4-7 */
            for (int j = 0; j < 8; j += 2) {
                s[h + j] = _mm256_unpacklo_epi32(r[h + j], r[h + j + 1]);
                s[h + j + 1] = _mm256_unpackhi_epi32(r[h + j], r[h + j + 1]);
            }
            for (int j = 0; j < 8; j += 4) for (int i = 0; i < 2; i++) {
                    r[h + j + 2 * i] = _mm256_unpacklo_epi64(s[h + j + i], s[h + j + 2 + i]);
                    r[h + j + 2 * i + 1] = _mm256_unpackhi_epi64(s[h + j + i], s[h + j + 2 + i]);
                }
            for (int i = 0; i < 4; i++) {
                s[h + i] = _mm256_permute2x128_si256(r[h + i], r[h + 4 + i], 0x20);
                s[h + 4 + i] = _mm256_permute2x128_si256(r[h + i], r[h + 4 + i], 0x31);
            }
        }
        for (int i = 0; i < 8; i++) out->q[i] = _mm512_inserti64x4(_mm512_castsi256_si512(s[i]), s[8 + i], 1);
        out->d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)d));
    }
}
static void pack(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t b1, block_t *out) {
    if (t->panels) from_panel(t, n0, b0, b1, out); else from_rows(t, n0, n, b0, b1, out);
}
static inline void store(const lm_q8 *t, int64_t m, int64_t n, __mmask16 in, __m512 v, const float *bias) {
    _mm512_mask_storeu_ps(t->c + m * t->c_rs + n, in, bias ? _mm512_add_ps(v, _mm512_loadu_ps(bias)) : v);
}
static inline __attribute__((always_inline)) __m512i quad(const int8_t *q) { int32_t x; memcpy(&x, q, 4); return _mm512_set1_epi32(x); }
/* R rows of A, from the first of a strip on, against P panels over `blocks` blocks from b0 on; w: those of the first panel, then, LM_Q8_KB further, of the
 * second. bias: after the last. */
static inline __attribute__((always_inline)) void rows(const lm_q8 *t, const int R, const int P, int64_t m, int64_t n, int64_t b0, int64_t blocks,
                                                       const block_t *w, const __mmask16 *in, const float *bias) {
    __m512 acc[ROWS][2];
    const int64_t at = lm_q8_at(t, m, b0);
    const int8_t *q = t->q + at * 32; const float *d = t->d + at; const int32_t *start = t->start + at;
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++)
            acc[r][p] = b0 || t->acc ? _mm512_maskz_loadu_ps(in[p], t->c + (m + r) * t->c_rs + n + p * 16) : _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; b++, w++, q += ROWS * 32, d += ROWS, start += ROWS) {
        __m512i s[ROWS][2];
        for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) s[r][p] = _mm512_set1_epi32(start[r]);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            for (int r = 0; r < R; r++) {
                const __m512i x = quad(q + r * 32 + i * 4);
                for (int p = 0; p < P; p++) s[r][p] = _mm512_dpbusd_epi32(s[r][p], w[p * LM_Q8_KB].q[i], x);
            }
        for (int r = 0; r < R; r++)
            for (int p = 0; p < P; p++)
                acc[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(d[r]), w[p * LM_Q8_KB].d), _mm512_cvtepi32_ps(s[r][p]), acc[r][p]);
    }
    for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) store(t, m + r, n + p * 16, in[p], acc[r][p], bias ? bias + p * 16 : NULL);
}
static inline __attribute__((always_inline)) void all_rows(const lm_q8 *t, const int P, int64_t m, int64_t m1, int64_t n, int64_t b0, int64_t blocks,
                                                           const block_t *w, const __mmask16 *in, const float *bias) {
    for (; m + ROWS <= m1; m += ROWS) rows(t, ROWS, P, m, n, b0, blocks, w, in, bias);
    if (m + 4 <= m1) { rows(t, 4, P, m, n, b0, blocks, w, in, bias); m += 4; }
    if (m + 2 <= m1) { rows(t, 2, P, m, n, b0, blocks, w, in, bias); m += 2; }
    if (m < m1) rows(t, 1, P, m, n, b0, blocks, w, in, bias);
}
/* The first R rows of A against one panel as it lies. */
static inline __attribute__((always_inline)) void few(const lm_q8 *t, const int R, const bool nibbles, int64_t n, __mmask16 in, const float *bias) {
    const __m512i low = _mm512_set1_epi8(15);
    const char *p = lm_q8_panel(t, n, 0);
    const int64_t step = nibbles ? 288 : 544;
    const int8_t *q = t->q; const float *da = t->d; const int32_t *start = t->start;
    __m512 acc[FEW];
    for (int r = 0; r < R; r++) acc[r] = t->acc ? _mm512_maskz_loadu_ps(in, t->c + r * t->c_rs + n) : _mm512_setzero_ps();
    for (int64_t b = 0; b < t->nb; b++, p += step, q += ROWS * 32, da += ROWS, start += ROWS) {
        const __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
        __m512i s[FEW], e[FEW];                                            /* two chains */
        for (int64_t i = 0; i < step; i += 64) _mm_prefetch(p + AHEAD + i, _MM_HINT_T0);
        for (int r = 0; r < R; r++) { s[r] = _mm512_set1_epi32(start[r]); e[r] = _mm512_setzero_si512(); }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            const __m512i x = _mm512_loadu_si512(p + 32 + 64 * i);        /* quads i and i + 4 */
            const __m512i w0 = nibbles ? _mm512_and_si512(x, low) : flip(x);
            const __m512i w1 = nibbles ? _mm512_and_si512(_mm512_srli_epi16(x, 4), low) : flip(_mm512_loadu_si512(p + 288 + 64 * i));
            for (int r = 0; r < R; r++) {
                s[r] = _mm512_dpbusd_epi32(s[r], w0, quad(q + r * 32 + 4 * i));
                e[r] = _mm512_dpbusd_epi32(e[r], w1, quad(q + r * 32 + 4 * i + 16));
            }
        }
        for (int r = 0; r < R; r++)
            acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(da[r]), d), _mm512_cvtepi32_ps(_mm512_add_epi32(s[r], e[r])), acc[r]);
    }
    for (int r = 0; r < R; r++) store(t, r, n, in, acc[r], bias);
}
static inline __attribute__((always_inline)) void few_rows(const lm_q8 *t, const bool nibbles, int64_t R, int64_t n, __mmask16 in, const float *bias) {
    if (R == 1) few(t, 1, nibbles, n, in, bias);
    else if (R == 2) few(t, 2, nibbles, n, in, bias);
    else if (R == 3) few(t, 3, nibbles, n, in, bias);
    else few(t, 4, nibbles, n, in, bias);
}
/* lm_q8_row_run, sixteen numbers at a time; the same codes. */
static lm_err row_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    if (t.g.a.dtype != LM_F32) return lm_q8_row_run(c, i, scratch);
    for (int64_t m = 2 * i * ROWS; m < lm_min64(2 * (i + 1) * ROWS, t.M); m++) {
        const float *x = (const float *)t.g.a.p + m * t.g.a.os;
        for (int64_t b = 0; b < t.nb; b++, x += 32) {
            const int64_t to = lm_q8_at(&t, m, b);
            const __m512 u = _mm512_loadu_ps(x), v = _mm512_loadu_ps(x + 16), inf = _mm512_set1_ps(__builtin_inff());
            const __m512 au = _mm512_abs_ps(u), av = _mm512_abs_ps(v);
            const bool finite = (_mm512_cmp_ps_mask(au, inf, _CMP_LT_OQ) & _mm512_cmp_ps_mask(av, inf, _CMP_LT_OQ)) == 0xffff;
            if (!finite) { t.d[to] = __builtin_nanf(""); t.start[to] = 0; memset(t.q + to * 32, 0, 32); continue; }
            const float top = _mm512_reduce_max_ps(_mm512_max_ps(au, av));
            const __m512 scale = _mm512_set1_ps(top > 0 ? 127.0f / top : 0);
            const __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(u, scale)), e = _mm512_cvtps_epi32(_mm512_mul_ps(v, scale));
            t.d[to] = top / 127.0f;
            t.start[to] = (t.nibbles ? -8 : -128) * _mm512_reduce_add_epi32(_mm512_add_epi32(a, e));
            _mm_storeu_si128((__m128i *)(t.q + to * 32), _mm512_cvtepi32_epi8(a));
            _mm_storeu_si128((__m128i *)(t.q + to * 32 + 16), _mm512_cvtepi32_epi8(e));
        }
    }
    return LM_OK;
}
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    block_t *w = scratch;
    int64_t m0, m1, n0, n1;
    lm_q8_tile(&t, i, &m0, &m1, &n0, &n1);
    const bool straight = t.panels && t.M <= FEW && t.nb;
    for (int64_t n = n0; n < n1; n += 32) {
        const int64_t cols = lm_min64(32, n1 - n);
        const uint32_t mask = cols == 32 ? 0xffffffffu : (1u << cols) - 1;
        const __mmask16 in[2] = { (__mmask16)mask, (__mmask16)(mask >> 16) };
        float some[32] = { 0 };
        const float *bias = t.g.bias ? some : NULL;
        for (int64_t j = 0; j < cols && bias; j++) some[j] = lm_q8_bias(&t, n + j);
        for (int64_t p = 0; straight && p < cols; p += 16) {
            if (t.nibbles) few_rows(&t, true, t.M, n + p, in[p / 16], bias ? bias + p : NULL);
            else few_rows(&t, false, t.M, n + p, in[p / 16], bias ? bias + p : NULL);
        }
        if (straight) continue;
        for (int64_t b = 0, end; b < lm_max64(t.nb, 1); b = end) {         /* C is stored and loaded between stretches, which is exact */
            end = lm_min64(b + LM_Q8_KB, lm_max64(t.nb, 1));
            const int64_t blocks = lm_min64(end, t.nb) - b;
            const float *last = end >= t.nb ? bias : NULL;
            pack(&t, n, lm_min64(16, cols), b, b + blocks, w);
            if (cols > 16) pack(&t, n + 16, cols - 16, b, b + blocks, w + LM_Q8_KB);
            if (cols > 16) all_rows(&t, 2, m0, m1, n, b, blocks, w, in, last); else all_rows(&t, 1, m0, m1, n, b, blocks, w, in, last);
        }
    }
    return LM_OK;
}
const lm_kernel lm_k_matmul_q8_vnni[] = { { .name = "matmul.q8.vnni",
                                            .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_VNNI,
                                            .order = "q8.k32",
                                            .accepts = lm_q8_accepts,
                                            .shared_bytes = lm_q8_shared,
                                            .thread_bytes = lm_q8_scratch,
                                            .n_phase = 2,
                                            .phase = { { lm_q8_row_tiles, row_run }, { lm_q8_tiles, run } } },
                                          { 0 } };
