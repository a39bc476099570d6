/* gelu_grad.h — dx = dy·gelu'(x). */
#ifndef LM_OP_GELU_GRAD_H
#define LM_OP_GELU_GRAD_H
#include "op/gelu/gelu.h"
extern const lm_op lm_op_gelu_grad;
lm_value *lm_gelu_grad(lm_graph *g, lm_value *dy, lm_value *x, bool tanh_form);
#endif
