/* autodiff.c — reverse mode over the graph: gradients are nodes like any other.
 *
 * Nodes are visited in reverse schedule order. A value used twice gets the sum of its gradients by `add`,
 * in the order of the visits. Only nodes between a wrt value and a y are visited. A path through a state write is refused: the gradient of a
 * mutation is not what anyone means. */
#include <string.h>
#include "graph/graph_int.h"

static lm_value *sum(lm_graph *g, lm_value *a, lm_value *b) {
    if (!a || !b) return a ? a : b;
    const lm_op *add = lm_op_by_name("add");
    if (!add) { lm_graph_fail(g, LM_E_INTERNAL, "no op is called add"); return NULL; }
    return lm_emit(g, add, NULL, 2, (lm_value *[]){ a, b });
}
lm_err lm_autodiff(lm_graph *g, int n_y, lm_value *const *y, lm_value *const *seed, int n_wrt, lm_value *const *wrt, lm_value **gin) {
    LM_TRY(g->err);
    /* Nodes that y needs, in an order where inputs come first (passes may have emitted producers after their users). */
    lm_node **list; int n_node, n_value = g->n_value, n_output = g->n_output;
    for (int i = 0; i < n_y; i++) lm_graph_output(g, "", y[i]);
    LM_TRY(g->err);
    lm_err es = lm_graph_schedule(g, &list, &n_node);
    g->n_output = n_output;
    LM_TRY(es);
    bool *need = lm_arena_alloc(g->a, (size_t)n_value + 1), *reach = lm_arena_alloc(g->a, (size_t)n_value + 1);
    lm_value **grad = lm_arena_alloc(g->a, (size_t)(n_value + 1) * sizeof *grad);
    if (!need || !reach || !grad) return g->err = LM_E_NOMEM;
    for (int i = 0; i < n_wrt; i++) need[wrt[i]->id] = true;
    for (int i = 0; i < n_node; i++) {                                 /* forward: what depends on wrt */
        lm_node *n = list[i];
        bool dep = false;
        for (int k = 0; k < n->n_in; k++) dep |= n->in[k] && !(n->op->opaque >> k & 1) && need[n->in[k]->id];
        for (int k = 0; dep && k < n->n_out; k++) need[n->out[k]->id] = true;
    }
    lm_graph_set_phase(g, true);
    int block = g->block;
    for (int i = 0; i < n_y; i++) {
        lm_value *s = seed && seed[i] ? seed[i] : lm_ones(g, &y[i]->type);
        if (!s) return g->err;
        reach[y[i]->id] = true; grad[y[i]->id] = sum(g, grad[y[i]->id], s);
    }
    for (int i = n_node - 1; i >= 0; i--) {
        lm_node *n = list[i];
        lm_value *gout[LM_MAX_OUT] = {0}, *gi[LM_MAX_IN] = {0}; bool want[LM_MAX_IN] = {0}, any = false, has = false;
        for (int k = 0; k < n->n_out; k++) if (grad[n->out[k]->id]) { gout[k] = grad[n->out[k]->id]; has = true; }
        if (!has) continue;
        for (int k = 0; k < n->n_in; k++) { want[k] = n->in[k] && !(n->op->opaque >> k & 1) && need[n->in[k]->id]; any |= want[k]; }
        if (!any) continue;
        for (int k = 0; k < n->n_out; k++)
            if (n->op->alias[k] && n->out[k]->state)
                return lm_graph_fail(g, LM_E_UNSUPPORTED, "%s writes %s: there is no gradient through a state write", n->op->name,
                                     n->out[k]->state->name);
        if (!n->op->grad) return lm_graph_fail(g, LM_E_UNSUPPORTED, "%s has no gradient", n->op->name);
        g->block = n->block;
        lm_grad d = { .p = n->params, .n_in = n->n_in, .n_out = n->n_out, .in = n->in, .out = n->out, .gout = gout, .want = want, .gin = gi };
        lm_err e = n->op->grad(g, &d);
        if (e) return g->err ? g->err : (g->err = lm_fail_in(g->ctx, e, "gradient of %s", n->op->name));
        LM_TRY(g->err);
        for (int k = 0; k < n->n_in; k++) {
            if (!want[k] || !gi[k]) continue;
            int id = n->in[k]->id;
            if (id >= n_value) continue;                             /* an input swapped by lm_replace during grad(): made in this pass */
            grad[id] = sum(g, grad[id], gi[k]);
            LM_TRY(g->err);
        }
    }
    g->block = block;
    lm_graph_set_phase(g, false);
    for (int i = 0; i < n_wrt; i++) gin[i] = grad[wrt[i]->id];
    return g->err;
}
lm_err lm_accumulate(lm_graph *g, lm_value *s, lm_value *v) {
    LM_TRY(g->err);
    if (!lm_type_same(&s->type, &v->type)) return lm_graph_fail(g, LM_E_SHAPE, "the gradient of %s has another shape than its accumulator", s->name);
    lm_node *n = v->node;
    bool read = lm_graph_readers(g, v) > 0;
    for (int i = 0; i < g->n_output; i++) read |= g->output[i].v == v;
    LM_TRY(g->err);
    /* A sum that autodiff made of two uses: add both parts to the state instead, and the sum is never made. */
    if (n && n->backward && !read && !strcmp(n->op->name, "add")) {
        lm_value *a = n->in[0], *b = n->in[1];
        if (lm_type_same(&a->type, &v->type) && lm_type_same(&b->type, &v->type)) {
            n->dead = true; g->readers[a->id]--; g->readers[b->id]--;
            LM_TRY(lm_accumulate(g, s, a));
            return lm_accumulate(g, s, b);
        }
    }
    if (!n || read || !(n->op->acc_ok >> v->out & 1) || (n->acc >> v->out & 1)) {
        const lm_op *copy = lm_op_by_name("copy");
        if (!copy || !(copy->acc_ok & 1)) return lm_graph_fail(g, LM_E_INTERNAL, "copy must be able to accumulate");
        bool back = g->backward;
        g->backward = true;
        lm_value *c = lm_emit(g, copy, NULL, 1, &v);
        g->backward = back;
        if (!c) return g->err;
        n = c->node; v = c;
    }
    n->acc |= 1u << v->out;
    n->acc_state[v->out] = s;
    return LM_OK;
}
