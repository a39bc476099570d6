/* gelu_simd.c — the tanh form as x·σ(2u): one exp, one division, nothing cancels. The exact form: vmath.h's Φ. */
#include "op/elementwise.h"
#include "op/gelu/gelu.h"
static inline vn gelu_tanh(vn x) { return x / (1.0f + vn_exp(x * (x * x * -0.0713548162726f - 1.59576912161f))); }
static inline vn gelu_erf(vn x) { vn e; return x * vn_ncdf(x, &e); }
LM_EW_KERNEL1(run_tanh, v, gelu_tanh(v))
LM_EW_KERNEL1(run_erf, v, gelu_erf(v))
static lm_err run(const lm_call *c, int64_t tile, void *s) { return ((const lm_gelu_p *)c->p)->tanh ? run_tanh(c, tile, s) : run_erf(c, tile, s); }
LM_ONE_KERNEL(gelu, lm_accepts_rows, lm_ew_tiles, run);
