/* swiglu_simd.c — 12 bytes, one exp, one division per element; rounds as mul(silu(a), b) does. */
#include "op/elementwise.h"
LM_EW_KERNEL2(run, v, w, v / (1.0f + vn_exp(-v)) * w)
LM_ONE_KERNEL(swiglu, lm_accepts_rows, lm_ew_tiles, run);
