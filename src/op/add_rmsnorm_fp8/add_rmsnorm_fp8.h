/* add_rmsnorm_fp8.h — s = a + b (output 0), rstd (1), and y = rmsnorm(s, w) in e4m3 as quant_fp8 makes it (2 to 5, counts 6); y is not kept. Rows of a
 * multiple of 128. A device's plans have it by unite.c.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_ADD_RMSNORM_FP8_H
#define LM_ADD_RMSNORM_FP8_H
#include "op/quant_fp8/quant_fp8.h"
#include "op/rmsnorm/rmsnorm.h"
extern const lm_op lm_op_add_rmsnorm_fp8;
typedef struct { lm_rmsnorm_p norm; lm_quant_fp8_p to; } lm_add_rmsnorm_fp8_p;
#endif
