/* tanh_grad.h — dx = dy (1 - y²), y = tanh x. */
#ifndef LM_OP_TANH_GRAD_H
#define LM_OP_TANH_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_tanh_grad;
lm_value *lm_tanh_grad(lm_graph *g, lm_value *dy, lm_value *y);
#endif
