/* simd.h — sixteen lanes, one meaning on every instruction set: what *_simd.c files are written in.
 *
 * v16 is a GCC vector of 16 floats. The compiler lowers it to one zmm, two ymm or four xmm; lanes, order of additions and reductions are
 * the same everywhere. LM_ISA_NEEDS is the feature mask for kernel rows of the file being compiled. Arithmetic that is worth an FMA is in
 * lanes.h. */
#ifndef LM_SIMD_H
#define LM_SIMD_H
#include <string.h>
#include <math.h>
#include "op/op.h"
#if defined(LM_ISA_IS_avx512)
#define LM_ISA_NEEDS (LM_CPU_AVX2 | LM_CPU_AVX512)
#elif defined(LM_ISA_IS_avx2)
#define LM_ISA_NEEDS LM_CPU_AVX2
#else
#define LM_ISA_NEEDS 0
#endif
typedef float v16 __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef float v16u __attribute__((vector_size(64), aligned(4), may_alias));
static inline v16 lm_v_load(const float *p) { return *(const v16u *)p; }
static inline void lm_v_store(float *p, v16 v) { *(v16u *)p = v; }
static inline v16 lm_v_set(float x) { return x - (v16){0}; }
static inline v16 lm_v_loadn(const float *p, int64_t n) { v16 v = {0}; memcpy(&v, p, (size_t)n * 4); return v; }          /* n < 16: the rest is 0 */
static inline void lm_v_storen(float *p, v16 v, int64_t n) { memcpy(p, &v, (size_t)n * 4); }
static inline v16 lm_v_sel(v16i m, v16 a, v16 b) { return (v16)(((v16i)a & m) | ((v16i)b & ~m)); }   /* m lanes are 0 or -1 */
static inline v16 lm_v_max(v16 a, v16 b) { return lm_v_sel(a > b, a, b); }
static inline v16 lm_v_min(v16 a, v16 b) { return lm_v_sel(a < b, a, b); }
/* Lanes added pairwise by halves: (i, i+8), (i, i+4), (i, i+2), (i, i+1): one fixed tree. */
static inline float lm_v_sum(v16 v) {
    float t[16]; memcpy(t, &v, 64);
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) t[i] += t[i + h];
    return t[0]; }
static inline float lm_v_hmax(v16 v) {
    float t[16]; memcpy(t, &v, 64);
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) t[i] = t[i] > t[i + h] ? t[i] : t[i + h];
    return t[0]; }
#endif
