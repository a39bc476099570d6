/* storage.c — activations and their gradients kept as bf16 on a device, where every row that makes or reads them has a kernel for it: half
 * the traffic of memory-bound rows.
 *
 * What stays f32: growing sums of the forward (op->sums: the residual stream), rows looked up in a table, statistics and losses, parameters
 * and their gradients, named outputs. Kernels compute in f32 and round once when they write. The last pass: types change under finished
 * nodes. */
#include <string.h>
#include "graph/graph_int.h"

typedef struct { lm_graph *g; lm_dev *dev; lm_node **list; int n; lm_value *member[64]; int n_member; } state;
static bool has_kernel(const state *s, const lm_node *n) {
    lm_call c;
    lm_call_of(n, &c);
    return n->op->view || lm_kernel_choose(n->op, &c, LM_DEV_CUDA, s->dev->features);
}
static bool member(const state *s, const lm_value *v) {
    for (int i = 0; i < s->n_member; i++) if (s->member[i] == v) return true;
    return false;
}
static bool reads(const state *s, const lm_node *n) {
    for (int k = 0; k < n->n_in; k++) if (n->in[k] && member(s, n->in[k])) return true;
    return false;
}
static bool kept(const state *s, const lm_node *n, int k) {
    const lm_value *v = n->out[k];
    if (v->type.dtype != LM_F32 || v->type.rank < 2 || n->op->alias[k] || v->state || (n->acc >> k & 1) || n->op->view ||
        (!n->backward && n->op->sums >> k & 1))
        return true;
    if (!n->op->mm_at && n->n_in && n->in[0] && n->in[0]->role == LM_ROLE_EMBED) return true;
    for (int i = 0; i < s->g->n_output; i++) if (s->g->output[i].v == v) return true;
    return false;
}
/* v and all views of it; false if there are too many or one is a named output. */
static bool family(state *s, lm_value *v) {
    s->member[0] = v; s->n_member = 1;
    for (int i = 0; i < s->n; i++) {
        if (!s->list[i]->op->view || !reads(s, s->list[i])) continue;
        for (int k = 0; k < s->list[i]->n_out; k++) {
            lm_value *o = s->list[i]->out[k];
            for (int q = 0; q < s->g->n_output; q++) if (s->g->output[q].v == o) return false;
            if (s->n_member == LM_COUNT(s->member)) return false;
            s->member[s->n_member++] = o;
        }
    }
    return true;
}
static void set(state *s, lm_dtype d) { for (int i = 0; i < s->n_member; i++) s->member[i]->type.dtype = d; }
lm_err lm_pass_storage(lm_graph *g, lm_dev *dev) {
    LM_TRY(g->err);
    state s = { .g = g, .dev = dev };
    LM_TRY(lm_graph_schedule(g, &s.list, &s.n));
    for (int i = 0; i < s.n; i++)
        for (int k = 0; k < s.list[i]->n_out; k++) {
            if (kept(&s, s.list[i], k) || !family(&s, s.list[i]->out[k])) continue;
            set(&s, LM_BF16);
            bool ok = has_kernel(&s, s.list[i]);
            for (int q = 0; q < s.n && ok; q++) ok = !reads(&s, s.list[q]) || has_kernel(&s, s.list[q]);
            if (!ok) set(&s, LM_F32);
        }
    return g->err;
}
