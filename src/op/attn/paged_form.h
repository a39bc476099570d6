/* paged_form.h — attention as a row of a session: keys and values are written to pages, and read from them. What attn and attn_sinks become.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_UNSUPPORTED where there is no such form, said on the graph; then NULL. */
#ifndef LM_ATTN_PAGED_FORM_H
#define LM_ATTN_PAGED_FORM_H
#include "op/attn/attn.h"
/* in: q, k, v; sinks (n_head), NULL: without. */
lm_value *lm_attn_paged_form(lm_graph *g, const lm_paged *pg, const lm_attn_p *p, lm_value *const *in, lm_value *sinks);
#endif
