/* session.c — rows that mix tokens (attention) become their paged form: write this step's keys, then read pages. */
#include "graph/graph_int.h"
lm_err lm_pass_session(lm_graph *g, lm_paged *pg, int *n_layer) {
    LM_TRY(g->err);
    int n = g->n_node, layer = 0;
    for (int i = 0; i < n; i++) {
        lm_node *x = g->node[i];
        if (!x->op->session) continue;
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
