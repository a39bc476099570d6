/* split.c — a view row: no kernel; the gradient is concat, with zeros where no gradient flows. */
#include "op/split/split.h"
#include "op/concat/concat.h"
#include "op/scale/scale.h"
#include "op/rule.h"
#include <string.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_split_p *p = c->p; int64_t sum = 0, cols = lm_cols(&c->in[0]);
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    if (p->n < 1 || p->n > LM_MAX_SPLIT) return lm_fail(ctx, LM_E_SHAPE, "split: got %d pieces, wanted 1 to %d", p->n, LM_MAX_SPLIT);
    for (int i = 0; i < p->n; i++) {
        if (p->size[i] < 1 || p->size[i] > cols)
            return lm_fail(ctx, LM_E_SHAPE, "split: piece %d: got %lld columns, wanted 1 to %lld", i, (long long)p->size[i],
                           (long long)cols);
        sum += p->size[i];
    }
    if (sum != cols)
        return lm_fail(ctx, LM_E_SHAPE, "split: got pieces of %lld columns in all, wanted the %lld of input 0", (long long)sum,
                       (long long)cols);
    for (int i = 0; i < LM_MAX_SPLIT; i++) {
        if (i >= p->n) { out[i] = (lm_type){ .dtype = (lm_dtype)c->in[0].dtype }; continue; }
        out[i] = lm_type_like(&c->in[0]);
        out[i].dim[out[i].rank - 1] = p->size[i];
    }
    return LM_OK;
}
static void view(const lm_call *c, int i, lm_tensor *out) {
    const lm_split_p *p = c->p; const lm_tensor *x = &c->in[0]; int64_t at = 0;
    if (i >= p->n) { *out = (lm_tensor){ .dtype = x->dtype }; return; }
    for (int k = 0; k < i; k++) at += p->size[k];
    *out = *x;
    out->dim[x->rank - 1] = p->size[i];
    if (x->data) out->data = (char *)x->data + (size_t)at * lm_dtype_size((lm_dtype)x->dtype);
}
static void ref(const lm_call *c) {
    const lm_split_p *p = c->p; int64_t rows = lm_rows(&c->in[0]), cols = lm_cols(&c->in[0]);
    for (int64_t r = 0; r < rows; r++) {
        const double *x = lm_f64(&c->in[0]) + r * cols;
        for (int i = 0; i < p->n; x += p->size[i++]) memcpy(lm_f64(&c->out[i]) + r * p->size[i], x, (size_t)p->size[i] * sizeof(double));
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_split_p *p = d->p; lm_value *piece[LM_MAX_SPLIT];
    if (!d->want[0]) return LM_OK;
    for (int i = 0; i < p->n; i++) piece[i] = d->gout[i] ? d->gout[i] : lm_scale(g, lm_ones(g, lm_type_of(lm_output(d->out[0], i))), 0.0f);
    d->gin[0] = p->n == 1 ? piece[0] : lm_concat(g, p->n, piece);
    return LM_OK;
}
#define SIZES(...) &(lm_split_p){ sizeof((int[]){ __VA_ARGS__ }) / sizeof(int), { __VA_ARGS__ } }
static const lm_sample samples[] = { { .name = "one", .params = SIZES(7), .in = { { .rank = 2, .dim = { 3, 7 } } } },
                                     { .name = "two", .params = SIZES(3, 30), .in = { { .rank = 2, .dim = { 5, 33 } } } },
                                     { .name = "three, rank 3", .params = SIZES(8, 2, 2), .in = { { .rank = 3, .dim = { 2, 5, 12 } } } },
                                     { .name = "four, vector", .params = SIZES(1, 2, 3, 4), .in = { { .rank = 1, .dim = { 10 } } } },
                                     { 0 } };
const lm_op lm_op_split = { .name = "split", .math = "y_i = columns of x", .n_in = 1, .n_out = LM_MAX_SPLIT, .params_bytes = sizeof(lm_split_p),
    .view = view, .shape = shape, .ref = ref, .grad = grad, .samples = samples };
lm_value *lm_split(lm_graph *g, lm_value *x, int n, const int64_t *size) {
    lm_split_p p = { .n = n };
    for (int i = 0; i < n && i < LM_MAX_SPLIT; i++) p.size[i] = size[i];
    return lm_emit(g, &lm_op_split, &p, 1, &x);
}
