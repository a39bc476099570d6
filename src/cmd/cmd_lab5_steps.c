/* cmd_lab5_steps.c — see cmd_lab5.h. The steps are what their names say: the compiler is kept from vectorizing those that are not called so. */
#include <math.h>
#include <string.h>
#include "cmd/cmd_lab5.h"
#include "device/cpu.h"
#include "tensor/tensor.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__clang__)
#define SCALAR
#define PLAIN_LOOP _Pragma("clang loop vectorize(disable) interleave(disable)")
#else
#define SCALAR __attribute__((optimize("no-tree-vectorize", "no-unroll-loops")))
#define PLAIN_LOOP
#endif
#define INLINE static inline __attribute__((always_inline))
enum { B = LM_LAB5_BLOCK, BYTES = LM_LAB5_BYTES };

INLINE const uint8_t *block(const lm_lab5 *p, int64_t n, int64_t b) { return p->w + (n * (p->K / B) + b) * BYTES; }
INLINE float scale(const uint8_t *w) { uint16_t h; memcpy(&h, w, 2); return lm_f16_to_f32(h); }
void lm_lab5_quantize(const float *x, int64_t n, int8_t *q, float *d) {
    for (int64_t b = 0; b < n / B; b++, x += B, q += B) {
        float top = 0;
        for (int k = 0; k < B; k++) top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
        const float by = top > 0 ? 127.0f / top : 0;
        d[b] = top / 127.0f;
        for (int k = 0; k < B; k++) q[k] = (int8_t)lrintf(x[k] * by);
    }
}
/* ---- 1: an output at a time, a number at a time; the scale is looked up once a block ---- */
SCALAR static void reference(const lm_lab5 *p, int64_t n0, int64_t n1, uint64_t features) {
    (void)features;
    const int64_t nb = p->K / B;
    for (int64_t m = 0; m < p->M; m++)
        for (int64_t n = n0; n < n1; n++) {
            float acc = 0;
            for (int64_t b = 0; b < nb; b++) {
                const uint8_t *w = block(p, n, b);
                const int8_t *x = p->x + m * p->K + b * B;
                int32_t sum = 0;
                PLAIN_LOOP
                for (int k = 0; k < B / 2; k++) {
                    sum += ((int)(w[2 + k] & 15) - 8) * x[k];
                    sum += ((int)(w[2 + k] >> 4) - 8) * x[k + B / 2];
                }
                acc += (float)sum * (p->xd[m * nb + b] * scale(w));
            }
            p->y[m * p->N + n] = acc;
        }
}
/* ---- 2: four outputs at a time, so that x is loaded once for four products, eight products written out ---- */
SCALAR static void unrolled(const lm_lab5 *p, int64_t n0, int64_t n1, uint64_t features) {
    const int64_t nb = p->K / B;
    int64_t n = n0;
    for (; n + 4 <= n1; n += 4)
        for (int64_t m = 0; m < p->M; m++) {
            float a0 = 0, a1 = 0, a2 = 0, a3 = 0;
            for (int64_t b = 0; b < nb; b++) {
                const uint8_t *w0 = block(p, n, b) + 2, *w1 = block(p, n + 1, b) + 2, *w2 = block(p, n + 2, b) + 2, *w3 = block(p, n + 3, b) + 2;
                const int8_t *x = p->x + m * p->K + b * B;
                int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#define ONE(s, w, k) s += ((int)(w[k] & 15) - 8) * lo + ((int)(w[k] >> 4) - 8) * hi;
#define TWO(k) { const int lo = x[k], hi = x[(k) + B / 2]; ONE(s0, w0, k) ONE(s1, w1, k) ONE(s2, w2, k) ONE(s3, w3, k) }
                PLAIN_LOOP
                for (int k = 0; k < B / 2; k += 4) { TWO(k) TWO(k + 1) TWO(k + 2) TWO(k + 3) }
                const float d = p->xd[m * nb + b];
                a0 += (float)s0 * (d * scale(w0 - 2)); a1 += (float)s1 * (d * scale(w1 - 2));
                a2 += (float)s2 * (d * scale(w2 - 2)); a3 += (float)s3 * (d * scale(w3 - 2));
            }
            float *y = p->y + m * p->N + n;
            y[0] = a0; y[1] = a1; y[2] = a2; y[3] = a3;
        }
    if (n < n1) reference(p, n, n1, features);
}
/* ---- 4: an output at a time, a block at a time: codes as bytes without sign, products of bytes, sums of neighbours ---- */
#if defined(__x86_64__)
static int32_t dot_plain(const uint8_t *w, const int8_t *x) {             /* the base machine's: bytes widened to 16 bits first */
    const __m128i v = _mm_loadu_si128((const __m128i *)w), z = _mm_setzero_si128(), mask = _mm_set1_epi8(15), eight = _mm_set1_epi8(8);
    const __m128i q[2] = { _mm_sub_epi8(_mm_and_si128(v, mask), eight), _mm_sub_epi8(_mm_and_si128(_mm_srli_epi16(v, 4), mask), eight) };
    __m128i s = z;
    for (int h = 0; h < 2; h++) {
        const __m128i a = _mm_loadu_si128((const __m128i *)(x + 16 * h));
        s = _mm_add_epi32(s, _mm_madd_epi16(_mm_srai_epi16(_mm_unpacklo_epi8(z, q[h]), 8), _mm_srai_epi16(_mm_unpacklo_epi8(z, a), 8)));
        s = _mm_add_epi32(s, _mm_madd_epi16(_mm_srai_epi16(_mm_unpackhi_epi8(z, q[h]), 8), _mm_srai_epi16(_mm_unpackhi_epi8(z, a), 8)));
    }
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
#else
typedef int8_t b16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef int32_t i16 __attribute__((vector_size(64)));
static int32_t dot_plain(const uint8_t *w, const int8_t *x) {             /* vectors of whatever the base machine has */
    const b16 v = *(const b16 *)w;
    const i16 q = __builtin_convertvector(v, i16), lo = (q & 15) - 8, hi = ((q >> 4) & 15) - 8;
    const i16 s = lo * __builtin_convertvector(*(const b16 *)x, i16) + hi * __builtin_convertvector(*(const b16 *)(x + 16), i16);
    int32_t sum = 0;
    for (int i = 0; i < 16; i++) sum += s[i];
    return sum;
}
#endif
#define ROWS(name, attr, dot, half)                                                                                                          \
    attr static void name(const lm_lab5 *p, int64_t n0, int64_t n1) {                                                                         \
        const int64_t nb = p->K / B;                                                                                                         \
        for (int64_t m = 0; m < p->M; m++)                                                                                                   \
            for (int64_t n = n0; n < n1; n++) {                                                                                              \
                float acc = 0;                                                                                                               \
                for (int64_t b = 0; b < nb; b++) {                                                                                           \
                    const uint8_t *w = block(p, n, b);                                                                                       \
                    acc += (float)dot(w + 2, p->x + m * p->K + b * B) * (p->xd[m * nb + b] * half(w));                                        \
                }                                                                                                                            \
                p->y[m * p->N + n] = acc;                                                                                                    \
            }                                                                                                                                \
    }
ROWS(rows_plain, , dot_plain, scale)
#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma,f16c")))
AVX2 INLINE float half_avx2(const uint8_t *w) { uint16_t h; memcpy(&h, w, 2); return _cvtsh_ss(h); }
AVX2 INLINE int32_t sum_avx2(__m256i s) {
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    v = _mm_add_epi32(v, _mm_shuffle_epi32(v, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(v, _mm_shuffle_epi32(v, 0xb1)));
}
AVX2 INLINE int32_t dot_avx2(const uint8_t *w, const int8_t *x) {
    const __m128i v = _mm_loadu_si128((const __m128i *)w);
    const __m256i q = _mm256_sub_epi8(_mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15)), _mm256_set1_epi8(8)),
                  a = _mm256_loadu_si256((const __m256i *)x);
    const __m256i s = _mm256_maddubs_epi16(_mm256_sign_epi8(q, q), _mm256_sign_epi8(a, q));      /* |q| times a with q's sign */
    return sum_avx2(_mm256_madd_epi16(s, _mm256_set1_epi16(1)));
}
ROWS(rows_avx2, AVX2, dot_avx2, half_avx2)
#define VNNI __attribute__((target("avx2,fma,f16c,avx512f,avx512vl,avx512vnni")))
VNNI INLINE float half_vnni(const uint8_t *w) { uint16_t h; memcpy(&h, w, 2); return _cvtsh_ss(h); }
VNNI INLINE int32_t dot_vnni(const uint8_t *w, const int8_t *x) {
    const __m128i v = _mm_loadu_si128((const __m128i *)w);
    const __m256i q = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(v, 4), v), _mm256_set1_epi8(15)), a = _mm256_loadu_si256((const __m256i *)x);
    const __m256i s = _mm256_dpbusd_epi32(_mm256_dpbusd_epi32(_mm256_setzero_si256(), q, a), _mm256_set1_epi8(8), _mm256_sub_epi8(_mm256_setzero_si256(), a));
    __m128i t = _mm_add_epi32(_mm256_castsi256_si128(s), _mm256_extracti128_si256(s, 1));
    t = _mm_add_epi32(t, _mm_shuffle_epi32(t, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(t, _mm_shuffle_epi32(t, 0xb1)));
}
ROWS(rows_vnni, VNNI, dot_vnni, half_vnni)
#endif
static void vectors(const lm_lab5 *p, int64_t n0, int64_t n1, uint64_t features) {
#if defined(__x86_64__)
    if (features & LM_CPU_AVX512_VNNI) { rows_vnni(p, n0, n1); return; }
    if (features & LM_CPU_AVX2) { rows_avx2(p, n0, n1); return; }
#endif
    (void)features;
    rows_plain(p, n0, n1);
}
const lm_lab5_step lm_lab5_steps[5] = { { "reference", "a number at a time", false, reference },
                                        { "unrolled", "four outputs at a time, written out", false, unrolled },
                                        { "threaded", "the reference, outputs divided over the threads", true, reference },
                                        { "simd", "a block at a time", false, vectors },
                                        { "threaded_unrolled", "both", true, unrolled } };
