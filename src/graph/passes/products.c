/* products.c — matrix products for a device: weights are read as bf16 copies, and products of one input become one.
 *
 * A bf16 product rounds its weights. Where an optimizer keeps the rounded weights as a state of their own (lm_pass_products' `name`),
 * nothing is rounded in a step, and copies may lie one behind the other: then x Wqᵀ, x Wkᵀ and x Wvᵀ are one product [q k v] =
 * x [Wq; Wk; Wv]ᵀ, and by autodiff so are the gradient of x and that of the weights, which is accumulated as one matrix. The pieces are
 * views. Rows that take pieces side by side as well as apart (lm_op.beside: rotations) take neighbours at once.
 *
 * Before autodiff, so that this pass knows the forward alone; weights of embeddings stay as they are. The rounded numbers are those the products
 * would have made. */
#include <string.h>
#include "graph/graph_int.h"
#include "op/matmul/matmul.h"
#include "op/split/split.h"

typedef struct { lm_graph *g; lm_dev *dev; lm_copy_name name; void *ud; lm_node **list; int n, *uses; } state;

static bool weight(const lm_value *v) {
    return v && v->kind == LM_V_STATE && v->type.dtype == LM_F32 && v->type.rank == 2 && v->layout == LM_PLAIN &&
           (v->role == LM_ROLE_COL || v->role == LM_ROLE_ROW);
}
static bool product(const state *s, const lm_node *n) {
    const lm_matmul_p *p = n->params;
    if (n->dead || n->op != &lm_op_matmul || p->ta || p->fold || p->mm != LM_BF16 || !weight(n->in[1])) return false;
    lm_call c;
    lm_call_of(n, &c);
    c.in[1].dtype = LM_BF16;
    return lm_kernel_choose(n->op, &c, LM_DEV_CUDA, s->dev->features) ||
           (s->dev->run && lm_kernel_choose(n->op, &c, LM_DEV_CPU, lm_cpu_features_of(s->g->ctx)));
}
/* Can x be one with the product first? Its weights are (N, K): (K, N) would lie side by side. */
static bool joins(const state *s, const lm_node *first, const lm_node *x) {
    return x->in[0] == first->in[0] && x->n_in == 2 && x->block == first->block && product(s, x) && ((const lm_matmul_p *)x->params)->tb &&
           s->uses[x->in[1]->id] == 1 && x->in[1]->type.dim[0] % 8 == 0;
}
/* Products of the input of list[i], from there on, that can be one. */
static int group(const state *s, int i, lm_node **m) {
    int k = 0;
    if (!joins(s, s->list[i], s->list[i])) return 0;
    for (int q = i; q < s->n && k < LM_MAX_SPLIT; q++) if (joins(s, s->list[i], s->list[q])) m[k++] = s->list[q];
    return k;
}
/* The row that alone reads v, as its first input, and may take neighbours too. */
static lm_node *reader(const state *s, const lm_value *v) {
    if (s->uses[v->id] != 1) return NULL;
    for (int i = 0; i < s->n; i++) if (s->list[i]->n_in && s->list[i]->in[0] == v) return s->list[i]->op->beside ? s->list[i] : NULL;
    return NULL;
}
static bool alike(const lm_node *a, const lm_node *b) {
    if (!a || !b || a->op != b->op || a->n_in != b->n_in || memcmp(a->params, b->params, a->op->params_bytes)) return false;
    for (int k = 1; k < a->n_in; k++) if (a->in[k] != b->in[k]) return false;
    return true;
}
static lm_value *pieces(lm_graph *g, lm_value *x, int n, const int64_t *size, double order) {
    lm_value *v = lm_split(g, x, n, size);
    if (v) v->node->order = order;
    return v;
}
static bool join(state *s, lm_node **m, int k) {
    lm_graph *g = s->g;
    lm_value *w[LM_MAX_SPLIT];
    lm_node *r[LM_MAX_SPLIT];
    int64_t size[LM_MAX_SPLIT], wide[LM_MAX_SPLIT] = { 0 }, rows = 0;
    int run[LM_MAX_SPLIT], n_run = 0;
    for (int q = 0; q < k; q++) { w[q] = m[q]->in[1]; size[q] = w[q]->type.dim[0]; rows += size[q]; r[q] = reader(s, m[q]->out[0]); }
    const char *name = s->name(s->ud, k, w);
    if (!name) return false;
    const lm_type t = LM_TYPE(LM_BF16, rows, w[0]->type.dim[1]);
    const int block = g->block;
    g->block = m[0]->block;
    lm_value *all = lm_state(g, name, &t);
    if (all) all->role = w[0]->role;
    lm_value *y = lm_emit(g, &lm_op_matmul, m[0]->params, 2, (lm_value *[]){ m[0]->in[0], all });
    if (!y) return false;
    y->node->order = m[0]->order;
    for (int q = 0; q < k; q++) {
        if (!q || !alike(r[q - 1], r[q])) n_run++;
        run[q] = n_run - 1;
        wide[n_run - 1] += size[q];
    }
    lm_value *part = pieces(g, y, n_run, wide, m[0]->order + 1e-6);
    for (int q = 0, end; q < k && part; q = end) {
        for (end = q + 1; end < k && run[end] == run[q];) end++;
        lm_value *v = lm_output(part, run[q]);
        if (end == q + 1) { lm_replace(g, m[q]->out[0], v); continue; }
        lm_value *in[LM_MAX_IN];
        memcpy(in, r[q]->in, sizeof in);
        in[0] = v;
        lm_value *z = lm_emit(g, r[q]->op, r[q]->params, r[q]->n_in, in);
        if (!z) break;
        z->node->order = r[q]->order;
        lm_value *p = pieces(g, z, end - q, size + q, r[q]->order + 1e-6);
        for (int i = q; i < end; i++) { lm_replace(g, r[i]->out[0], lm_output(p, i - q)); r[i]->dead = true; }
    }
    for (int q = 0; q < k; q++) m[q]->dead = true;
    g->block = block;
    return true;
}
lm_err lm_pass_products(lm_graph *g, lm_dev *dev, lm_copy_name name, void *ud) {
    LM_TRY(g->err);
    state s = { .g = g, .dev = dev, .name = name, .ud = ud };
    LM_TRY(lm_graph_schedule(g, &s.list, &s.n));
    LM_TRY(lm_graph_uses(g, &s.uses));
    for (int i = 0; i < s.n && !g->err; i++) {
        lm_node *x = s.list[i], *m[LM_MAX_SPLIT];
        if (!product(&s, x)) continue;
        const int k = group(&s, i, m);
        if (k > 1 && join(&s, m, k)) continue;
        LM_TRY(g->err);
        const char *own = name(ud, 1, &x->in[1]);
        if (!own) continue;
        lm_type t = x->in[1]->type;
        t.dtype = LM_BF16;
        lm_value *v = lm_state(g, own, &t);
        if (!v) return g->err;
        v->role = x->in[1]->role;
        x->in[1] = v;
    }
    g->n_counted = 0;
    return g->err;
}
