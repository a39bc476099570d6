/* attn_sink_grad.h — the gradient of attn_sink: what flows on into attention's o and lse, and into the sink, row by row.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_ATTN_SINK_GRAD_H
#define LM_ATTN_SINK_GRAD_H
#include "op/op.h"
extern const lm_op lm_op_attn_sink_grad;
/* dy and o (N, H*D), lse (N, H), s (H), dl (N, H): of lse', NULL is zero -> do; outputs 1 and 2 are dlse and, to be summed over the rows, ds (N, H). */
lm_value *lm_attn_sink_grad(lm_graph *g, lm_value *dy, lm_value *o, lm_value *lse, lm_value *s, lm_value *dl);
#endif
