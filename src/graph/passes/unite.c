/* unite.c — rows that do at once what several nodes do: where those read the same memory, or one reads what the other just wrote. On a device all of
 * them; on this processor those that say so (lm_op.here), in plans that only serve: a barrier less, one pass over what both read.
 *
 * A row says what it replaces by statements over letters, for example
 *   "S=add(a,b) Y,M,R=layernorm(S,w,c)"          unite_in "abwc", unite_out "SYMR"
 * Capital letters are values that the group makes, small ones come from outside (absent where the matched node lacks that input). `?` before a
 * statement: it may be missing, and so are its outputs. A value of the group that is no output must have no reader outside. Outputs may be
 * added to a state where the row allows that. All nodes of a group belong to the forward, or all to the backward. Unlike fuse.c's patterns
 * these have several roots and own no gradient, so the pass runs last but for storage.
 *
 * `!` before the first statement: the row's kernels may want bf16, so it is looked for when storage.c has run, and what it makes must be stored as
 * what it replaces was.
 *
 * A group must not read what is made from its own results by others: looked for by a walk over what its inputs come from. */
#include <ctype.h>
#include <string.h>
#include "graph/graph_int.h"

enum { MAX_GROUP = 8 };
typedef struct { lm_value *v['z' + 1]; bool bound['z' + 1]; lm_node *node[MAX_GROUP]; int n; } match;
typedef struct { lm_graph *g; lm_dev *dev; uint64_t features; bool stored; const lm_op *op; const bool *live; int *uses; int *seen, stamp; lm_node **stack; } state;

static bool member(const match *m, const lm_node *n) { for (int i = 0; i < m->n; i++) if (m->node[i] == n) return true; return false; }
/* Is node n the statement s ("X,Y=name(a,b)")? Binds its letters. */
static bool is(const state *st, const char *s, lm_node *n, match *m) {
    if (n->dead || !st->live[n->id] || member(m, n) || m->n == MAX_GROUP) return false;
    const char *eq = strchr(s, '='), *open = eq ? strchr(eq, '(') : NULL;
    if (!open || strncmp(n->op->name, eq + 1, (size_t)(open - eq - 1)) || n->op->name[open - eq - 1]) return false;
    for (int i = 0; i < m->n; i++) if (m->node[i] && m->node[i]->backward != n->backward) return false;
    match q = *m;
    bool tied = m->n == 0;
    int k = 0;
    for (const char *a = open + 1; *a != ')'; a++) {
        if (*a == ',') continue;
        lm_value *x = k < n->n_in ? n->in[k] : NULL;
        k++;
        if (q.bound[(int)*a]) { if (q.v[(int)*a] != x) return false; tied |= x != NULL; }
        else if (isupper((unsigned char)*a)) return false;
        else { q.bound[(int)*a] = true; q.v[(int)*a] = x; }
    }
    if (!tied || n->n_in > k) return false;
    k = 0;
    for (const char *a = s; a < eq; a++) if (*a != ',') { if (k == n->n_out) return false; q.bound[(int)*a] = true; q.v[(int)*a] = n->out[k++]; }
    if (k < n->n_out) return false;
    q.node[q.n++] = n;
    *m = q;
    return true;
}
static int out_of(const lm_op *op, const match *m, const lm_value *v) {
    for (int o = 0; op->unite_out[o]; o++) if (m->v[(int)op->unite_out[o]] == v) return o;
    return -1;
}
/* Inner values are read by the group alone; what is added to a state may be. */
static bool closed(const state *s, const match *m) {
    for (int i = 0; i < m->n; i++) for (int k = 0; m->node[i] && k < m->node[i]->n_out; k++) {
        const lm_node *n = m->node[i];
        const int o = out_of(s->op, m, n->out[k]);
        if (n->acc >> k & 1 && (o < 0 || !(s->op->acc_ok >> o & 1))) return false;
        if (o >= 0) continue;
        int inside = 0;
        for (int j = 0; j < m->n; j++) for (int q = 0; m->node[j] && q < m->node[j]->n_in; q++) inside += m->node[j]->in[q] == n->out[k];
        if (s->uses[n->out[k]->id] != inside) return false;
    }
    return true;
}
/* Does any input of the group depend on the group by way of other nodes? */
static bool cyclic(state *s, const match *m) {
    int n = 0;
    s->stamp++;
    for (int i = 0; i < m->n; i++) for (int k = 0; m->node[i] && k < m->node[i]->n_in; k++) {
        lm_node *p = m->node[i]->in[k] ? m->node[i]->in[k]->node : NULL;
        if (p && !member(m, p) && s->seen[p->id] != s->stamp) { s->seen[p->id] = s->stamp; s->stack[n++] = p; }
    }
    while (n) {
        const lm_node *x = s->stack[--n];
        for (int k = 0; k < x->n_in; k++) {
            lm_node *p = x->in[k] ? x->in[k]->node : NULL;
            if (!p) continue;
            if (member(m, p)) return true;
            if (s->seen[p->id] != s->stamp) { s->seen[p->id] = s->stamp; s->stack[n++] = p; }
        }
    }
    return false;
}
/* Match all statements of a pattern, the first at node `first`. */
static bool group(const state *s, const char *pattern, lm_node *first, match *m, const void **params) {
    char text[256];
    *m = (match){0};
    if (strlen(pattern) >= sizeof text) return false;
    strcpy(text, pattern);
    int at = 0; char *save = NULL;
    for (char *t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save), at++) {
        const bool optional = *t == '?';
        const int before = m->n;
        params[at] = NULL;
        if (!at) { if (!is(s, t, first, m)) return false; }
        else
            for (int i = 0; i < s->g->n_node && m->n == before; i++) is(s, t + optional, s->g->node[i], m);
        if (m->n == before) { if (!optional) return false; continue; }
        params[at] = m->node[before]->params;
    }
    return true;
}
/* Is there a kernel for the row with these inputs? */
static bool has_kernel(const state *s, const void *params, int n_in, lm_value *const *in, int n_out, lm_value *const *old, uint32_t acc) {
    lm_node n = { .op = s->op, .params = (void *)(uintptr_t)params, .n_in = n_in };
    lm_type ot[LM_MAX_OUT];
    lm_call c;
    memset(ot, 0, sizeof ot);
    for (int i = 0; i < n_in; i++) n.in[i] = in[i];
    lm_call_of(&n, &c);
    c.n_out = s->op->n_out; c.ctx = s->g->ctx; c.acc = acc;
    if (s->op->shape(s->g->ctx, &c, ot)) return false;
    for (int i = 0; i < n_out && s->stored; i++) if (old[i] && old[i]->type.dtype != ot[i].dtype) return false;
    for (int i = 0; i < s->op->n_out; i++) c.out[i] = lm_tensor_of(NULL, ot[i].dtype, ot[i].rank, ot[i].dim);
    return lm_kernel_choose(s->op, &c, s->dev ? LM_DEV_CUDA : LM_DEV_CPU, s->features);
}
/* Versions of a state are written in order of emission: a row that writes one stands where the first stood whose write it took over. */
static void take_place(lm_graph *g, lm_node *now, const match *m) {
    lm_node *old = NULL;
    for (int i = 0; i < m->n; i++)
        for (int k = 0; m->node[i] && k < m->node[i]->n_out; k++)
            if (m->node[i]->op->alias[k] && m->node[i]->out[k]->state && (!old || m->node[i]->id < old->id)) old = m->node[i];
    if (!old) return;
    const int at = old->id;
    old->id = now->id; now->id = at;
    g->node[old->id] = old; g->node[at] = now;
    g->n_counted = 0;
}
static lm_err replace(state *s, const match *m, const void *const *params, bool *done) {
    lm_graph *g = s->g;
    lm_value *in[LM_MAX_IN]; const lm_type *type[LM_MAX_IN]; lm_value *old[LM_MAX_OUT]; lm_value *to[LM_MAX_OUT];
    char p[256] = {0};
    uint32_t outs = 0, acc = 0;
    int n_in = 0, n_out = 0;
    for (; s->op->unite_in[n_in]; n_in++) { in[n_in] = m->v[(int)s->op->unite_in[n_in]]; type[n_in] = in[n_in] ? &in[n_in]->type : NULL; }
    for (; s->op->unite_out[n_out]; n_out++) {
        old[n_out] = m->v[(int)s->op->unite_out[n_out]]; to[n_out] = NULL;
        if (!old[n_out]) continue;
        outs |= 1u << n_out;
        if (old[n_out]->node->acc >> old[n_out]->out & 1) { acc |= 1u << n_out; to[n_out] = old[n_out]->node->acc_state[old[n_out]->out]; }
    }
    *done = false;
    if (s->op->params_bytes > sizeof p) return lm_graph_fail(g, LM_E_INTERNAL, "%s: params over 256 bytes", s->op->name);
    if (s->op->unite && !s->op->unite(params, type, outs, p)) return LM_OK;
    if (!has_kernel(s, p, n_in, in, n_out, old, acc)) return LM_OK;
    const bool back = g->backward; const int block = g->block;
    g->backward = m->node[0]->backward; g->block = m->node[0]->block;
    lm_value *v = lm_emit(g, s->op, p, n_in, in);
    g->backward = back; g->block = block;
    if (!v) return g->err;
    v->node->order = m->node[0]->order; v->node->acc = acc;
    for (int o = 0; o < n_out; o++) {
        v->node->acc_state[o] = to[o];
        if (old[o] && !to[o]) lm_replace(g, old[o], v->node->out[o]);
    }
    for (int i = 0; i < m->n; i++) m->node[i]->dead = true;
    take_place(g, v->node, m);
    *done = true;
    return g->err;
}
/* Dead nodes keep their accumulation bits; without them they are seen as unused. */
static void bury(const match *m) { for (int i = 0; i < m->n; i++) m->node[i]->acc = 0; }
static lm_err fresh(state *s) {
    bool *live;
    LM_TRY(lm_graph_live(s->g, &live));
    LM_TRY(lm_graph_uses(s->g, &s->uses));
    s->live = live;
    s->seen = lm_arena_alloc(s->g->a, (size_t)(s->g->n_node + 1) * sizeof *s->seen);
    s->stack = lm_arena_alloc(s->g->a, (size_t)(s->g->n_node + 1) * sizeof *s->stack);
    s->stamp = 0;
    return s->seen && s->stack ? LM_OK : (s->g->err = LM_E_NOMEM);
}
lm_err lm_pass_unite(lm_graph *g, lm_dev *dev, uint64_t features, bool stored, int *n_united) {
    LM_TRY(g->err);
    state s = { .g = g, .dev = dev, .features = dev ? dev->features : features ? features : lm_cpu_features_of(g->ctx), .stored = stored };
    int count = 0;
    for (int o = 0; lm_ops[o]; o++) for (int a = 0; lm_ops[o]->unites && lm_ops[o]->unites[a] && (dev || lm_ops[o]->here); a++) {
        const char *pattern = lm_ops[o]->unites[a];
        if ((*pattern == '!') != stored) continue;
        s.op = lm_ops[o];
        LM_TRY(fresh(&s));
        for (int i = 0, n = g->n_node; i < n; i++) {
            match m; const void *params[MAX_GROUP]; bool done;
            if (!group(&s, pattern + stored, g->node[i], &m, params) || !closed(&s, &m) || cyclic(&s, &m)) continue;
            LM_TRY(replace(&s, &m, params, &done));
            if (!done) continue;
            bury(&m);
            count++;
            LM_TRY(fresh(&s));
        }
    }
    if (n_united) *n_united = count;
    return g->err;
}
