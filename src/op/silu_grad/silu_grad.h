/* silu_grad.h — dx = dy·s(1 + x(1 - s)), s = σ(x). */
#ifndef LM_OP_SILU_GRAD_H
#define LM_OP_SILU_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_silu_grad;
lm_value *lm_silu_grad(lm_graph *g, lm_value *dy, lm_value *x);
#endif
