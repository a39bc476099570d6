/* layernorm_grad_w.h — dw_j = Σ rows dy·(x - mean)·rstd, in token order. Can be added to. */
#ifndef LM_OP_LAYERNORM_GRAD_W_H
#define LM_OP_LAYERNORM_GRAD_W_H
#include "op/op.h"
extern const lm_op lm_op_layernorm_grad_w;
lm_value *lm_layernorm_grad_w(lm_graph *g, lm_value *dy, lm_value *x, lm_value *mean, lm_value *rstd);
#endif
