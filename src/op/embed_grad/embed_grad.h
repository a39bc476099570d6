/* embed_grad.h — dW[ids[i]] += dy[i], i in token order; (V, d). Can be added to. An id outside [0, V) makes run() return LM_E_RANGE. */
#ifndef LM_OP_EMBED_GRAD_H
#define LM_OP_EMBED_GRAD_H
#include "op/op.h"
typedef struct { int64_t rows; } lm_embed_grad_p;
extern const lm_op lm_op_embed_grad;
lm_value *lm_embed_grad(lm_graph *g, lm_value *ids, lm_value *dy, int64_t rows);
/* The same for scatter_add, whose row differs in name alone. */
lm_err lm_rows_add_shape(lm_ctx *ctx, const lm_call *c, lm_type *out);
void lm_rows_add_ref(const lm_call *c);
void lm_rows_add_cost(const lm_call *c, double *flops, double *bytes);
#endif
