/* add_simd.c — memory bound: 12 bytes per element. */
#include "op/elementwise.h"
LM_BROADCAST_KERNEL(run, +)
LM_ONE_KERNEL(add, lm_accepts_rows, lm_ew_tiles, run);
