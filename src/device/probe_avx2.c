/* probe_avx2.c — products of bytes where there is no single instruction for them: vpmaddubsw, vpmaddwd, vpaddd in eight chains. */
#include <immintrin.h>
#include "device/probe_int.h"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
int64_t lm_probe_dot8_avx2(int64_t rounds) {
    __m256i a = _mm256_set1_epi8(3);
    const __m256i b = _mm256_set1_epi8(-2), one = _mm256_set1_epi16(1);
#define SUM(k) __m256i c##k = _mm256_set1_epi32(k);
    ALL(SUM)
    for (int64_t i = 0; i < rounds; i++) {
        /* the product is not known beforehand */
#define STEP(k) __asm__ volatile("" : "+x"(a)); c##k = _mm256_add_epi32(c##k, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), one));
        ALL(STEP)
    }
    __m256i all = _mm256_setzero_si256();
#define ADD(k) all = _mm256_add_epi32(all, c##k);
    ALL(ADD)
    int32_t v[8];
    int64_t s = 0;
    _mm256_storeu_si256((__m256i *)v, all);
    for (int i = 0; i < 8; i++) s += v[i];
    return s;
}
