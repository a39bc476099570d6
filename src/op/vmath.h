/* vmath.h — functions of sixteen lanes beyond simd.h: built on lm_v_exp, so they share its bits across instruction sets with FMA.
 *
 * lm_v_sigmoid and lm_v_tanh: a few ulp. lm_v_erfc_pos(t, e), t >= 0, e = exp(-t*t): a degree-9 fit (our own, weighted least squares driven to minimax) of
 * erfcx(t) in u = 1/(1+0.4t), relative error 8e-9 on [0, 10] before rounding. Include in *_simd.c only. */
#ifndef LM_VMATH_H
#define LM_VMATH_H
#include "op/simd.h"
static inline v16 lm_v_abs(v16 x) { return (v16)((v16i)x & 0x7fffffff); }
static inline v16 lm_v_sign_of(v16 mag, v16 s) { return (v16)((v16i)mag | ((v16i)s & (int32_t)0x80000000)); }   /* mag >= 0 */
static inline v16 lm_v_sigmoid(v16 x) { return 1.0f / (1.0f + lm_v_exp(-x)); }
static inline v16 lm_v_tanh(v16 x) {
    v16 a = lm_v_abs(x), z = x * x;
    /* tanh x = x + x^3 p(x^2) near 0 (a fit of ours, 5e-9), where 1 - 2/(e^2x + 1) cancels */
    v16 p = z * -5.67964593e-3f + 2.06184346e-2f;
    p = p * z - 5.37340971e-2f; p = p * z + 0.133313848f; p = p * z - 0.333332803f;
    v16 near = p * z * x + x, far = lm_v_sign_of(1.0f - 2.0f / (lm_v_exp(a * 2.0f) + 1.0f), x);
    return lm_v_sel(a < 0.625f, near, lm_v_sel(x != x, x, far)); }
static inline v16 lm_v_erfc_pos(v16 t, v16 e) {
    v16 u = 1.0f / (t * 0.4f + 1.0f);
    v16 p = u * -0.029600031f + 0.198043207f;
    p = p * u - 0.498879768f; p = p * u + 0.547523405f; p = p * u - 0.28443723f; p = p * u + 0.272102691f; p = p * u + 0.129667476f;
    p = p * u + 0.214921602f; p = p * u + 0.224951731f; p = p * u + 0.225706924f;
    return p * u * e; }
/* Φ(x), the normal distribution function; *pdf_e = exp(-x²/2). */
static inline v16 lm_v_ncdf(v16 x, v16 *pdf_e) {
    v16 e = lm_v_exp(x * x * -0.5f), q = lm_v_erfc_pos(lm_v_abs(x) * 0.70710678118654752f, e) * 0.5f;
    *pdf_e = e;
    return lm_v_sel(x > 0.0f, 1.0f - q, q); }
#endif
