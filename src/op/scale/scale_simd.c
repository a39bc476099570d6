/* scale_simd.c — memory bound: 8 bytes per element. */
#include "op/elementwise.h"
#include "op/scale/scale.h"
LM_EW_KERNEL1(run, v, v * ((const lm_scale_p *)c->p)->s)
LM_ONE_KERNEL(scale, lm_accepts_rows, lm_ew_tiles, run);
