/* copies.c — on a device with products in bf16 or fp8 a trainer keeps each matrix of the products rounded too: "bf16.NAME", two bytes a parameter.
 *
 * The update writes them beside the parameters (lm_optim_param.copy), so a step rounds nothing. Weights of products that read one input
 * (lm_pass_products) lie one behind the other, and so do their gradients: "bf16.FIRST+2" and "grad.FIRST+2" are whole, "bf16.NAME" and
 * "grad.NAME" are their rows (lm_store_part); the products see the wholes, the update the parts. Weights that come from the host, or that
 * another trainer changed, are rounded again before the next step: the store's epoch tells.
 *
 * That is for a rank that holds its matrices whole and updates them whole: alone, or dp. Under fsdp the update writes the copy of the rank's part,
 * "bf16.NAME#shard", which is what ranks gather. Where other ranks update rows of a matrix that is held whole (zero1, zero2), lm_pass_round_once
 * rounds weights in each step. */
#include <string.h>
#include "op/assign/assign.h"
#include "op/matmul_squares/matmul_squares.h"
#include "train/train_int.h"

lm_err lm_copies_setup(lm_trainer *t) {
    for (int i = 0; i < t->n_param; i++) t->held[i].fresh = t->o.dev != NULL;
    if (!t->o.dev || t->o.mm == LM_F32 || t->o.pure) return LM_OK;
    for (int i = 0; t->o.mesh == LM_MESH_FSDP && i < t->n_param; i++) {
        const lm_role role = t->held[i].role;
        if (!t->held[i].rows || (role != LM_ROLE_COL && role != LM_ROLE_ROW)) continue;
        if (!(t->held[i].copy = lm_arena_printf(t->a, "bf16.%s", t->held[i].name))) return LM_E_NOMEM;
    }
    if (t->held != t->param) return LM_OK;
    return (t->copy = lm_arena_alloc(t->a, (size_t)(t->n_param + 1) * sizeof *t->copy)) ? LM_OK : LM_E_NOMEM;
}
static int index_of(const lm_trainer *t, const char *name) {
    for (int i = 0; i < t->n_param; i++) if (!strcmp(t->param[i].name, name)) return i;
    return -1;
}
/* Is the name in the store as a tensor of its own? Then a trainer that is still there may have bound it. */
static bool stands_alone(const lm_trainer *t, const char *prefix, const char *name) {
    const char *full = lm_arena_printf(t->a, "%s.%s", prefix, name);
    for (int i = 0; full && i < lm_store_count(t->store); i++)
        if (!strcmp(lm_store_name(t->store, i, NULL), full)) return !lm_store_is_part(t->store, i);
    return !full;
}
const char *lm_copies_name(void *ud, int n, lm_value *const *w) {
    lm_trainer *t = ud;
    int at[16];
    int64_t row = 0, rows = 0;
    for (int k = 0; k < n; k++) {
        at[k] = n <= 16 ? index_of(t, w[k]->name) : -1;
        const bool bound = n > 1 && !t->o.dry && (stands_alone(t, "grad", w[k]->name) || stands_alone(t, "bf16", w[k]->name));
        if (at[k] < 0 || bound) return NULL;
        rows += w[k]->type.dim[0];
    }
    const char *first = w[0]->name, *whole = n > 1 ? lm_arena_printf(t->a, "%s+%d", first, n - 1) : first,
               *name = whole ? lm_arena_printf(t->a, "bf16.%s", whole) : NULL;
    for (int k = 0; k < n && name; row += w[k++]->type.dim[0]) {
        t->copy[at[k]] = (lm_copy){ .whole = whole, .name = name, .lead = at[0], .n = n, .row = row, .rows = rows };
        if (!(t->param[at[k]].copy = lm_arena_printf(t->a, "bf16.%s", t->param[at[k]].name))) return NULL;
    }
    return name;
}
bool lm_copies_lead(const lm_trainer *t, int i) { return !t->copy || !t->copy[i].n || t->copy[i].lead == i; }
lm_value *lm_copies_weight(const lm_trainer *t, lm_graph *g, int i, lm_value *param) {
    return t->copy && t->copy[i].n ? lm_graph_find(g, LM_V_STATE, t->copy[i].name) : param;
}
lm_err lm_copies_store(lm_trainer *t) {
    char part[300], whole[300];
    for (int i = 0; !t->copy && i < t->n_param; i++) {
        lm_type half = t->held[i].type;
        half.dtype = LM_BF16;
        if (t->held[i].copy) LM_TRY(lm_store_declare(t->store, t->held[i].copy, &half, LM_PLAIN));
    }
    for (int i = 0; t->copy && i < t->n_param; i++) {
        const lm_copy *c = &t->copy[i];
        if (!c->n) continue;
        lm_type own = t->param[i].type, all = own;
        own.dtype = all.dtype = LM_BF16;
        all.dim[0] = c->rows;
        LM_TRY(lm_store_declare(t->store, c->name, &all, LM_PLAIN));
        if (c->n == 1) continue;
        LM_TRY(lm_store_part(t->store, t->param[i].copy, c->name, c->row, c->rows, &own));
        own.dtype = all.dtype = t->param[i].grad;
        snprintf(whole, sizeof whole, "grad.%s", c->whole); snprintf(part, sizeof part, "grad.%s", t->param[i].name);
        LM_TRY(lm_store_declare(t->store, whole, &all, LM_PLAIN));
        LM_TRY(lm_store_part(t->store, part, whole, c->row, c->rows, &own));
    }
    return LM_OK;
}
lm_err lm_copies_graph(lm_trainer *t, lm_graph **out) {
    lm_graph *g;
    LM_TRY(lm_graph_new(&g, t->ctx, NULL));
    for (int i = 0; i < t->n_param; i++) {
        const lm_optim_param *h = &t->held[i];
        lm_type half = h->type;
        half.dtype = LM_BF16;
        if (h->copy) lm_assign(g, lm_state(g, h->copy, &half), lm_state(g, h->name, &h->type));
    }
    const lm_err e = lm_graph_err(g);
    if (e) lm_graph_free(g); else *out = g;
    return e;
}
/* Gradients of so many numbers leave their squares where they are made (lm_optim_param.squares): a launch for what is left to add costs less
 * than to read them again. */
enum { SQUARES_FROM = 8 << 20 };
static void with_squares(lm_trainer *t, int i, const lm_value *grad) {
    const lm_node *n = grad->node;
    const lm_matmul_p *p = n->params;
    const int64_t *d = grad->type.dim;
    if (n->op != &lm_op_matmul || n->n_in != 2 || !p->ta || p->tb || grad->type.rank != 2 || d[0] * d[1] < SQUARES_FROM) return;
    const char *name = lm_arena_printf(t->a, "grad.squares.%s", t->param[i].name);
    for (int k = 0; name && k < t->n_param; k++)
        if (t->copy[k].n && t->copy[k].lead == i) { t->param[k].squares = name; t->param[k].n_squares = k == i ? lm_squares_of(d[0], d[1]) : 0; }
}
/* The product that made the gradient, as a row that writes it and its squares to their states. */
lm_err lm_copies_squares(const lm_trainer *t, lm_graph *g, int i, lm_value *state, lm_value *grad) {
    lm_node *n = grad->node;
    const lm_type ts = LM_TYPE(LM_F32, t->param[i].n_squares);
    lm_graph_set_phase(g, n->backward);
    lm_value *y = lm_matmul_squares(g, n->in[0], n->in[1], state, lm_state(g, t->param[i].squares, &ts), n->params);
    lm_graph_set_phase(g, false);
    if (!y) return lm_graph_err(g);
    y->node->order = n->order; y->node->block = n->block;
    n->dead = true;
    return LM_OK;
}
/* Where a step is one micro-batch, on one rank, a product's gradient is its one product: it is stored in bf16, as its operands are (or will be, or
 * e4m3: lm_pass_fp8), and never added to. */
void lm_copies_half(lm_trainer *t, lm_graph *g, int i, lm_value *grad) {
    lm_node *n = grad->node;
    lm_call c;
    for (int k = 0; t->copy && t->copy[i].n && k < t->n_param; k++)
        if (t->copy[k].n && t->copy[k].lead == i) { t->param[k].grad = LM_F32; t->param[k].squares = NULL; t->param[k].n_squares = 0; }
    if (!t->copy || !t->copy[i].n || t->o.mm == LM_F32 || t->o.accum > 1 || lm_trainer_ranks(t) > 1 || !n || !n->op->mm_at || n->n_out != 1) return;
    if (lm_graph_readers(g, grad)) return;                            /* a gradient that something reads stays as it is */
    const bool e4m3 = t->o.mm == LM_F8_E4M3 && lm_fp8_half(n, t->o.dev);
    lm_call_of(n, &c);
    c.out[0].dtype = LM_BF16; c.acc = 1;
    if (!lm_optim_for(&t->o.optim, &t->param[i])->half || (!e4m3 && !lm_kernel_choose(n->op, &c, LM_DEV_CUDA, t->o.dev->features))) return;
    grad->type.dtype = LM_BF16;
    for (int k = 0; k < t->n_param; k++) if (t->copy[k].n && t->copy[k].lead == i) t->param[k].grad = LM_BF16;
    if (!e4m3) with_squares(t, i, grad);
}
size_t lm_copies_bytes(const lm_trainer *t) {
    size_t n = 0;
    for (int i = 0; i < t->n_param; i++) if (t->held[i].copy) n += 2 * (size_t)t->held[i].type.dim[0] * (size_t)t->held[i].type.dim[1];
    return n;
}
/* The copies are as the parameters are. */
lm_err lm_copies_fresh(lm_trainer *t) {
    if (!t->round || t->epoch == lm_store_epoch(t->store)) return LM_OK;
    LM_TRY(lm_plan_run(t->round));
    t->epoch = lm_store_epoch(t->store);
    return LM_OK;
}
/* This trainer's update changed parameters and copies. */
void lm_copies_updated(lm_trainer *t) {
    if (!t->o.dev) return;
    lm_store_changed(t->store);
    t->epoch = lm_store_epoch(t->store);
}
