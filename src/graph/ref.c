/* ref.c — the double interpreter: every live node by its row's reference, in memory of its own. Slow and plain: the oracle. */
#include <string.h>
#include "graph/graph_int.h"
struct lm_ref { lm_graph *g; void **data; };
static size_t elem(const lm_type *t) { return lm_dtype_is_float(t->dtype) || t->dtype == LM_QUANT ? 8 : lm_dtype_size(t->dtype); }
static size_t numel(const lm_type *t) { size_t n = 1; for (int i = 0; i < t->rank; i++) n *= (size_t)t->dim[i]; return n; }
lm_err lm_ref_new(lm_ref **out, lm_graph *g) {
    LM_TRY(g->err);
    lm_ref *r = lm_calloc(g->ctx, LM_MEM_MISC, 1, sizeof *r);
    if (!r) return LM_E_NOMEM;
    r->g = g;
    r->data = lm_calloc(g->ctx, LM_MEM_MISC, (size_t)g->n_value + 1, sizeof *r->data);
    if (!r->data) { lm_free(g->ctx, r); return LM_E_NOMEM; }
    for (int i = 0; i < g->n_value; i++) {
        lm_value *v = g->value[i];
        if (v->kind == LM_V_NODE && v->state) continue;                    /* a version shares its state's memory */
        size_t n = numel(&v->type);
        if (!(r->data[i] = lm_calloc(g->ctx, LM_MEM_MISC, n + 1, elem(&v->type)))) { lm_ref_free(r); return LM_E_NOMEM; }
        if (v->kind == LM_V_CONST) for (size_t k = 0; k < n; k++) {
            if (elem(&v->type) == 8 && v->type.dtype != LM_I64) ((double *)r->data[i])[k] = (double)v->fill;
            else if (v->type.dtype == LM_I32) ((int32_t *)r->data[i])[k] = (int32_t)v->fill;
            else ((int64_t *)r->data[i])[k] = (int64_t)v->fill;
        }
    }
    *out = r; return LM_OK;
}
void lm_ref_free(lm_ref *r) {
    if (!r) return;
    for (int i = 0; r->data && i < r->g->n_value; i++) lm_free(r->g->ctx, r->data[i]);
    lm_free(r->g->ctx, r->data); lm_free(r->g->ctx, r);
}
void *lm_ref_data(lm_ref *r, lm_value *v) { return v->kind == LM_V_NODE && v->state ? r->data[v->state->id] : r->data[v->id]; }
static void bind(lm_ref *r, lm_tensor *t, lm_value *v) {
    lm_dtype d = lm_dtype_is_float(v->type.dtype) || v->type.dtype == LM_QUANT ? LM_F64 : v->type.dtype;
    *t = lm_tensor_of(lm_ref_data(r, v), d, v->type.rank, v->type.dim);
    t->quant = v->type.quant;
}
lm_err lm_ref_run(lm_ref *r) {
    lm_node **list; int n;
    LM_TRY(lm_graph_schedule(r->g, &list, &n));
    for (int i = 0; i < n; i++) {
        lm_call c; lm_call_of(list[i], &c);
        c.ctx = r->g->ctx; c.comm = lm_comm_self();
        for (int k = 0; k < c.n_in; k++) if (list[i]->in[k]) bind(r, &c.in[k], list[i]->in[k]);
        for (int k = 0; k < c.n_out; k++) bind(r, &c.out[k], list[i]->out[k]);
        if (list[i]->op->view) {                                            /* here a view is a copy */
            for (int k = 0; k < c.n_out; k++) {
                if (!c.out[k].rank) continue;                                   /* an output this node does not have */
                lm_tensor v = c.out[k]; lm_call t = c;
                list[i]->op->view(&t, k, &v);
                int64_t rows = lm_rows(&v), cols = lm_cols(&v), step = v.rank > 1 ? v.stride[v.rank - 2] : cols;
                for (int64_t a = 0; a < rows; a++) memcpy((double *)c.out[k].data + a * cols, (const double *)v.data + a * step, (size_t)cols * 8);
            }
            continue;
        }
        uint32_t acc = c.acc;
        c.acc = 0;
        list[i]->op->ref(&c);
        for (int k = 0; k < c.n_out; k++) if (acc >> k & 1) {
            double *s = lm_ref_data(r, list[i]->acc_state[k]), *o = c.out[k].data; size_t m = numel(&list[i]->out[k]->type);
            for (size_t q = 0; q < m; q++) s[q] += o[q];
        }
    }
    return LM_OK;
}
