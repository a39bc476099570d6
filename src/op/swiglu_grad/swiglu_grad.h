/* swiglu_grad.h — da = dy·b·silu'(a) (output 0), db = dy·silu(a) (output 1). */
#ifndef LM_OP_SWIGLU_GRAD_H
#define LM_OP_SWIGLU_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_swiglu_grad;
lm_value *lm_swiglu_grad(lm_graph *g, lm_value *dy, lm_value *a, lm_value *b);
#endif
