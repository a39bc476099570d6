/* xent_vec.h — vectors of each instruction set and their exp, for rows of logits as they lie in memory (xent_simd.c) and for rows side by
 * side (xent_cols_simd.c).
 *
 * lse must have the same bits everywhere, so exp is written without FMA.
 *
 * Lifetime, Threads, Errors: none. */
#ifndef LM_XENT_VEC_H
#define LM_XENT_VEC_H
#include "op/simd.h"
#include "op/xent/xent_core.h"

#if defined(LM_ISA_IS_avx512)
enum { W = 16 };
#elif defined(LM_ISA_IS_avx2)
enum { W = 8 };
#else
enum { W = 4 };
#endif
enum { NV = 16 / W };
typedef float vec __attribute__((vector_size(4 * W)));
typedef int32_t veci __attribute__((vector_size(4 * W)));
typedef float vecu __attribute__((vector_size(4 * W), aligned(4), may_alias));
#define INL static inline __attribute__((always_inline))
#define LD(p) (*(const vecu *)(p))
#define ST(p, v) (*(vecu *)(p) = (v))
INL vec all(float x) { return x - (vec){ 0 }; }
INL vec sel(veci m, vec a, vec b) { return (vec)(((veci)a & m) | ((veci)b & ~m)); }
/* exp(x) for x <= 0, within 2 ulp; 0 below -87.3; NaN stays. Cephes' reduction and polynomial. */
INL vec exp_neg(vec x) {
    const vec lo = all(-87.3365447505f);
    const veci under = x < lo;
    const vec c = sel(under, lo, x), t = c * all(1.44269504088896341f) + 12582912.0f, f = t - 12582912.0f;
    const veci n = (veci)t - 0x4b400000;
    vec r = c - f * all(0.693359375f);
    r = r + f * all(2.12194440e-4f);
    vec p = r * all(1.9875691500e-4f) + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f; p = p * r + 4.1665795894e-2f; p = p * r + 1.6666665459e-1f; p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const vec y = sel(under, all(0.0f), p * (vec)((n + 127) << 23));
    return sel(x != x, x, y);
}
#endif
