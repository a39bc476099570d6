/* attn_grad.h — the gradient of attn: P is recomputed block by block from q, k and lse; nothing of size T×T is kept.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_ATTN_GRAD_H
#define LM_ATTN_GRAD_H
#include "op/attn/attn.h"
extern const lm_op lm_op_attn_grad;
/* Returns dq; outputs 1 and 2 are dk and dv. go (N, H*D) and glse (N, H) are the gradients of o and lse; either may be NULL (zero). */
lm_value *lm_attn_grad(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *o, lm_value *lse, lm_value *go, lm_value *glse,
                       const lm_attn_p *p);
#endif
