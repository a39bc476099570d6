/* gelu_grad_simd.c — one exp shared by the distribution and the density (erf form); σ and its slope (tanh form). */
#include "op/elementwise.h"
#include "op/gelu/gelu.h"
static inline vn slope_erf(vn x) { vn e, q = vn_ncdf(x, &e); return q + x * e * 0.398942280401432678f; }
static inline vn slope_tanh(vn x) {
    vn z = x * x, s = vn_sigmoid(x * (z * 0.0713548162726f + 1.59576912161f));
    return s + s * (1.0f - s) * x * (z * 0.2140644488178f + 1.59576912161f); }
LM_EW_KERNEL2(run_tanh, v, w, v * slope_tanh(w))
LM_EW_KERNEL2(run_erf, v, w, v * slope_erf(w))
static lm_err run(const lm_call *c, int64_t tile, void *s) { return ((const lm_gelu_p *)c->p)->tanh ? run_tanh(c, tile, s) : run_erf(c, tile, s); }
LM_ONE_KERNEL(gelu_grad, lm_accepts_rows, lm_ew_tiles, run);
