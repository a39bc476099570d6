/* sum_rows.c — (…, d) → (d). */
#include "op/sum_rows/sum_rows.h"
#include "op/mul/mul.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_sum_rows);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    out[0] = LM_TYPE((lm_dtype)c->in[0].dtype, lm_cols(&c->in[0]));
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); double *y = lm_f64(&c->out[0]);
    int64_t n = lm_rows(&c->in[0]), d = lm_cols(&c->in[0]);
    for (int64_t j = 0; j < d; j++) { y[j] = 0; for (int64_t r = 0; r < n; r++) y[j] += x[r * d + j]; }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_mul(g, lm_ones(g, lm_type_of(d->in[0])), d->gout[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = (double)lm_numel(&c->in[0]); }
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", NULL, LM_TIMES1, 2e-6),
    { .name = "many rows", .params = NULL, .in = { { .rank = 2, .dim = { 1000, 70 } } }, .tol = 1e-5, .tol_norm = 2e-6 },
    { .name = "one row", .params = NULL, .in = { { .rank = 2, .dim = { 1, 65 } } }, .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_sum_rows = { .name = "sum_rows", .math = "y_j = sum_r x_rj", .n_in = 1, .n_out = 1, .acc_ok = 1,
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = lm_k_sum_rows, .samples = samples };
lm_value *lm_sum_rows(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_sum_rows, NULL, 1, &x); }
