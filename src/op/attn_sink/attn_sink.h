/* attn_sink.h — attention that may look at nothing: a learned logit per head that joins the softmax's denominator and has no value.
 *
 * A softmax has to give its weight to some key even where none is wanted; heads then learn to give it to the first tokens (Xiao et al. 2023), and a
 * window that drops those breaks them. A sink takes the weight instead (gpt-oss; s = 0 is Miller's "off by one"). What attention without it found is all
 * that is needed: of its o and lse, y = o / (1 + exp(s - lse)) and lse' = log(exp(lse) + exp(s)), so attention's kernels, forward and backward, know of no
 * sinks. The same as one more key of score s (after scale and cap) and value zero, which every token sees, whatever its document and window.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.
 * Errors:   LM_E_SHAPE from the shape rule; LM_E_UNSUPPORTED from lm_pass_session: attn_paged keeps no lse, so there is no decoding with sinks yet. */
#ifndef LM_ATTN_SINK_H
#define LM_ATTN_SINK_H
#include "op/attn/attn.h"
extern const lm_op lm_op_attn_sink;
/* o (N, H*D), lse (N, H), s (H) -> y like o; output 1 is lse', like lse. */
lm_value *lm_attn_sink(lm_graph *g, lm_value *o, lm_value *lse, lm_value *s);
/* Attention (attn.h) with the sinks s (n_head), NULL: without. Outputs as lm_attn's. */
lm_value *lm_attn_with_sinks(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *s, const lm_attn_p *p);
#endif
