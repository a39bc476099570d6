/* tanh_simd.c — one exp and one division per element. */
#include "op/elementwise.h"
LM_EW_KERNEL1(run, v, vn_tanh(v))
LM_ONE_KERNEL(tanh, lm_accepts_rows, lm_ew_tiles, run);
