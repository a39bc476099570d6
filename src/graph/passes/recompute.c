/* recompute.c — trade flops for memory (Chen et al. 2016): forward values that only the backward still needs are computed again just before it needs them.
 *
 * Level 1 recomputes what is cheap (rows that cost at most a few flops per byte: norms, activations, rotations); level 1+k also whole blocks 0..k-1, of which only
 * the incoming residual stays. A clone reads the same inputs with the same kernel, so its bits are the original's. Rows with effects are never cloned. */
#include "graph/graph_int.h"

static bool cheap(const lm_node *n) {
    lm_call c; double flops, bytes;
    lm_call_of(n, &c);
    lm_op_cost(&c, &flops, &bytes);
    return !n->op->mm_at && flops <= 16.0 * bytes;
}
static bool clonable(const lm_node *n, int level) {
    if (n->backward || n->op->pure_write || n->acc || n->op->view) return n->op->view && !n->backward;
    for (int i = 0; i < n->n_out; i++) if (n->op->alias[i]) return false;
    return cheap(n) || (n->block >= 0 && n->block < level - 1);
}
typedef struct { lm_graph *g; lm_node **copy; int level, n_old; double at; } state;
/* The value as the backward should read it: itself, or the same output of a clone placed just before `at`. */
static lm_value *again(state *s, lm_value *v, int depth) {
    lm_node *n = v->node;
    if (!n || n->id >= s->n_old || !clonable(n, s->level) || depth > 64) return v;
    lm_node *c = s->copy[n->id];
    if (!c) {
        lm_value *in[LM_MAX_IN];
        bool full = n->block >= 0 && n->block < s->level - 1;
        for (int k = 0; k < n->n_in; k++) {
            lm_value *x = n->in[k];
            /* inside a fully recomputed block go on; otherwise the inputs of a cheap node are read as saved, unless they are views */
            bool inner = x && x->node && ((full && x->node->block == n->block) || x->node->op->view);
            in[k] = inner ? again(s, x, depth + 1) : x;
        }
        lm_node tmp = *n;
        for (int k = 0; k < n->n_in; k++) tmp.in[k] = in[k];
        c = lm_node_clone(s->g, &tmp);
        if (!c) return NULL;
        c->backward = true; c->order = s->at - 1e-3 * (65 - depth);
        s->copy[n->id] = c;
    }
    return c->out[v->out];
}
lm_err lm_pass_recompute(lm_graph *g, int level) {
    LM_TRY(g->err);
    if (level <= 0) return LM_OK;
    state s = { .g = g, .level = level, .n_old = g->n_node };
    if (!(s.copy = lm_arena_alloc(g->a, (size_t)(g->n_node + 1) * sizeof *s.copy))) return g->err = LM_E_NOMEM;
    for (int i = 0; i < s.n_old; i++) {
        lm_node *n = g->node[i];
        if (!n->backward) continue;
        s.at = n->order;
        for (int k = 0; k < n->n_in; k++) {
            lm_value *v = n->in[k];
            if (!v || !v->node || v->node->backward) continue;
            lm_value *w = again(&s, v, 0);
            if (!w) return g->err;
            n->in[k] = w;
        }
    }
    return g->err;
}
