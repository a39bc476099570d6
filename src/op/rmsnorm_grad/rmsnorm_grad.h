/* rmsnorm_grad.h — dx of rmsnorm: with g = dy·(w + offset): dx = rstd·g - x·rstd³·mean(g·x). */
#ifndef LM_OP_RMSNORM_GRAD_H
#define LM_OP_RMSNORM_GRAD_H
#include "op/op.h"
typedef struct { float offset; } lm_rmsnorm_grad_p;
extern const lm_op lm_op_rmsnorm_grad;
lm_value *lm_rmsnorm_grad(lm_graph *g, lm_value *dy, lm_value *x, lm_value *w, lm_value *rstd, float offset);
#endif
