/* graph.c — building: values, nodes, names; the first error is kept. */
#include <stdio.h>
#include <string.h>
#include "graph/graph_int.h"

lm_err lm_graph_new(lm_graph **out, lm_ctx *ctx, lm_store *store) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_GRAPH, 256 << 10));
    lm_graph *g = lm_arena_alloc(a, sizeof *g);
    if (!g) { lm_arena_free(a); return LM_E_NOMEM; }
    *g = (lm_graph){ .ctx = ctx, .a = a, .store = store, .block = -1 };
    *out = g; return LM_OK;
}
void lm_graph_free(lm_graph *g) { if (g) lm_arena_free(g->a); }
lm_err lm_graph_err(const lm_graph *g) { return g->err; }
lm_ctx *lm_graph_ctx(const lm_graph *g) { return g->ctx; }
lm_arena *lm_graph_arena(lm_graph *g) { return g->a; }
lm_err lm_graph_fail(lm_graph *g, lm_err code, const char *fmt, ...) {
    if (g->err) return g->err;
    char text[512]; va_list ap;
    va_start(ap, fmt); vsnprintf(text, sizeof text, fmt, ap); va_end(ap);
    return g->err = lm_fail(g->ctx, code, "%s", text);
}
bool lm_graph_grow(lm_graph *g, void *arr, int n, int *cap, size_t size) {
    if (n < *cap) return true;
    int c = *cap ? *cap * 2 : 64;
    void *p = lm_arena_alloc(g->a, (size_t)c * size), **slot = arr;
    if (!p) { g->err = LM_E_NOMEM; return false; }
    if (n) memcpy(p, *slot, (size_t)n * size);
    *slot = p; *cap = c; return true;
}
static lm_value *value_new(lm_graph *g, lm_vkind kind, const lm_type *t) {
    if (g->err || !lm_graph_grow(g, &g->value, g->n_value, &g->cap_value, sizeof *g->value)) return NULL;
    lm_value *v = lm_arena_alloc(g->a, sizeof *v);
    if (!v) { g->err = LM_E_NOMEM; return NULL; }
    *v = (lm_value){ .g = g, .id = g->n_value, .kind = kind, .type = *t };
    return g->value[g->n_value++] = v;
}
static lm_name_link **bucket(lm_graph *g, const char *name) { return &g->names[lm_hash64(name, strlen(name), 0) % LM_NAME_BUCKETS]; }
lm_value *lm_graph_find(lm_graph *g, lm_vkind kind, const char *name) {
    for (const lm_name_link *l = *bucket(g, name); l; l = l->next)
        if (l->v->kind == kind && !strcmp(l->v->name, name)) return l->v;
    return NULL;
}
bool lm_type_same(const lm_type *a, const lm_type *b) {
    bool same = a->dtype == b->dtype && a->quant == b->quant && a->rank == b->rank;
    for (int i = 0; same && i < a->rank; i++) same = a->dim[i] == b->dim[i] && a->ext[i] == b->ext[i];
    return same;
}
static lm_value *named(lm_graph *g, lm_vkind kind, const char *name, const lm_type *t) {
    if (g->err) return NULL;
    lm_value *v = lm_graph_find(g, kind, name);
    if (v) {
        if (!lm_type_same(&v->type, t)) { lm_graph_fail(g, LM_E_SHAPE, "%s is used with two different types", name); return NULL; }
        return v;
    }
    if (!(v = value_new(g, kind, t))) return NULL;
    lm_name_link *link = lm_arena_alloc(g->a, sizeof *link), **b = bucket(g, name);
    if (!link || !(v->name = lm_arena_strdup(g->a, name))) { g->err = LM_E_NOMEM; return NULL; }
    *link = (lm_name_link){ v, *b }; *b = link;
    if (kind == LM_V_STATE) v->state = v;
    return v;
}
int lm_extent(lm_graph *g, const char *name) {
    for (int i = 0; i < g->n_ext; i++) if (!strcmp(g->ext[i], name)) return i + 1;
    if (g->err || !lm_graph_grow(g, &g->ext, g->n_ext, &g->cap_ext, sizeof *g->ext)) return 0;
    if (!(g->ext[g->n_ext] = lm_arena_strdup(g->a, name))) { g->err = LM_E_NOMEM; return 0; }
    return ++g->n_ext;
}
lm_value *lm_input(lm_graph *g, const char *name, const lm_type *t) { return named(g, LM_V_INPUT, name, t); }
lm_value *lm_state(lm_graph *g, const char *name, const lm_type *t) { return lm_state_in(g, name, t, LM_PLAIN); }
lm_value *lm_state_in(lm_graph *g, const char *name, const lm_type *t, lm_layout l) {
    lm_tensor st; lm_type u = *t;
    bool known = g->store && lm_store_get(g->store, name, &st);
    if (known) { u.dtype = (lm_dtype)st.dtype; u.quant = st.quant; }
    lm_value *v = named(g, LM_V_STATE, name, &u);
    if (v && !known) v->layout = l;
    if (v && known) {
        v->layout = (lm_layout)st.layout;
        bool same = st.rank == t->rank;
        for (int i = 0; same && i < t->rank; i++) same = st.dim[i] == t->dim[i];
        if (!same) {
            lm_graph_fail(g, LM_E_SHAPE,
                          "%s: the stored tensor has rank %d, first dimension %lld; the graph wants rank %d, first dimension %lld", name,
                          st.rank, (long long)st.dim[0], t->rank, (long long)t->dim[0]);
            return NULL;
        }
    }
    return v;
}
lm_value *lm_param(lm_graph *g, lm_role role, int64_t d0, int64_t d1, const char *fmt, ...) {
    char name[256]; va_list ap;
    va_start(ap, fmt); int n = vsnprintf(name, sizeof name, fmt, ap); va_end(ap);
    if (n >= (int)sizeof name) { lm_graph_fail(g, LM_E_RANGE, "a parameter's name is over 255 characters: %.40s…", name); return NULL; }
    lm_type t = d1 ? LM_TYPE(LM_F32, d0, d1) : LM_TYPE(LM_F32, d0);
    lm_value *v = lm_state(g, name, &t);
    if (v) v->role = role;
    return v;
}
lm_value *lm_const(lm_graph *g, const lm_type *t, float fill) {
    if (g->err) return NULL;
    lm_value *v = value_new(g, LM_V_CONST, t);
    if (v) v->fill = fill;
    return v;
}
lm_value *lm_ones(lm_graph *g, const lm_type *t) { return lm_const(g, t, 1.0f); }
bool lm_is_ones(const lm_value *v) { return v && v->kind == LM_V_CONST && v->fill == 1.0f; }
void lm_block(lm_graph *g, int block) { g->block = block; }
void lm_graph_set_phase(lm_graph *g, bool backward) { g->backward = backward; }
const lm_type *lm_type_of(const lm_value *v) { return &v->type; }
lm_value *lm_output(lm_value *v, int i) { return v && v->node ? v->node->out[i] : NULL; }

void lm_call_of(const lm_node *n, lm_call *c) {
    memset(c, 0, sizeof *c);
    c->op = n->op; c->p = n->params; c->n_in = n->n_in; c->n_out = n->n_out; c->acc = n->acc;
    for (int i = 0; i < n->n_in + n->n_out; i++) {
        const lm_value *v = i < n->n_in ? n->in[i] : n->out[i - n->n_in];
        if (!v) continue;
        lm_tensor t = lm_tensor_of(NULL, v->type.dtype, v->type.rank, v->type.dim);
        t.layout = (int8_t)v->layout; t.quant = v->type.quant;
        if (i < n->n_in) c->in[i] = t; else c->out[i - n->n_in] = t;
    }
}
lm_value *lm_emit(lm_graph *g, const lm_op *op, const void *params, int n_in, lm_value *const *in) {
    if (g->err) return NULL;
    while (n_in > op->n_in && !in[n_in - 1]) n_in--;
    if (n_in < op->n_in || n_in > op->n_in + op->n_opt) {
        lm_graph_fail(g, LM_E_SHAPE, "%s: %d inputs, want %d to %d", op->name, n_in, op->n_in, op->n_in + op->n_opt); return NULL; }
    for (int i = 0; i < op->n_in; i++)
        if (!in[i]) { lm_graph_fail(g, LM_E_INTERNAL, "%s: input %d is missing", op->name, i); return NULL; }
    if (!lm_graph_grow(g, &g->node, g->n_node, &g->cap_node, sizeof *g->node)) return NULL;
    lm_node *n = lm_arena_alloc(g->a, sizeof *n);
    if (!n || (op->params_bytes && !(n->params = lm_arena_alloc(g->a, op->params_bytes)))) { g->err = LM_E_NOMEM; return NULL; }
    n->op = op; n->id = g->n_node; n->order = g->n_node; n->block = g->block; n->backward = g->backward; n->n_in = n_in; n->n_out = op->n_out;
    if (op->params_bytes) memcpy(n->params, params, op->params_bytes);
    for (int i = 0; i < n_in; i++) n->in[i] = in[i];
    lm_call c; lm_type ot[LM_MAX_OUT]; memset(ot, 0, sizeof ot);
    lm_call_of(n, &c); c.n_out = op->n_out; c.ctx = g->ctx;
    lm_err e = op->shape(g->ctx, &c, ot);
    if (e) { g->err = lm_fail_in(g->ctx, e, "%s", op->name); return NULL; }
    for (int i = 0; i < op->n_out; i++) {
        lm_value *al = op->alias[i] ? n->in[op->alias[i] - 1] : NULL;
        if (al) { ot[i] = al->type; }
        /* The leading extent travels from the input whose rows the output's rows are (op->rows_from), if they are as many. */
        const lm_value *from = n->op->rows_from < n_in ? n->in[n->op->rows_from] : NULL;
        if (ot[i].ext[0] == LM_NO_EXTENT) ot[i].ext[0] = 0;
        else if (!al && from && ot[i].rank && from->type.rank && from->type.dim[0] == ot[i].dim[0]) ot[i].ext[0] = from->type.ext[0];
        lm_value *v = value_new(g, LM_V_NODE, &ot[i]);
        if (!v) return NULL;
        v->node = n; v->out = i; n->out[i] = v;
        if (al) { v->state = al->state; v->layout = al->layout; v->role = al->role; }
    }
    g->node[g->n_node++] = n;
    return n->out[0];
}
lm_node *lm_node_clone(lm_graph *g, const lm_node *s) {
    lm_value *v = lm_emit(g, s->op, s->params, s->n_in, s->in);
    if (!v) return NULL;
    v->node->block = s->block; return v->node;
}
void lm_replace(lm_graph *g, lm_value *old, lm_value *now) {
    if (g->err || !old || !now || old == now) return;
    if (old->type.dtype != now->type.dtype || old->type.rank != now->type.rank) {
        lm_graph_fail(g, LM_E_INTERNAL, "replace: the types differ");
        return;
    }
    g->n_counted = 0;
    for (int i = 0; i < g->n_node; i++)
        for (int k = 0; k < g->node[i]->n_in; k++)
            if (g->node[i]->in[k] == old && g->node[i] != now->node) g->node[i]->in[k] = now;
    for (int i = 0; i < g->n_output; i++) if (g->output[i].v == old) g->output[i].v = now;
}
void lm_graph_output(lm_graph *g, const char *name, lm_value *v) {
    if (g->err || !v || !lm_graph_grow(g, &g->output, g->n_output, &g->cap_output, sizeof *g->output)) return;
    char *n = lm_arena_strdup(g->a, name);
    if (!n) { g->err = LM_E_NOMEM; return; }
    g->output[g->n_output++] = (lm_named){ n, v };
}
int lm_graph_n_nodes(const lm_graph *g) { return g->n_node; }
lm_node *lm_graph_node(const lm_graph *g, int i) { return g->node[i]; }
int lm_graph_n_values(const lm_graph *g) { return g->n_value; }
lm_value *lm_graph_value(const lm_graph *g, int i) { return g->value[i]; }
int lm_graph_n_outputs(const lm_graph *g) { return g->n_output; }
lm_value *lm_graph_output_at(const lm_graph *g, int i, const char **name) { if (name) *name = g->output[i].name; return g->output[i].v; }
void lm_graph_set_output(lm_graph *g, int i, lm_value *v) { g->output[i].v = v; }
int lm_graph_n_extents(const lm_graph *g) { return g->n_ext; }
const char *lm_graph_extent_name(const lm_graph *g, int slot) { return g->ext[slot - 1]; }

static void print_value(const lm_value *v, lm_str *o) {
    if (!v) { lm_str_puts(o, "-"); return; }
    if (v->kind == LM_V_NODE) lm_str_printf(o, "%%%d", v->id);
    else if (v->kind == LM_V_CONST) lm_str_printf(o, "%g", (double)v->fill);
    else lm_str_printf(o, "%s%s", v->kind == LM_V_STATE ? "@" : "$", v->name);
}
void lm_graph_print(const lm_graph *g, lm_str *o) {
    lm_node **list; int n;
    if (lm_graph_schedule((lm_graph *)g, &list, &n)) return;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < list[i]->n_out; k++) {
            if (k) lm_str_puts(o, ", ");
            print_value(list[i]->out[k], o);
            const lm_type *t = &list[i]->out[k]->type;
            lm_str_puts(o, ":(");
            for (int d = 0; d < t->rank; d++) lm_str_printf(o, d ? ",%lld%s" : "%lld%s", (long long)t->dim[d], t->ext[d] ? "*" : "");
            lm_str_puts(o, ")");
            if (list[i]->acc >> k & 1) { lm_str_puts(o, "+="); print_value(list[i]->acc_state[k], o); }
        }
        lm_str_printf(o, " = %s(", list[i]->op->name);
        for (int k = 0; k < list[i]->n_in; k++) { if (k) lm_str_puts(o, ", "); print_value(list[i]->in[k], o); }
        lm_str_puts(o, ")\n");
    }
}
