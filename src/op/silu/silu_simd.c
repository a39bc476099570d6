/* silu_simd.c — one exp and one division per element. */
#include "op/elementwise.h"
LM_EW_KERNEL1(run, v, v / (1.0f + vn_exp(-v)))
LM_ONE_KERNEL(silu, lm_accepts_rows, lm_ew_tiles, run);
