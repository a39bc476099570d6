/* probe_vnni.c — twelve independent chains of vpdpbusd, operands in registers. */
#include <immintrin.h>
#include "device/probe_int.h"
#define ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
int64_t lm_probe_dot8_vnni(int64_t rounds) {
    const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(-2);
#define SUM(k) __m512i c##k = _mm512_set1_epi32(k);
    ALL(SUM)
    for (int64_t i = 0; i < rounds; i++) {
        /* written out: of the intrinsic, whose operands do not change, compilers make moves */
#define STEP(k) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(c##k) : "v"(a), "v"(b));
        ALL(STEP)
    }
    int64_t s = 0;
#define ADD(k) s += _mm512_reduce_add_epi32(c##k);
    ALL(ADD)
    return s;
}
