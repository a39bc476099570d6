/* sumsq_simd.c — memory bound: 4 bytes per element. */
#include "op/blocksum.h"
LM_BLOCKSUM_KERNEL(sumsq, v, v * v);
