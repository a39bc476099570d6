/* schedule.c — which nodes live, and in what order they run.
 *
 * Live is what an output needs, what writes state, and what has effects. The order is a topological sort by data edges and by state
 * versions (every reader of a version before the writer of the next), taking the smallest `order` key among the ready nodes, so emission
 * order is kept where it is legal and passes can move a node by its key. */
#include <string.h>
#include "graph/graph_int.h"

typedef struct { lm_node **h; int n; } heap;
static bool before(const lm_node *a, const lm_node *b) { return a->order < b->order || (a->order == b->order && a->id < b->id); }
static void push(heap *q, lm_node *x) {
    int i = q->n++;
    for (; i && before(x, q->h[(i - 1) / 2]); i = (i - 1) / 2) q->h[i] = q->h[(i - 1) / 2];
    q->h[i] = x;
}
static lm_node *pop(heap *q) {
    lm_node *top = q->h[0], *x = q->h[--q->n];
    int i = 0;
    for (int c; (c = 2 * i + 1) < q->n; i = c) {
        if (c + 1 < q->n && before(q->h[c + 1], q->h[c])) c++;
        if (!before(q->h[c], x)) break;
        q->h[i] = q->h[c];
    }
    if (q->n) q->h[i] = x;
    return top;
}
static bool has_effect(const lm_node *n) {
    if (n->dead) return false;                                          /* another does it now */
    if (n->op->pure_write || n->acc) return true;
    for (int i = 0; i < n->n_out; i++) if (n->op->alias[i] && n->out[i]->state) return true;
    return false;
}
static void mark(lm_graph *g, bool *live, lm_node **stack) {
    int n = 0;
    for (int i = 0; i < g->n_node; i++) if (has_effect(g->node[i])) { live[i] = true; stack[n++] = g->node[i]; }
    for (int i = 0; i < g->n_output; i++) {
        lm_node *p = g->output[i].v->node;
        if (p && !live[p->id]) { live[p->id] = true; stack[n++] = p; }
    }
    while (n) {
        lm_node *x = stack[--n];
        for (int k = 0; k < x->n_in; k++) {
            lm_node *p = x->in[k] ? x->in[k]->node : NULL;
            if (p && !live[p->id]) { live[p->id] = true; stack[n++] = p; }
        }
    }
}
/* Successors of every node in one array, to[first[i]] to to[first[i + 1]]: a pass that counts, a pass that fills. */
typedef struct { int *first, *to, *indeg, pass; } edges;
static void edge(edges *e, int from, int to) {
    if (from == to) return;
    if (!e->pass) { e->first[from + 1]++; e->indeg[to]++; }
    else e->to[e->first[from]++] = to;
}
/* For each state, who writes it and who writes or reads it, in order of emission: lists in one array, from first[v] to first[v + 1]. */
typedef struct { int *first, *node, *seen; } users;
static void note(users *u, int pass, const lm_value *s, int i) {
    if (!s || u->seen[s->id] == i) return;
    u->seen[s->id] = i;
    if (!pass) u->first[s->id + 1]++; else u->node[u->first[s->id]++] = i;
}
static void notes(users *u, int pass, const lm_node *n, int i, bool readers) {
    for (int k = 0; k < n->n_out; k++) {
        if (n->op->alias[k]) note(u, pass, n->out[k]->state, i);
        if (n->acc >> k & 1) note(u, pass, n->acc_state[k]->state, i);
    }
    for (int k = 0; readers && k < n->n_in; k++) if (n->in[k]) note(u, pass, n->in[k]->state, i);
}
static lm_err users_of(lm_graph *g, const bool *live, bool readers, users *u) {
    const int n = g->n_value;
    u->first = lm_arena_alloc(g->a, (size_t)(n + 2) * sizeof *u->first); u->seen = lm_arena_alloc(g->a, (size_t)(n + 1) * sizeof *u->seen);
    if (!u->first || !u->seen) return g->err = LM_E_NOMEM;
    for (int pass = 0; pass < 2; pass++) {
        for (int v = 0; v < n; v++) u->seen[v] = -1;
        for (int i = 0; i < g->n_node; i++) if (live[i]) notes(u, pass, g->node[i], i, readers);
        /* each had moved to the next one's start */
        if (pass) { for (int v = n; v > 0; v--) u->first[v] = u->first[v - 1]; u->first[0] = 0; continue; }
        for (int v = 0; v < n; v++) u->first[v + 1] += u->first[v];
        if (!(u->node = lm_arena_alloc(g->a, (size_t)(u->first[n] + 1) * sizeof *u->node))) return g->err = LM_E_NOMEM;
    }
    return LM_OK;
}
/* Order of a state's users: a node that reads version k comes before the writer of version k+1. Versions are made in emission order of the
 * writers; accumulations into a state come in emission order after every alias write that precedes them. */
static void state_edges(const lm_graph *g, const users *w, const users *u, edges *e) {
    for (int v = 0; v < g->n_value; v++) {
        const lm_value *s = g->value[v];
        if (s->kind != LM_V_STATE || w->first[v] == w->first[v + 1]) continue;
        int next = w->first[v];                                      /* of the writers: the first that is not before the user */
        for (int a = u->first[v]; a < u->first[v + 1]; a++) {
            const int i = u->node[a];
            while (next < w->first[v + 1] && w->node[next] < i) next++;
            const bool wi = next < w->first[v + 1] && w->node[next] == i;
            for (int b = w->first[v]; b < w->first[v + 1]; b++) {
                const int k = w->node[b];
                if (k == i) continue;
                if (wi) { if (i < k) edge(e, i, k); continue; }
                /* does i read a version that exists before k writes? then i first */
                bool early = true;
                for (int q = 0; q < g->node[i]->n_in; q++) {
                    const lm_value *x = g->node[i]->in[q];
                    if (x && x->state == s && x->node && x->node->id >= k) early = false;
                }
                if (early) edge(e, i, k);
            }
        }
    }
}
static lm_err edges_of(lm_graph *g, const bool *live, edges *e) {
    const int n = g->n_node;
    users w, u;
    LM_TRY(users_of(g, live, false, &w));
    LM_TRY(users_of(g, live, true, &u));
    e->first = lm_arena_alloc(g->a, (size_t)(n + 2) * sizeof *e->first); e->indeg = lm_arena_alloc(g->a, (size_t)(n + 1) * sizeof *e->indeg);
    if (!e->first || !e->indeg) return g->err = LM_E_NOMEM;
    for (e->pass = 0; e->pass < 2; e->pass++) {
        for (int i = 0; i < n; i++) {
            if (!live[i]) continue;
            for (int k = 0; k < g->node[i]->n_in; k++) if (g->node[i]->in[k] && g->node[i]->in[k]->node) edge(e, g->node[i]->in[k]->node->id, i);
        }
        state_edges(g, &w, &u, e);
        /* each had moved to the next one's start */
        if (e->pass) { for (int i = n; i > 0; i--) e->first[i] = e->first[i - 1]; e->first[0] = 0; continue; }
        for (int i = 0; i < n; i++) e->first[i + 1] += e->first[i];
        if (!(e->to = lm_arena_alloc(g->a, (size_t)(e->first[n] + 1) * sizeof *e->to))) return g->err = LM_E_NOMEM;
    }
    return LM_OK;
}
lm_err lm_graph_live(lm_graph *g, bool **out) {
    LM_TRY(g->err);
    bool *live = lm_arena_alloc(g->a, (size_t)g->n_node + 1);
    lm_node **stack = lm_arena_alloc(g->a, (size_t)(g->n_node + 1) * sizeof *stack);
    if (!live || !stack) return g->err = LM_E_NOMEM;
    mark(g, live, stack);
    *out = live; return LM_OK;
}
lm_err lm_graph_schedule(lm_graph *g, lm_node ***out, int *n_out) {
    bool *live;
    LM_TRY(lm_graph_live(g, &live));
    int n = g->n_node;
    lm_node **list = lm_arena_alloc(g->a, (size_t)(n + 1) * sizeof *list), **ready = lm_arena_alloc(g->a, (size_t)(n + 1) * sizeof *ready);
    edges e;
    if (!list || !ready) return g->err = LM_E_NOMEM;
    LM_TRY(edges_of(g, live, &e));
    heap q = { ready, 0 };
    int n_live = 0, m = 0;
    for (int i = 0; i < n; i++) { n_live += live[i]; if (live[i] && !e.indeg[i]) push(&q, g->node[i]); }
    while (q.n) {
        lm_node *x = pop(&q);
        list[m++] = x;
        for (int k = e.first[x->id]; k < e.first[x->id + 1]; k++) if (!--e.indeg[e.to[k]]) push(&q, g->node[e.to[k]]);
    }
    if (m != n_live) return lm_graph_fail(g, LM_E_INTERNAL, "the graph has a cycle through state versions: %d of %d nodes can be ordered", m, n_live);
    *out = list; *n_out = m;
    return LM_OK;
}
lm_err lm_graph_uses(lm_graph *g, int **out) {
    bool *live;
    LM_TRY(lm_graph_live(g, &live));
    int *u = lm_arena_alloc(g->a, (size_t)(g->n_value + 1) * sizeof *u);
    if (!u) return g->err = LM_E_NOMEM;
    for (int i = 0; i < g->n_node; i++) for (int k = 0; live[i] && k < g->node[i]->n_in; k++) if (g->node[i]->in[k]) u[g->node[i]->in[k]->id]++;
    for (int i = 0; i < g->n_output; i++) u[g->output[i].v->id]++;
    *out = u; return LM_OK;
}
int lm_graph_readers(lm_graph *g, const lm_value *v) {
    if (g->n_counted > g->n_node) g->n_counted = 0;
    if (!g->readers || g->n_value > g->cap_readers || !g->n_counted) {
        g->cap_readers = 2 * g->n_value + 64; g->n_counted = 0;
        if (!(g->readers = lm_arena_alloc(g->a, (size_t)g->cap_readers * sizeof *g->readers))) { g->err = LM_E_NOMEM; return 0; }
    }
    for (; g->n_counted < g->n_node; g->n_counted++) {
        const lm_node *n = g->node[g->n_counted];
        for (int k = 0; !n->dead && k < n->n_in; k++) if (n->in[k]) g->readers[n->in[k]->id]++;
    }
    return g->readers[v->id];
}
