/* rmsnorm_back.h — what the backward has to do around one rmsnorm of whole rows, reading them once:
 *
 *   s (output 0) = [h +] dx, with dx as rmsnorm_grad has it: the gradient of the residual stream
 *   sum_rows dy x rstd (1): gradient of w;  sum_rows s (3, if wanted): of a bias before the residual
 *   y (4, if wanted) = rmsnorm(x, w) once more; rstd is then made again and not read.  Output 2 is never there: layernorm_back's is the bias's.
 * Inputs dy, x, w, rstd, h. Made by unite.c. Sums can be added to. */
#ifndef LM_OP_RMSNORM_BACK_H
#define LM_OP_RMSNORM_BACK_H
#include "op/op.h"
enum { LM_RMSNORM_BACK_DS = 1 << 3, LM_RMSNORM_BACK_Y = 1 << 4 };
typedef struct { float eps, offset; uint32_t outs; } lm_rmsnorm_back_p;      /* outs: a bit per output there is */
extern const lm_op lm_op_rmsnorm_back;
#endif
