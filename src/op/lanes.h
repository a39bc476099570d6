/* lanes.h — the vector of the instruction set a *_simd.c file is compiled for: vn, of VN floats (16, 8 or 4).
 *
 * simd.h's v16 means sixteen lanes everywhere, and a compiler that has no 64-byte registers keeps it in memory (ten times slower or worse
 * where lanes are compared). Elementwise work does not care how many lanes there are, and sums that do are written so that element i
 * always goes to accumulator i mod 64 and the accumulators are added by one tree (LM_V_SUM in elementwise.h): so bits are the same for
 * every VN. Products and sums round separately (-ffp-contract=off); vn_fma is an FMA where the set has one. Functions that need no order are
 * the compiler's or one instruction.
 * Include in *_simd.c only.
 *
 * Lifetime, Threads, Errors: none, all inline. */
#ifndef LM_LANES_H
#define LM_LANES_H
#include <string.h>
#include <math.h>
#include "op/op.h"
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h>                            /* a twentieth of it */
#endif
#if defined(LM_ISA_IS_avx512)
enum { VN = 16 };
#define LM_ISA_NEEDS (LM_CPU_AVX2 | LM_CPU_AVX512)
#elif defined(LM_ISA_IS_avx2)
enum { VN = 8 };
#define LM_ISA_NEEDS LM_CPU_AVX2
#else
enum { VN = 4 };
#define LM_ISA_NEEDS 0
#endif
typedef float vn __attribute__((vector_size(4 * VN)));
typedef int32_t vni __attribute__((vector_size(4 * VN)));
typedef float vnu __attribute__((vector_size(4 * VN), aligned(4), may_alias));
#define LM_INL static inline __attribute__((always_inline))
LM_INL vn vn_set(float x) { return x - (vn){ 0 }; }
LM_INL vn vn_load(const float *p) { return *(const vnu *)p; }
LM_INL void vn_store(float *p, vn v) { *(vnu *)p = v; }
/* n <= VN lanes; what is beyond is `fill`. With n = VN these are a load and a store. */
LM_INL vn vn_loadf(const float *p, int64_t n, float fill) {
    if (n == VN) return vn_load(p);
    vn v = vn_set(fill);
    memcpy(&v, p, (size_t)n * 4);
    return v;
}
LM_INL vn vn_loadn(const float *p, int64_t n) { return vn_loadf(p, n, 0.0f); }
LM_INL void vn_storen(float *p, vn v, int64_t n) { if (n == VN) vn_store(p, v); else memcpy(p, &v, (size_t)n * 4); }
LM_INL vni vn_iota(void) { vni v; for (int i = 0; i < VN; i++) v[i] = i; return v; }
LM_INL vn vn_sel(vni m, vn a, vn b) { return (vn)(((vni)a & m) | ((vni)b & ~m)); }      /* m lanes are 0 or -1 */
LM_INL vn vn_first(vn v, int64_t n) { return n == VN ? v : vn_sel(vn_iota() < (int32_t)n, v, (vn){ 0 }); }   /* lanes from n on are 0 */
LM_INL vn vn_max(vn a, vn b) { return vn_sel(a > b, a, b); }
LM_INL vn vn_min(vn a, vn b) { return vn_sel(a < b, a, b); }
LM_INL vn vn_abs(vn x) { return (vn)((vni)x & 0x7fffffff); }
LM_INL vn vn_sign_of(vn mag, vn s) { return (vn)((vni)mag | ((vni)s & (int32_t)0x80000000)); }     /* mag >= 0 */
LM_INL float vn_hmax(vn v) { float m = v[0]; for (int i = 1; i < VN; i++) m = v[i] > m ? v[i] : m; return m; }
/* a b + c, rounded once where the set has FMA, else twice: order ids tell the two apart. */
LM_INL vn vn_fma(vn a, vn b, vn c) {
#if defined(LM_ISA_IS_avx512)
    return (vn)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(LM_ISA_IS_avx2)
    return (vn)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}
LM_INL vn vn_poly(vn p, vn x, float c) { return vn_fma(p, x, vn_set(c)); }              /* a step of Horner's rule */
LM_INL vn vn_sqrt(vn x) {
#if defined(LM_ISA_IS_avx512)
    return (vn)_mm512_sqrt_ps((__m512)x);
#elif defined(LM_ISA_IS_avx2)
    return (vn)_mm256_sqrt_ps((__m256)x);
#elif defined(__SSE2__)
    return (vn)_mm_sqrt_ps((__m128)x);
#else
    for (int i = 0; i < VN; i++) x[i] = sqrtf(x[i]);
    return x;
#endif
}
/* exp(r) for |r| <= ln 2 / 2. */
LM_INL vn vn_exp_poly(vn r) {
    vn p = vn_poly(vn_poly(vn_poly(vn_set(1.9875691500e-4f), r, 1.3981999507e-3f), r, 8.3334519073e-3f), r, 4.1665795894e-2f);
    p = vn_poly(vn_poly(p, r, 1.6666665459e-1f), r, 5.0000001201e-1f);
    return vn_fma(p * r, r, r) + 1.0f;
}
/* Cephes-style range reduction, degree-6 polynomial: <= 2 ulp on [-87, 88], 0 below, +inf above, NaN stays. */
LM_INL vn vn_exp(vn x) {
    const vn lo = vn_set(-87.3365447505f), hi = vn_set(88.3762626647f);
    vni under = x < lo, over = x > hi;
    vn c = vn_min(vn_max(x, lo), hi);
    vn t = vn_fma(c, vn_set(1.44269504088896341f), vn_set(12582912.0f));                            /* round to nearest: 1.5 * 2^23 */
    vni n = (vni)t - 0x4b400000;
    vn f = t - 12582912.0f;
    vn r = vn_fma(f, vn_set(2.12194440e-4f), vn_fma(f, vn_set(-0.693359375f), c));
    vn y = vn_exp_poly(r) * (vn)((n + 127) << 23);
    y = vn_sel(under, (vn){ 0 }, y);
    return vn_sel(over, vn_set(INFINITY), vn_sel(x != x, x, y));
}
LM_INL vn vn_sigmoid(vn x) { return 1.0f / (1.0f + vn_exp(-x)); }
LM_INL vn vn_tanh(vn x) {
    vn a = vn_abs(x), z = x * x;
    /* tanh x = x + x^3 p(x^2) near 0 (a fit of ours, 5e-9), where 1 - 2/(e^2x + 1) cancels */
    vn p = vn_poly(vn_poly(vn_poly(vn_poly(vn_set(-5.67964593e-3f), z, 2.06184346e-2f), z, -5.37340971e-2f), z, 0.133313848f), z, -0.333332803f);
    vn near = vn_fma(p * z, x, x), far = vn_sign_of(1.0f - 2.0f / (vn_exp(a * 2.0f) + 1.0f), x);
    return vn_sel(a < 0.625f, near, vn_sel(x != x, x, far));
}
LM_INL vn vn_softcap(vn x, float cap) { return vn_tanh(x * vn_set(1.0f / cap)) * vn_set(cap); }
/* erfc(t) for t >= 0 given e = exp(-t*t): a degree-9 fit of ours (weighted least squares driven to minimax) of e^(t*t) erfc(t) in
 * 1/(1+0.4t), relative error 8e-9 on [0, 10] before rounding. */
LM_INL vn vn_erfc_pos(vn t, vn e) {
    vn u = 1.0f / vn_poly(t, vn_set(0.4f), 1.0f);
    vn p = vn_poly(vn_poly(vn_poly(vn_set(-0.029600031f), u, 0.198043207f), u, -0.498879768f), u, 0.547523405f);
    p = vn_poly(vn_poly(vn_poly(p, u, -0.28443723f), u, 0.272102691f), u, 0.129667476f);
    p = vn_poly(vn_poly(vn_poly(p, u, 0.214921602f), u, 0.224951731f), u, 0.225706924f);
    return p * u * e;
}
/* The normal distribution function; *e = exp(-x*x/2). */
LM_INL vn vn_ncdf(vn x, vn *e) {
    *e = vn_exp(x * x * -0.5f);
    vn q = vn_erfc_pos(vn_abs(x) * 0.70710678118654752f, *e) * 0.5f;
    return vn_sel(x > 0.0f, 1.0f - q, q);
}
/* The tree of 64 accumulators in 64/VN vectors: quarters, then halves of sixteen. */
LM_INL float vn_tree(const vn *a) {
    float t[16];
    _Pragma("GCC unroll 4") for (int j = 0; j < 16 / VN; j++) vn_store(t + j * VN, (a[j] + a[16 / VN + j]) + (a[32 / VN + j] + a[48 / VN + j]));
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) t[i] += t[i + h];
    return t[0];
}
#endif
