/* layernorm_back.h — what the backward has to do around one layernorm, reading its rows once:
 *
 *   s (output 0) = [h +] dx, with dx as layernorm_grad has it: the gradient of the residual stream
 *   sum_rows dy x̂ (1), sum_rows dy (2, if wanted): gradients of w and b;  sum_rows s (3, if wanted): of the bias before the residual
 *   y (4, if wanted) = layernorm(x, w, b) once more; mean and rstd are then made again and not read
 * Inputs dy, x, w, mean, rstd, h, b. Made by unite.c. Sums can be added to. */
#ifndef LM_OP_LAYERNORM_BACK_H
#define LM_OP_LAYERNORM_BACK_H
#include "op/op.h"
enum { LM_NORM_BACK_DB = 1 << 2, LM_NORM_BACK_DS = 1 << 3, LM_NORM_BACK_Y = 1 << 4 };
typedef struct { float eps; uint32_t outs; } lm_layernorm_back_p;      /* outs: a bit per output there is */
extern const lm_op lm_op_layernorm_back;
#endif
