/* attn_sinks.h — attention that may look at nothing: a learned logit per head that joins the softmax's denominator and has no value.
 *
 * A softmax has to give its weight to some key even where none is wanted; heads then learn to give it to the first tokens (Xiao et al. 2023), and a
 * window that drops those breaks them. A sink takes the weight instead (gpt-oss; s = 0 is Miller's "off by one"). The same as one more key of score s (after
 * scale and cap) and value zero, which every token sees, whatever its document and window. Of what attention without it found, o and lse:
 * y = o / (1 + exp(s - lse)) and lse' = log(exp(lse) + exp(s)); so attention's kernels are used as they are, and its gradient, given y and lse', is right
 * without knowing of sinks. All else is as in attn.h.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_ATTN_SINKS_H
#define LM_ATTN_SINKS_H
#include "op/attn/attn.h"
extern const lm_op lm_op_attn_sinks;
/* As lm_attn, with the sinks s (n_head) -> y; output 1 is lse'. */
lm_value *lm_attn_sinks(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *s, const lm_attn_p *p);
#endif
