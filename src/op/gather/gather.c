/* gather.c — embed's kernel on an activation; the gradient is scatter_add. */
#include "op/gather/gather.h"
#include "op/embed/embed.h"
#include "op/scatter_add/scatter_add.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_I32, 1, 1));
    out[0] = LM_TYPE((lm_dtype)c->in[0].dtype, c->in[1].dim[0], c->in[0].dim[1]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); const int32_t *idx = c->in[1].data; double *y = lm_f64(&c->out[0]);
    int64_t n = c->in[1].dim[0], rows = c->in[0].dim[0], d = c->in[0].dim[1];
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < d; j++) y[i * d + j] = idx[i] >= 0 && idx[i] < rows ? x[idx[i] * d + j] : 0;
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_scatter_add(g, d->in[1], d->gout[0], lm_type_of(d->in[0])->dim[0], d->in[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { *flops = 0; *bytes = (double)lm_numel(&c->out[0]) * 8; }
#define IDX(n, r) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = r }
static const lm_sample samples[] = {
    { .name = "one", .params = NULL, .in = { { .rank = 2, .dim = { 1, 1 } }, IDX(1, 1) } },
    { .name = "few of many", .params = NULL, .in = { { .rank = 2, .dim = { 90, 33 } }, IDX(7, 90) } },
    { .name = "more than there are", .params = NULL, .in = { { .rank = 2, .dim = { 5, 100 } }, IDX(40, 5) } },
    { 0 }
};
const lm_op lm_op_gather = { .name = "gather", .math = "y_i = x[idx_i]", .n_in = 2, .rows_from = 1, .n_out = 1, .opaque = 2,
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = lm_k_rows, .samples = samples };
lm_value *lm_gather(lm_graph *g, lm_value *x, lm_value *idx) { return lm_emit(g, &lm_op_gather, NULL, 2, (lm_value *const[]){ x, idx }); }
