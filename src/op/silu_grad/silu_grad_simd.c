/* silu_grad_simd.c — one exp and one division per element. */
#include "op/elementwise.h"
static inline vn dsilu(vn x) { vn s = vn_sigmoid(x); return s * (1.0f + x * (1.0f - s)); }
LM_EW_KERNEL2(run, v, w, v * dsilu(w))
LM_ONE_KERNEL(silu_grad, lm_accepts_rows, lm_ew_tiles, run);
