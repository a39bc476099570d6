/* rmsnorm_grad_w.h — dw_j = Σ rows (and groups) dy·x·rstd, in token order. Can be added to. d = length of w. */
#ifndef LM_OP_RMSNORM_GRAD_W_H
#define LM_OP_RMSNORM_GRAD_W_H
#include "op/op.h"
typedef struct { int64_t d; } lm_rmsnorm_grad_w_p;
extern const lm_op lm_op_rmsnorm_grad_w;
lm_value *lm_rmsnorm_grad_w(lm_graph *g, lm_value *dy, lm_value *x, lm_value *rstd, int64_t d);
#endif
