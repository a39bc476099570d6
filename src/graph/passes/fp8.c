/* fp8.c — the products of training in e4m3: forward, gradient of the input, gradient of the weight.
 *
 * A product of rows and a weight (a state with a role of a linear layer), and what autodiff made of it, becomes matmul_fp8 of operands that
 * quant_fp8 made: weights once, at the plan's beginning, in blocks, both ways round; what a layer reads and the gradient of what it wrote where they
 * are first multiplied, by rows and transposed at once, since the gradient of the weight sums over rows. There what came
 * back has a scale for 128 tokens of a column, what the layer read one for 128 tokens of 128 columns. So the forward keeps bytes of what
 * a layer read for the backward, and neither keeps nor computes again the numbers. Runs after autodiff and accumulation, before
 * recomputation. Sizes of a layer that are no multiples of 128 leave it in bf16; embeddings, the loss's head and norms are no such products.
 *
 * Every quant_fp8 of what a layer reads or of a gradient adds to the state fp8.counts.0, in order of first use, which is also the order of the
 * steps; that of the k-th weight to fp8.counts.k, so that those are independent, and a device takes many in one launch. */
#include "graph/graph_int.h"
#include "op/add/add.h"
#include "op/matmul/matmul.h"
#include "op/matmul_fp8/matmul_fp8.h"
#include "op/quant_fp8/quant_fp8.h"

typedef struct { lm_quant_fp8_p p; const lm_node *user; lm_value *q; } made;      /* by value: forms that are wanted, who is first to want one */
typedef struct { lm_graph *g; made *of; lm_value *counts; int n_weight; } state;
typedef enum { NONE, FORWARD, INPUT, WEIGHT } kind;                            /* gradients of the input, of the weight */

static bool sized(const lm_value *v) { return v->type.rank == 2 && v->layout == LM_PLAIN && v->type.dim[1] % LM_FP8_TILE == 0; }
static bool matrix(const lm_value *v) { return v->type.dtype == LM_F32 && sized(v); }
/* a parameter, or what products.c has in its place: rounded, and several that read one input as one */
static bool weight(const lm_value *v) {
    return v->kind == LM_V_STATE && (v->role == LM_ROLE_COL || v->role == LM_ROLE_ROW) && (v->type.dtype == LM_F32 || v->type.dtype == LM_BF16) &&
           sized(v) && v->type.dim[0] % LM_FP8_TILE == 0;
}
static kind kind_of(const lm_node *n) {
    if (n->op != &lm_op_matmul) return NONE;
    const lm_matmul_p *p = n->params;
    if (p->mm != LM_BF16 || p->fold || !matrix(n->in[0])) return NONE;
    if (p->ta) return p->tb || !matrix(n->in[1]) || n->in[0]->kind == LM_V_STATE || n->in[1]->kind == LM_V_STATE || !n->backward ? NONE : WEIGHT;
    return !weight(n->in[1]) ? NONE : p->tb ? FORWARD : INPUT;
}
static void want(state *s, const lm_value *v, const lm_node *user, bool turned, int group) {
    made *m = &s->of[v->id];
    if (!m->user) { m->user = user; m->p.group = group; m->p.blocks = group == LM_FP8_WEIGHT; m->p.square = group == LM_FP8_ACTIVATION; }
    *(turned ? &m->p.cols : &m->p.rows) = true;
}
static void wants(state *s, const lm_node *n, kind k) {
    want(s, n->in[0], n, k == WEIGHT, k == FORWARD ? LM_FP8_ACTIVATION : LM_FP8_GRADIENT);
    want(s, n->in[1], n, k != FORWARD, k == WEIGHT ? LM_FP8_ACTIVATION : LM_FP8_WEIGHT);
}
static lm_value *counts_at(lm_graph *g, int k) {
    const lm_type t = LM_TYPE(LM_I64, LM_FP8_ALL_COUNTS);
    const char *name = lm_arena_printf(g->a, LM_FP8_STATE ".%d", k);
    return name ? lm_state(g, name, &t) : NULL;
}
static lm_err quantize(state *s, lm_value *v) {
    made *m = &s->of[v->id];
    if (m->q || !m->user) return LM_OK;
    const bool back = s->g->backward; const int block = s->g->block;
    s->g->backward = m->user->backward; s->g->block = m->user->block;
    if (m->p.blocks) { s->g->backward = false; s->g->block = -1; }
    lm_value *counts = m->p.blocks ? counts_at(s->g, ++s->n_weight) : s->counts;
    m->q = counts ? lm_quant_fp8(s->g, v, counts, &m->p) : NULL;
    s->g->backward = back; s->g->block = block;
    if (!m->q) return s->g->err = s->g->err ? s->g->err : LM_E_NOMEM;
    m->q->node->order = m->p.blocks ? -1 : m->user->order - 1e-3;
    if (!m->p.blocks) s->counts = lm_output(m->q, 4);
    return LM_OK;
}
static lm_err replace(state *s, lm_node *n, kind k) {
    lm_graph *g = s->g;
    const lm_node *a = s->of[n->in[0]->id].q->node, *b = s->of[n->in[1]->id].q->node;
    const bool blocks = k != WEIGHT || ((const lm_quant_fp8_p *)b->params)->square;
    const int fa = k == WEIGHT ? 2 : 0, fb = k == FORWARD ? 0 : 2;
    const bool back = g->backward; const int block = g->block;
    g->backward = n->backward; g->block = n->block;
    lm_value *y = lm_matmul_fp8(g, a->out[fa], a->out[fa + 1], b->out[fb], b->out[fb + 1], blocks), *z = y;
    if (y && n->n_in > 2 && n->in[2]) z = lm_add(g, y, n->in[2]);
    g->backward = back; g->block = block;
    if (!z) return g->err;
    y->node->order = n->order; z->node->order = n->order + (z == y ? 0 : 1e-4);
    y->node->acc = n->acc; y->node->acc_state[0] = n->acc_state[0];
    if (n->acc) y->type.dtype = n->out[0]->type.dtype;
    if (!n->acc) lm_replace(g, n->out[0], z);
    n->acc = 0; n->dead = true;
    return g->err;
}
bool lm_fp8_half(const lm_node *n, lm_dev *dev) {
    if (kind_of(n) != WEIGHT) return false;
    const lm_quant_fp8_p whole = { .rows = false, .cols = true, .square = true }, tiles = { .rows = false, .cols = true };
    const lm_matmul_fp8_p p = { .b_blocks = true };
    lm_type t[2][4];
    lm_call c = { .op = &lm_op_matmul_fp8, .p = &p, .n_in = 4, .n_out = 1, .acc = 1 };
    for (int k = 0; k < 2; k++) {
        const lm_type *x = &n->in[k]->type;
        if (lm_fp8_shape(dev->ctx, "matmul_fp8", x->dim[0], x->dim[1], k ? &whole : &tiles, t[k])) return false;
        for (int i = 0; i < 2; i++) c.in[2 * k + i] = lm_tensor_of(NULL, t[k][2 + i].dtype, t[k][2 + i].rank, t[k][2 + i].dim);
    }
    c.out[0] = lm_tensor_of(NULL, LM_BF16, 2, n->out[0]->type.dim);
    return lm_kernel_choose(c.op, &c, LM_DEV_CUDA, dev->features);
}
lm_err lm_pass_fp8(lm_graph *g, int *n_fp8) {
    LM_TRY(g->err);
    lm_node **list; int n, done = 0;
    LM_TRY(lm_graph_schedule(g, &list, &n));
    state s = { .g = g, .of = lm_arena_alloc(g->a, (size_t)(g->n_value + 1) * sizeof *s.of), .counts = counts_at(g, 0) };
    if (!s.of || !s.counts) return g->err = g->err ? g->err : LM_E_NOMEM;
    for (int i = 0; i < n; i++) if (kind_of(list[i])) { wants(&s, list[i], kind_of(list[i])); done++; }
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++)
            for (int k = 0; kind_of(list[i]) && k < 2; k++)
                if (pass || s.of[list[i]->in[k]->id].p.blocks) LM_TRY(quantize(&s, list[i]->in[k]));
    for (int i = 0; i < n; i++) if (kind_of(list[i])) LM_TRY(replace(&s, list[i], kind_of(list[i])));
    g->n_counted = 0;
    if (n_fp8) *n_fp8 = done;
    return done ? g->err : lm_graph_fail(g, LM_E_UNSUPPORTED, "fp8: no linear layer has sizes that are multiples of %d; bf16 takes any", LM_FP8_TILE);
}
