/* q8_vnni.c — integer products with vpdpbusd: per block of 32 of k and row of A, 8 instructions for 16 outputs.
 *
 * vpdpbusd wants one unsigned side. Many rows: A's codes are taken + 128, and each sum starts at -128 * (sum of the weight codes). A few rows against
 * panels as they lie: 8-bit weights the same way; nibbles are themselves unsigned, and sums start at -8 * (sum of A's codes). All are the exact dot.
 * Many rows take a stretch of blocks at a time, two panels of which stay in the first-level cache while all rows of A pass; six rows are in
 * registers, so that twelve sums hide the instruction's five cycles. */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/q8.h"

typedef struct { __m512i q[8], start; __m512 d; } block_t;      /* 640 bytes */
enum { ROWS = 6, FEW = 4, AHEAD = 2048 /* bytes of a panel asked for ahead */ };

static inline void close_block(block_t *o, __m512 d) {
    const __m512i ones = _mm512_set1_epi8(1);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < 8; i++) sum = _mm512_dpbusd_epi32(sum, ones, o->q[i]);
    o->start = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), sum), 7);
    o->d = d;
}
static void from_panel(const lm_q8 *t, int64_t n0, int64_t b0, int64_t b1, block_t *out) {
    const __m512i low = _mm512_set1_epi8(15), eight = _mm512_set1_epi8(8);
    const char *p = lm_q8_panel(t, n0, b0);
    for (int64_t b = b0; b < b1; b++, out++, p += 16 * t->block) {
        if (t->nibbles)
            for (int i = 0; i < 4; i++) {
                const __m512i x = _mm512_loadu_si512(p + 32 + 64 * i);
                out->q[i] = _mm512_sub_epi8(_mm512_and_si512(x, low), eight);
                out->q[i + 4] = _mm512_sub_epi8(_mm512_and_si512(_mm512_srli_epi16(x, 4), low), eight);
            }
        else for (int i = 0; i < 8; i++) out->q[i] = _mm512_loadu_si512(p + 32 + 64 * i);
        close_block(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)));
    }
}
/* n rows of the sixteen are there. */
static void from_rows(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t b1, block_t *out) {
    static const char none[64];
    const __m128i low = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    for (int64_t b = b0; b < b1; b++, out++) {
        uint16_t d[16];
        __m256i r[16], s[16];
        for (int j = 0; j < 16; j++) {
            const char *x = j < n ? lm_q8_row(t, n0 + j, b) : none;
            memcpy(&d[j], x, 2);
            if (j < n) _mm_prefetch(x + 8 * t->block, _MM_HINT_T0);
            if (t->nibbles) {
                const __m128i v = _mm_loadu_si128((const __m128i *)(x + 2));
                r[j] = _mm256_set_m128i(_mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(v, 4), low), eight), _mm_sub_epi8(_mm_and_si128(v, low), eight));
            } else r[j] = _mm256_loadu_si256((const __m256i *)(x + 2));
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
        close_block(out, _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)d)));
    }
}
static void pack(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t b1, block_t *out) {
    if (t->panels) from_panel(t, n0, b0, b1, out); else from_rows(t, n0, n, b0, b1, out);
}
static inline void store(const lm_q8 *t, int64_t m, int64_t n, __mmask16 in, __m512 v, const float *bias) {
    _mm512_mask_storeu_ps(t->c + m * t->c_rs + n, in, bias ? _mm512_add_ps(v, _mm512_loadu_ps(bias)) : v);
}
/* R rows of A against P panels over `blocks` blocks from b0 on; w: those of the first panel, then, LM_Q8_KB further, of the second. bias: after the last. */
static inline __attribute__((always_inline)) void rows(const lm_q8 *t, const int R, const int P, int64_t m, int64_t n, int64_t b0, int64_t blocks,
                                                       const block_t *w, const __mmask16 *in, const float *bias) {
    __m512 acc[ROWS][2];
    const uint8_t *q = t->q + m * t->K + b0 * 32; const float *d = t->d + m * t->nb + b0;
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++)
            acc[r][p] = b0 || t->acc ? _mm512_maskz_loadu_ps(in[p], t->c + (m + r) * t->c_rs + n + p * 16) : _mm512_setzero_ps();
    for (int64_t b = 0; b < blocks; b++, w++, q += 32, d++) {
        __m512i s[ROWS][2];
        for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) s[r][p] = w[p * LM_Q8_KB].start;
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            for (int r = 0; r < R; r++) {
                int32_t x; memcpy(&x, q + r * t->K + i * 4, 4);
                const __m512i xv = _mm512_set1_epi32(x);
                for (int p = 0; p < P; p++) s[r][p] = _mm512_dpbusd_epi32(s[r][p], xv, w[p * LM_Q8_KB].q[i]);
            }
        for (int r = 0; r < R; r++)
            for (int p = 0; p < P; p++)
                acc[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(d[r * t->nb]), w[p * LM_Q8_KB].d), _mm512_cvtepi32_ps(s[r][p]), acc[r][p]);
    }
    for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) store(t, m + r, n + p * 16, in[p], acc[r][p], bias ? bias + p * 16 : NULL);
}
static inline __attribute__((always_inline)) void all_rows(const lm_q8 *t, const int P, int64_t m, int64_t m1, int64_t n, int64_t b0, int64_t blocks,
                                                           const block_t *w, const __mmask16 *in, const float *bias) {
    for (; m + ROWS <= m1; m += ROWS) rows(t, ROWS, P, m, n, b0, blocks, w, in, bias);
    if (m + 3 <= m1) { rows(t, 3, P, m, n, b0, blocks, w, in, bias); m += 3; }
    for (; m < m1; m++) rows(t, 1, P, m, n, b0, blocks, w, in, bias);
}
/* R rows of A against one panel as it lies. */
static inline __attribute__((always_inline)) void few(const lm_q8 *t, const int R, const bool nibbles, int64_t m, int64_t n, __mmask16 in, const float *bias) {
    const __m512i ones = _mm512_set1_epi8(1), low = _mm512_set1_epi8(15);
    const char *p = lm_q8_panel(t, n, 0);
    const int64_t step = nibbles ? 288 : 544;
    __m512 acc[FEW];
    for (int r = 0; r < R; r++) acc[r] = t->acc ? _mm512_maskz_loadu_ps(in, t->c + (m + r) * t->c_rs + n) : _mm512_setzero_ps();
    for (int64_t b = 0; b < t->nb; b++, p += step) {
        const __m512 d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
        __m512i s[FEW], e[FEW], sum = _mm512_setzero_si512();              /* two chains */
        for (int64_t i = 0; i < step; i += 64) _mm_prefetch(p + AHEAD + i, _MM_HINT_T0);
        for (int r = 0; r < R; r++) { s[r] = nibbles ? _mm512_set1_epi32(-8 * t->sum[(m + r) * t->nb + b]) : _mm512_setzero_si512(); e[r] = _mm512_setzero_si512(); }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m512i w0, w1;                                                /* quads i and i + 4 */
            if (nibbles) {
                const __m512i x = _mm512_loadu_si512(p + 32 + 64 * i);
                w0 = _mm512_and_si512(x, low); w1 = _mm512_and_si512(_mm512_srli_epi16(x, 4), low);
            } else {
                w0 = _mm512_loadu_si512(p + 32 + 64 * i); w1 = _mm512_loadu_si512(p + 288 + 64 * i);
                sum = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(sum, ones, w0), ones, w1);
            }
            for (int r = 0; r < R; r++) {
                int32_t x0, x1;
                const void *x = nibbles ? (const void *)(t->s + (m + r) * t->K + b * 32 + 4 * i) : (const void *)(t->q + (m + r) * t->K + b * 32 + 4 * i);
                memcpy(&x0, x, 4); memcpy(&x1, (const char *)x + 16, 4);
                const __m512i v0 = _mm512_set1_epi32(x0), v1 = _mm512_set1_epi32(x1);
                s[r] = nibbles ? _mm512_dpbusd_epi32(s[r], w0, v0) : _mm512_dpbusd_epi32(s[r], v0, w0);
                e[r] = nibbles ? _mm512_dpbusd_epi32(e[r], w1, v1) : _mm512_dpbusd_epi32(e[r], v1, w1);
            }
        }
        for (int r = 0; r < R; r++) {
            __m512i all = _mm512_add_epi32(s[r], e[r]);
            if (!nibbles) all = _mm512_sub_epi32(all, _mm512_slli_epi32(sum, 7));
            acc[r] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(t->d[(m + r) * t->nb + b]), d), _mm512_cvtepi32_ps(all), acc[r]);
        }
    }
    for (int r = 0; r < R; r++) store(t, m + r, n, in, acc[r], bias);
}
static inline __attribute__((always_inline)) void few_rows(const lm_q8 *t, const bool nibbles, int64_t m, int64_t R, int64_t n, __mmask16 in, const float *bias) {
    if (R == 1) few(t, 1, nibbles, m, n, in, bias);
    else if (R == 2) few(t, 2, nibbles, m, n, in, bias);
    else if (R == 3) few(t, 3, nibbles, m, n, in, bias);
    else few(t, 4, nibbles, m, n, in, bias);
}
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    block_t *w = scratch;
    int64_t m0, m1, n0, n1;
    lm_q8_tile(&t, i, &m0, &m1, &n0, &n1);
    const bool straight = t.panels && m1 - m0 <= FEW && t.nb;
    for (int64_t n = n0; n < n1; n += 32) {
        const int64_t cols = lm_min64(32, n1 - n);
        const uint32_t mask = cols == 32 ? 0xffffffffu : (1u << cols) - 1;
        const __mmask16 in[2] = { (__mmask16)mask, (__mmask16)(mask >> 16) };
        float some[32] = { 0 };
        const float *bias = t.g.bias ? some : NULL;
        for (int64_t j = 0; j < cols && bias; j++) some[j] = lm_q8_bias(&t, n + j);
        for (int64_t p = 0; straight && p < cols; p += 16) {
            if (t.nibbles) few_rows(&t, true, m0, m1 - m0, n + p, in[p / 16], bias ? bias + p : NULL);
            else few_rows(&t, false, m0, m1 - m0, n + p, in[p / 16], bias ? bias + p : NULL);
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
                                            .phase = { { lm_q8_row_tiles, lm_q8_row_run }, { lm_q8_tiles, run } } },
                                          { 0 } };
