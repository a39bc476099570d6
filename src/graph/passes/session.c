/* session.c — rows that mix tokens (attention) become their paged form: write this step's keys, then read pages. That form has output 0 alone: a graph that reads
 * another one (lse) is refused, since what was left of the row would see this step's tokens only. */
#include "graph/graph_int.h"
static bool is_read(lm_graph *g, const lm_value *v) {
    for (int i = 0; i < g->n_output; i++) if (g->output[i].v == v) return true;
    return lm_graph_readers(g, v) > 0;
}
lm_err lm_pass_session(lm_graph *g, lm_paged *pg, int *n_layer) {
    LM_TRY(g->err);
    int n = g->n_node, layer = 0;
    for (int i = 0; i < n; i++) {
        lm_node *x = g->node[i];
        if (!x->op->session) continue;
        for (int o = 1; o < x->n_out; o++)
            if (is_read(g, x->out[o])) return lm_graph_fail(g, LM_E_UNSUPPORTED, "%s: output %d is read, and its paged form has none", x->op->name, o);
        pg->layer = layer++;
        g->block = x->block;
        lm_value *v = x->op->session(g, pg, x->params, x->in);
        if (!v) return g->err ? g->err : lm_graph_fail(g, LM_E_INTERNAL, "%s: no session form came back", x->op->name);
        v->node->order = x->order;
        lm_replace(g, x->out[0], v);
        LM_TRY(g->err);
    }
    g->block = -1;
    if (n_layer) *n_layer = layer;
    return LM_OK;
}
