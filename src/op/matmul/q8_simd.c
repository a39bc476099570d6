/* q8_simd.c — integer products without VNNI: vpmaddubsw of |w| and x with w's sign (both exact: 2 * 128 * 127 < 2^15), and plain C where there is no
 * AVX2. */
#include "op/simd.h"
#include "op/matmul/q8.h"
#if !defined(LM_ISA_IS_portable)
#include <immintrin.h>
#endif

typedef struct { int8_t q[8][16][4]; float d[16]; } block_t;      /* 576 bytes */
static void pack(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t b1, block_t *out) {
    for (int64_t b = b0; b < b1; b++, out++) {
        if (n < 16) memset(out, 0, sizeof *out);
        for (int64_t j = 0; j < n; j++) {
            /* scale and, four bytes each, groups of codes of one row */
            const char *d = t->panels ? lm_q8_panel(t, n0, b) + 2 * j : lm_q8_row(t, n0 + j, b), *s = t->panels ? lm_q8_panel(t, n0, b) + 32 + 4 * j : d + 2;
            const int step = t->panels ? 64 : 4;
            uint16_t h; memcpy(&h, d, 2);
            out->d[j] = lm_f16_to_f32(h);
            if (!t->nibbles) for (int i = 0; i < 8; i++) memcpy(out->q[i][j], s + step * i, 4);
            else
                for (int i = 0; i < 4; i++)
                    for (int e = 0; e < 4; e++) {
                        const uint8_t x = (uint8_t)s[step * i + e];
                        out->q[i][j][e] = (int8_t)((x & 15) - 8); out->q[i + 4][j][e] = (int8_t)((x >> 4) - 8);
                    }
        }
    }
}
/* acc[16] over blocks b0 … b1-1 for row m. */
#if !defined(LM_ISA_IS_portable)
static void dot(const lm_q8 *t, int64_t m, int64_t b0, int64_t b1, const block_t *w, float *acc) {
    const __m256i ones = _mm256_set1_epi16(1);
    __m256 a[2] = { _mm256_loadu_ps(acc), _mm256_loadu_ps(acc + 8) };
    for (int64_t b = b0; b < b1; b++, w++) {
        __m256i s[2] = { _mm256_setzero_si256(), _mm256_setzero_si256() };
        for (int i = 0; i < 8; i++) {
            int32_t x; memcpy(&x, t->q + lm_q8_at(t, m, b) * 32 + i * 4, 4);
            const __m256i xv = _mm256_set1_epi32(x);
            for (int h = 0; h < 2; h++) {
                const __m256i wv = _mm256_loadu_si256((const __m256i *)w->q[i][8 * h]);
                s[h] = _mm256_add_epi32(s[h], _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(wv), _mm256_sign_epi8(xv, wv)), ones));
            }
        }
        const __m256 d = _mm256_set1_ps(t->d[lm_q8_at(t, m, b)]);
        for (int h = 0; h < 2; h++) a[h] = _mm256_fmadd_ps(_mm256_mul_ps(d, _mm256_loadu_ps(w->d + 8 * h)), _mm256_cvtepi32_ps(s[h]), a[h]);
    }
    _mm256_storeu_ps(acc, a[0]); _mm256_storeu_ps(acc + 8, a[1]);
}
#define ORDER "q8.k32"
#else
static void dot(const lm_q8 *t, int64_t m, int64_t b0, int64_t b1, const block_t *w, float *acc) {
    for (int64_t b = b0; b < b1; b++, w++) {
        const int8_t *x = t->q + lm_q8_at(t, m, b) * 32;
        for (int j = 0; j < 16; j++) {
            int32_t s = 0;
            for (int i = 0; i < 8; i++) for (int k = 0; k < 4; k++) s += x[4 * i + k] * w->q[i][j][k];
            acc[j] += t->d[lm_q8_at(t, m, b)] * w->d[j] * (float)s;
        }
    }
}
#define ORDER "q8.k32.mad"
#endif
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    int64_t m0, m1, n0, n1;
    lm_q8_tile(&t, i, &m0, &m1, &n0, &n1);
    for (int64_t n = n0; n < n1; n += 16) {
        const int64_t cols = lm_min64(16, n1 - n);
        for (int64_t b = 0, end; b < lm_max64(t.nb, 1); b = end) {         /* C is stored and loaded between stretches, which is exact */
            end = lm_min64(b + LM_Q8_KB, lm_max64(t.nb, 1));
            const bool last = end >= t.nb;
            pack(&t, n, cols, b, lm_min64(end, t.nb), scratch);
            for (int64_t m = m0; m < m1; m++) {
                float acc[16] = { 0 }, *o = t.c + m * t.c_rs + n;
                if (b || t.acc) memcpy(acc, o, (size_t)cols * 4);
                dot(&t, m, b, lm_min64(end, t.nb), scratch, acc);
                for (int64_t j = 0; j < cols; j++) o[j] = last && t.g.bias ? acc[j] + lm_q8_bias(&t, n + j) : acc[j];
            }
        }
    }
    return LM_OK;
}
const lm_kernel LM_ISA_NAME(lm_k_matmul_q8)[] = { { .name = "matmul.q8." LM_ISA_STR,
                                                    .needs = LM_ISA_NEEDS,
                                                    .order = ORDER,
                                                    .accepts = lm_q8_accepts,
                                                    .shared_bytes = lm_q8_shared,
                                                    .thread_bytes = lm_q8_scratch,
                                                    .n_phase = 2,
                                                    .phase = { { lm_q8_row_tiles, lm_q8_row_run }, { lm_q8_tiles, run } } },
                                                  { 0 } };
