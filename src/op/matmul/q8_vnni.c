/* q8_vnni.c — Q8_0 with vpdpbusd: per block of 32 of k and row of A, 8 instructions for 16 outputs.
 *
 * vpdpbusd wants one unsigned side: A's codes are taken + 128, and each sum starts at -128 * (sum of the weight codes), so it is the exact dot. */
#include <immintrin.h>
#include <string.h>
#include "op/matmul/q8.h"

typedef struct { __m512i q[8], start; __m512 d; } block_t;      /* 640 bytes */

/* 16 rows (n of them there) of all blocks. */
static void pack(const lm_q8 *t, int64_t n0, int64_t n, block_t *out) {
    static const char none[LM_Q8_BYTES];
    const char *row[16];
    const __m512i ones = _mm512_set1_epi8(1);
    for (int j = 0; j < 16; j++) row[j] = j < n ? t->w + (n0 + j) * t->w_row : none;
    for (int64_t b = 0; b < t->nb; b++, out++) {
        uint16_t d[16];
        __m256i r[16], s[16];
        for (int j = 0; j < 16; j++) {
            memcpy(&d[j], row[j], 2); r[j] = _mm256_loadu_si256((const __m256i *)(row[j] + 2));
            if (j < n) { _mm_prefetch(row[j] + 8 * LM_Q8_BYTES, _MM_HINT_T0); row[j] += LM_Q8_BYTES; }
        }
        out->d = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)d));
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
        __m512i sum = _mm512_setzero_si512();
        for (int i = 0; i < 8; i++) {
            out->q[i] = _mm512_inserti64x4(_mm512_castsi256_si512(s[i]), s[8 + i], 1);
            sum = _mm512_dpbusd_epi32(sum, ones, out->q[i]);
        }
        out->start = _mm512_slli_epi32(_mm512_sub_epi32(_mm512_setzero_si512(), sum), 7);
    }
}
/* R rows of A against P panels; w: nb blocks of the first panel, then of the second. */
static inline __attribute__((always_inline)) void rows(const lm_q8 *t, const int R, const int P, int64_t m, int64_t n, const block_t *w,
                                                       const __mmask16 *in, const float *bias) {
    __m512 acc[4][2];
    const uint8_t *q = t->q + m * t->K; const float *d = t->d + m * t->nb;
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++)
            acc[r][p] = t->acc ? _mm512_maskz_loadu_ps(in[p], t->c + (m + r) * t->c_rs + n + p * 16) : _mm512_setzero_ps();
    for (int64_t b = 0; b < t->nb; b++, w++, q += 32, d++) {
        __m512i s[4][2], e[4][2];                                  /* even and odd quads: two chains */
        for (int r = 0; r < R; r++) for (int p = 0; p < P; p++) { s[r][p] = w[p * t->nb].start; e[r][p] = _mm512_setzero_si512(); }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++)
            for (int r = 0; r < R; r++) {
                int32_t x; memcpy(&x, q + r * t->K + i * 4, 4);
                const __m512i xv = _mm512_set1_epi32(x);
                for (int p = 0; p < P; p++) {
                    if (R == 1 && i % 2) e[r][p] = _mm512_dpbusd_epi32(e[r][p], xv, w[p * t->nb].q[i]);
                    else s[r][p] = _mm512_dpbusd_epi32(s[r][p], xv, w[p * t->nb].q[i]);
                }
            }
        for (int r = 0; r < R; r++)
            for (int p = 0; p < P; p++)
                acc[r][p] = _mm512_fmadd_ps(_mm512_mul_ps(_mm512_set1_ps(d[r * t->nb]), w[p * t->nb].d),
                                            _mm512_cvtepi32_ps(R == 1 ? _mm512_add_epi32(s[r][p], e[r][p]) : s[r][p]), acc[r][p]);
    }
    for (int r = 0; r < R; r++)
        for (int p = 0; p < P; p++)
            _mm512_mask_storeu_ps(t->c + (m + r) * t->c_rs + n + p * 16, in[p],
                                  t->g.bias ? _mm512_add_ps(acc[r][p], _mm512_loadu_ps(bias + p * 16)) : acc[r][p]);
}
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    block_t *w = scratch;
    int64_t m0, m1, n0, n1;
    lm_q8_tile(&t, i, &m0, &m1, &n0, &n1);
    for (int64_t n = n0; n < n1; n += 32) {
        const int64_t cols = lm_min64(32, n1 - n);
        const uint32_t mask = cols == 32 ? 0xffffffffu : (1u << cols) - 1;
        const __mmask16 in[2] = { (__mmask16)mask, (__mmask16)(mask >> 16) };
        float bias[32] = { 0 };
        int64_t m = m0;
        for (int64_t j = 0; j < cols; j++) bias[j] = lm_q8_bias(&t, n + j);
        pack(&t, n, lm_min64(16, cols), w);
        if (cols > 16) {
            pack(&t, n + 16, cols - 16, w + t.nb);
            for (; m + 4 <= m1; m += 4) rows(&t, 4, 2, m, n, w, in, bias);
            for (; m < m1; m++) rows(&t, 1, 2, m, n, w, in, bias);
        } else {
            for (; m + 4 <= m1; m += 4) rows(&t, 4, 1, m, n, w, in, bias);
            for (; m < m1; m++) rows(&t, 1, 1, m, n, w, in, bias);
        }
    }
    return LM_OK;
}
const lm_kernel lm_k_matmul_q8_vnni[] = { { .name = "matmul.q8_0.vnni",
                                            .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_VNNI,
                                            .order = "q8.k32",
                                            .accepts = lm_q8_accepts,
                                            .shared_bytes = lm_q8_shared,
                                            .thread_bytes = lm_q8_scratch,
                                            .n_phase = 2,
                                            .phase = { { lm_q8_row_tiles, lm_q8_row_run }, { lm_q8_tiles, run } } },
                                          { 0 } };
