/* softmax_grad.h — dx = s·y·(dy - Σ dy·y). */
#ifndef LM_OP_SOFTMAX_GRAD_H
#define LM_OP_SOFTMAX_GRAD_H
#include "op/softmax/softmax.h"
extern const lm_op lm_op_softmax_grad;
lm_value *lm_softmax_grad(lm_graph *g, lm_value *dy, lm_value *y, float scale);
#endif
