/* recompute.c — trade flops for memory (Chen et al. 2016): forward values that only the backward still needs are computed again just
 * before it needs them.
 *
 * Level 1 recomputes what is cheap (rows that cost at most a few flops per byte: norms, activations, rotations); level 1+k also whole
 * blocks 0..k-1, of which only the incoming residual stays. A clone reads the same inputs with the same kernel, so its bits are the
 * original's. Rows with effects are never cloned.
 *
 * A cheap row is recomputed only if that makes less to keep: the inputs that nothing else keeps against the outputs that the backward
 * reads. A norm of a residual and the activation of a matrix product gain; the residual's own sum does not, it would keep both summands.
 * What is small beside the row's results (a norm's statistics, where nobody reads the norm again) is kept as well: to make it again is to read and
 * write the whole row. Decided in the order of the schedule, since what one row keeps is free for the next. */
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
typedef struct { lm_graph *g; lm_node **copy; bool *stay; int level, n_old; double at; } state;      /* stay: by node, cheap but better kept */

/* ---- what a clone would keep ------------------------------------------------------------------------------------------------------- */
/* by value: read by the backward; alive until then (of views: the value they look into) */
typedef struct { bool *needed, *kept; } ledger;
static lm_value *root_of(lm_value *v) {
    while (v && v->node && v->node->op->view) v = v->node->in[0];
    return v;
}
static bool forward_value(const lm_value *v) { return v && v->node && !v->node->backward; }
static size_t bytes_of(const lm_value *v) {
    size_t n = 0;
    lm_storage_bytes(v->type.dtype, v->type.quant, LM_PLAIN, v->type.rank, v->type.dim, &n);
    return n;
}
/* Bytes of the inputs that nothing keeps yet; keep: now they are. */
static size_t inputs_of(const lm_node *n, ledger *l, bool keep) {
    size_t bytes = 0;
    for (int k = 0; k < n->n_in; k++) {
        lm_value *r = root_of(n->in[k]);
        bool again = false;
        for (int q = 0; q < k; q++) again |= root_of(n->in[q]) == r;
        if (!forward_value(r) || r->state || l->kept[r->id] || again) continue;
        bytes += bytes_of(r);
        if (keep) l->kept[r->id] = true;
    }
    return bytes;
}
enum { SMALL = 64 };                                /* a row's results are so many times as large */
static bool whole_block(const state *s, const lm_node *n) { return n->block >= 0 && n->block < s->level - 1; }
static lm_err choose(state *s) {
    lm_graph *g = s->g;
    lm_node **list; int n_list;
    LM_TRY(lm_graph_schedule(g, &list, &n_list));
    ledger l = { lm_arena_alloc(g->a, (size_t)g->n_value + 1), lm_arena_alloc(g->a, (size_t)g->n_value + 1) };
    if (!l.needed || !l.kept) return g->err = LM_E_NOMEM;
    for (int i = 0; i < n_list; i++)
        for (int k = 0; list[i]->backward && k < list[i]->n_in; k++) {
            lm_value *r = root_of(list[i]->in[k]);
            if (!forward_value(r)) continue;
            l.needed[r->id] = true;
            l.kept[r->id] |= !clonable(r->node, s->level);
        }
    for (int i = 0; i < n_list; i++) {
        const lm_node *n = list[i];
        if (n->backward || n->op->view || !clonable(n, s->level) || whole_block(s, n)) continue;
        size_t out = 0, all = 0; bool any = false;
        for (int k = 0; k < n->n_out; k++) all += bytes_of(n->out[k]);
        for (int k = 0; k < n->n_out; k++) if (l.needed[n->out[k]->id]) { any = true; out += l.kept[n->out[k]->id] ? 0 : bytes_of(n->out[k]); }
        if (!any) continue;
        /* what is made over a piece that only it reads (plan.c, over) takes no memory of its own, and what it was made from is gone */
        const bool over = n->op->beside && n->in[0] && n->in[0]->node && n->in[0]->node->op->view;
        s->stay[n->id] = over || out <= all / SMALL || inputs_of(n, &l, false) >= out;
        if (!s->stay[n->id]) { inputs_of(n, &l, true); continue; }
        for (int k = 0; k < n->n_out; k++) l.kept[n->out[k]->id] |= l.needed[n->out[k]->id];
    }
    return LM_OK;
}

/* ---- cloning ---------------------------------------------------------------------------------------------------------------------- */
/* The value as the backward should read it: itself, or the same output of a clone placed just before `at`. */
static lm_value *again(state *s, lm_value *v, int depth) {
    lm_node *n = v->node;
    if (!n || n->id >= s->n_old || !clonable(n, s->level) || s->stay[n->id] || depth > 64) return v;
    lm_node *c = s->copy[n->id];
    if (!c) {
        lm_value *in[LM_MAX_IN];
        bool full = whole_block(s, n);
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
    if (!(s.copy = lm_arena_alloc(g->a, (size_t)(g->n_node + 1) * sizeof *s.copy)) ||
        !(s.stay = lm_arena_alloc(g->a, (size_t)g->n_node + 1)))
        return g->err = LM_E_NOMEM;
    LM_TRY(choose(&s));
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
