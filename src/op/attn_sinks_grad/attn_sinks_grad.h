/* attn_sinks_grad.h — the gradient of a sink, row by row: its weight times what flows into it.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_ATTN_SINKS_GRAD_H
#define LM_ATTN_SINKS_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_attn_sinks_grad;
/* y (N, H*D) and lse (N, H): of attn_sinks; s (H); dy (N, H*D), dl (N, H): the gradients of y and lse, NULL is zero -> (N, H), to be summed over the rows. */
lm_value *lm_attn_sinks_grad(lm_graph *g, lm_value *y, lm_value *lse, lm_value *s, lm_value *dy, lm_value *dl);
#endif
