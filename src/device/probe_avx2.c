/* probe_avx2.c — products of bytes where there is no single instruction for them: vpmaddubsw and vpaddw in eight chains. What widens the 16-bit sums once in a
 * while is left out: how seldom that may be done depends on the codes. */
#include <immintrin.h>
#include "device/probe_int.h"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
int64_t lm_probe_dot8_avx2(int64_t rounds) {
    const __m256i a = _mm256_set1_epi8(3), b = _mm256_set1_epi8(-2);
#define SUM(k) __m256i c##k = _mm256_set1_epi16(k), t##k;
    ALL(SUM)
    for (int64_t i = 0; i < rounds; i++) {
        /* written out: what does not change would be moved out of the loop, or about in it */
#define STEP(k) __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(c##k), "=&x"(t##k) : "x"(a), "x"(b));
        ALL(STEP)
    }
    __m256i all = _mm256_setzero_si256();
#define ADD(k) all = _mm256_add_epi16(all, c##k);
    ALL(ADD)
    int16_t v[16];
    int64_t s = 0;
    _mm256_storeu_si256((__m256i *)v, all);
    for (int i = 0; i < 16; i++) s += v[i];
    return s;
}
