/* round_once.c — weights that several matrix products of a plan take in bf16 (the forward's and the backward's) are rounded once, at the plan's
 * beginning, where a device would round them for each: a third of the bytes for a parameter less, and one launch for many of them.
 *
 * Costs two bytes a parameter of memory while the plan runs. The products' bits stay: the same rounded numbers go in. For a device, after
 * autodiff, recomputation and uniting (whose rows may take products too), before storage. */
#include "graph/graph_int.h"
#include "op/cast/cast.h"

static bool in_bf16(const lm_node *n) { return n->op->mm_at && *(const lm_dtype *)((const char *)n->params + n->op->mm_at - 1) == LM_BF16; }
/* Does the row's kernel also take input k in bf16? */
static bool takes(const lm_node *n, int k, lm_dev *dev) {
    lm_call c;
    lm_call_of(n, &c);
    c.in[k].dtype = LM_BF16;
    return lm_kernel_choose(n->op, &c, LM_DEV_CUDA, dev->features) != NULL;
}
static bool weight(const lm_value *v) { return v && v->kind == LM_V_STATE && v->type.dtype == LM_F32 && v->type.rank == 2 && v->layout == LM_PLAIN; }
lm_err lm_pass_round_once(lm_graph *g, lm_dev *dev) {
    LM_TRY(g->err);
    lm_node **list; int n;
    LM_TRY(lm_graph_schedule(g, &list, &n));
    const int n_value = g->n_value;
    int *uses = lm_arena_alloc(g->a, (size_t)(n_value + 1) * sizeof *uses);
    lm_value **rounded = lm_arena_alloc(g->a, (size_t)(n_value + 1) * sizeof *rounded);
    if (!uses || !rounded) return g->err = LM_E_NOMEM;
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; i < n; i++) {
            lm_node *x = list[i];
            if (!in_bf16(x)) continue;
            for (int k = 0; k < 2 && k < x->n_in; k++) {
                lm_value *v = x->in[k];
                if (!weight(v) || !takes(x, k, dev)) continue;
                if (!pass) { uses[v->id]++; continue; }
                if (uses[v->id] < 2) continue;
                if (!rounded[v->id]) {
                    lm_value *r = rounded[v->id] = lm_cast(g, v, LM_BF16);
                    if (!r) return g->err;
                    r->node->order = -1; r->node->block = -1; r->node->backward = false;
                }
                x->in[k] = rounded[v->id];
            }
        }
    g->n_counted = 0;
    return g->err;
}
