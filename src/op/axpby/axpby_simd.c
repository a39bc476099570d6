/* axpby_simd.c — memory bound: 12 bytes per element. */
#include "op/elementwise.h"
#include "op/axpby/axpby.h"
LM_EW_KERNEL2(run, v, w, v * ((const lm_axpby_p *)c->p)->alpha + w * ((const lm_axpby_p *)c->p)->beta)
LM_ONE_KERNEL(axpby, lm_accepts_rows, lm_ew_tiles, run);
