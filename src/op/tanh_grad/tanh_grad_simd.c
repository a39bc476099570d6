/* tanh_grad_simd.c — memory bound: 12 bytes per element. */
#include "op/elementwise.h"
LM_EW_KERNEL2(run, v, w, v * (1.0f - w * w))
LM_ONE_KERNEL(tanh_grad, lm_accepts_rows, lm_ew_tiles, run);
