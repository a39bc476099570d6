/* softmax.c — y_j = exp(s x_j) / Σ exp(s x_k). */
#include "op/softmax/softmax.h"
#include "op/softmax_grad/softmax_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_softmax);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    double s = (double)((const lm_softmax_p *)c->p)->scale;
    if (!(s > 0) || !isfinite(s)) return lm_fail(ctx, LM_E_SHAPE, "softmax: scale: got %g, wanted a positive number", s);
    return lm_shape_like_first(ctx, c, out);
}
static void ref(const lm_call *c) {
    double s = (double)((const lm_softmax_p *)c->p)->scale;
    int64_t n = lm_rows(&c->in[0]), d = lm_cols(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *x = lm_f64(&c->in[0]) + r * d; double *y = lm_f64(&c->out[0]) + r * d, m = -INFINITY, sum = 0;
        for (int64_t j = 0; j < d; j++) m = fmax(m, s * x[j]);
        for (int64_t j = 0; j < d; j++) sum += y[j] = exp(s * x[j] - m);
        for (int64_t j = 0; j < d; j++) y[j] /= sum;
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_softmax_grad(g, d->gout[0], d->out[0], ((const lm_softmax_p *)d->p)->scale);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 5 * (double)lm_numel(&c->in[0]); }
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", (&(lm_softmax_p){ 1.0f }), LM_TIMES1, 1e-6),
    { .name = "scaled", .params = &(lm_softmax_p){ 0.125f }, .in = { { .rank = 2, .dim = { 5, 65 } } }, .tol = 1e-6 },
    { .name = "sharp", .params = &(lm_softmax_p){ 30.0f }, .in = { { .rank = 2, .dim = { 5, 100 } } }, .tol = 4e-6 },
    { .name = "zeros", .params = &(lm_softmax_p){ 1.0f }, .in = { { .rank = 2, .dim = { 2, 48 }, .fill = LM_FILL_ZERO } }, .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_softmax = { .name = "softmax",
                              .math = "y_j = exp(s x_j) / sum_k exp(s x_k)",
                              .n_in = 1,
                              .n_out = 1,
                              .params_bytes = sizeof(lm_softmax_p),
                              .inplace_ok = true,
                              .shape = shape,
                              .ref = ref,
                              .grad = grad,
                              .cost = cost,
                              .kernels = lm_k_softmax,
                              .samples = samples };
lm_value *lm_softmax(lm_graph *g, lm_value *x, float scale) { return lm_emit(g, &lm_op_softmax, &(lm_softmax_p){ scale }, 1, &x); }
