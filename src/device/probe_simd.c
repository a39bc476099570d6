/* probe_simd.c — chains of multiply-add that fit in registers, and a sum that waits for memory alone. */
#include "device/probe_int.h"
#if defined(LM_ISA_IS_avx512)
enum { BYTES = 64 };
#define NAME(x) x##_avx512
#elif defined(LM_ISA_IS_avx2)
enum { BYTES = 32 };
#define NAME(x) x##_avx2
#else
enum { BYTES = 16 };
#define NAME(x) x##_portable
#endif
typedef float vf __attribute__((vector_size(BYTES)));
/* Nothing is contracted here (cmake/isa.cmake): where there is an instruction it is named. */
#if defined(LM_ISA_IS_avx512)
#include <immintrin.h>
#define FMA(c, a, b) (vf)_mm512_fmadd_ps((__m512)(c), (__m512)(a), (__m512)(b))
#elif defined(LM_ISA_IS_avx2)
#include <immintrin.h>
#define FMA(c, a, b) (vf)_mm256_fmadd_ps((__m256)(c), (__m256)(a), (__m256)(b))
#else
#define FMA(c, a, b) ((c) * (a) + (b))
#endif
typedef uint64_t vu __attribute__((vector_size(BYTES), aligned(8), may_alias));

int NAME(lm_probe_width)(void) { return BYTES / 4; }
float NAME(lm_probe_chain)(int64_t rounds) {
    vf a = (vf){ 0 } + 1.0000001f, b = (vf){ 0 } + 1e-9f, c0 = a, c1 = a * 2, c2 = a * 3, c3 = a * 4, c4 = a * 5, c5 = a * 6, c6 = a * 7,
       c7 = a * 8, c8 = a * 9, c9 = a * 10, c10 = a * 11, c11 = a * 12;
    for (int64_t i = 0; i < rounds; i++) {
#define STEP(c) c = FMA(c, a, b);
        STEP(c0); STEP(c1); STEP(c2); STEP(c3); STEP(c4); STEP(c5); STEP(c6); STEP(c7); STEP(c8); STEP(c9); STEP(c10); STEP(c11);
    }
    c0 += c1 + c2 + c3 + c4 + c5 + c6 + c7 + c8 + c9 + c10 + c11;
    float s = 0;
    for (int i = 0; i < BYTES / 4; i++) s += c0[i];
    return s;
}
uint64_t NAME(lm_probe_sum)(const void *p, size_t n) {
    const vu *v = p;
    vu s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};
    for (size_t i = 0; i + 4 <= n / BYTES; i += 4) { s0 += v[i]; s1 += v[i + 1]; s2 += v[i + 2]; s3 += v[i + 3]; }
    s0 += s1 + s2 + s3;
    uint64_t s = 0;
    for (int i = 0; i < BYTES / 8; i++) s += s0[i];
    return s;
}
