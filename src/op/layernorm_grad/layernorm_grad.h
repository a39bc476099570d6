/* layernorm_grad.h — dx of layernorm: g = dy·w, h = (x - mean)·rstd: dx = rstd·(g - mean(g) - h·mean(g·h)). */
#ifndef LM_OP_LAYERNORM_GRAD_H
#define LM_OP_LAYERNORM_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_layernorm_grad;
lm_value *lm_layernorm_grad(lm_graph *g, lm_value *dy, lm_value *x, lm_value *w, lm_value *mean, lm_value *rstd);
#endif
