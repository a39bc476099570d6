/* rmsnorm.c — the rule, the truth, the gradient: dx and dw are nodes of their own. */
#include "op/rmsnorm/rmsnorm.h"
#include "op/rmsnorm_grad/rmsnorm_grad.h"
#include "op/rmsnorm_grad_w/rmsnorm_grad_w.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_rmsnorm);

lm_type lm_norm_stat_type(const lm_tensor *x, int64_t d) {
    int64_t dim[LM_MAX_RANK] = { 1 }, groups = lm_cols(x) / d; int n = x->rank - 1;
    for (int i = 0; i < n; i++) dim[i] = x->dim[i];
    if (groups > 1 || n == 0) dim[n++] = groups;
    return lm_type_make((lm_dtype)x->dtype, n, dim);
}
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 1, 1));
    int64_t d = c->in[1].dim[0], cols = lm_cols(&c->in[0]);
    if (d < 1 || cols < 1 || cols % d)
        return lm_fail(ctx, LM_E_SHAPE, "%s: input 1: got %lld weights, wanted a divisor of the %lld columns of input 0", c->op->name,
                       (long long)d, (long long)cols);
    out[0] = lm_type_like(&c->in[0]);
    out[1] = lm_norm_stat_type(&c->in[0], d);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_rmsnorm_p *p = c->p; const double *w = lm_f64(&c->in[1]);
    int64_t d = c->in[1].dim[0], n = lm_numel(&c->in[0]) / d;
    for (int64_t r = 0; r < n; r++) {
        const double *x = lm_f64(&c->in[0]) + r * d; double *y = lm_f64(&c->out[0]) + r * d, s = 0;
        for (int64_t j = 0; j < d; j++) s += x[j] * x[j];
        double rstd = 1 / sqrt(s / (double)d + (double)p->eps);
        for (int64_t j = 0; j < d; j++) y[j] = x[j] * rstd * (w[j] + (double)p->offset);
        lm_f64(&c->out[1])[r] = rstd;
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_rmsnorm_p *p = d->p;
    if (d->gout[1]) return LM_E_UNSUPPORTED;
    lm_value *rstd = lm_output(d->out[0], 1);
    if (d->want[0]) d->gin[0] = lm_rmsnorm_grad(g, d->gout[0], d->in[0], d->in[1], rstd, p->offset);
    if (d->want[1]) d->gin[1] = lm_rmsnorm_grad_w(g, d->gout[0], d->in[0], rstd, lm_type_of(d->in[1])->dim[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 4 * (double)lm_numel(&c->in[0]); }
#define P &(lm_rmsnorm_p){ 1e-5f, 0 }
#define S(nm, r, d) { .name = nm, .params = P, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { d } } }, .tol = 2e-6 }
static const lm_sample samples[] = {
    S("one", 1, 1),
    S("3x7", 3, 7),
    S("2x15", 2, 15),
    S("5x17", 5, 17),
    S("a tile and more", 33, 257),
    S("long row", 2, 9001),
    S("many rows", 300, 64),
    { .name = "vector", .params = P, .in = { { .rank = 1, .dim = { 40 } }, { .rank = 1, .dim = { 40 } } }, .tol = 2e-6 },
    { .name = "groups", .params = P, .in = { { .rank = 2, .dim = { 7, 96 } }, { .rank = 1, .dim = { 24 } } }, .tol = 2e-6 },
    { .name = "offset, rank 3",
      .params = &(lm_rmsnorm_p){ 1e-6f, 1 },
      .in = { { .rank = 3, .dim = { 2, 3, 33 } }, { .rank = 1, .dim = { 33 } } },
      .tol = 2e-6 },
    { .name = "zeros (no gradient check: differences step over eps)",
      .params = P,
      .in = { { .rank = 2, .dim = { 2, 20 }, .fill = LM_FILL_ZERO }, { .rank = 1, .dim = { 20 } } },
      .tol = 1e-6,
      .grad_tol = -1 },
    { 0 }
};
const lm_op lm_op_rmsnorm = { .name = "rmsnorm",
                              .math = "y = x rstd (w + offset), rstd = (mean x^2 + eps)^-1/2",
                              .n_in = 2,
                              .n_out = 2,
                              .params_bytes = sizeof(lm_rmsnorm_p),
                              .inplace_ok = true,
                              .shape = shape,
                              .ref = ref,
                              .grad = grad,
                              .cost = cost,
                              .kernels = lm_k_rmsnorm,
                              .samples = samples };
lm_value *lm_rmsnorm_offset(lm_graph *g, lm_value *x, lm_value *w, float eps, float offset) {
    return lm_emit(g, &lm_op_rmsnorm, &(lm_rmsnorm_p){ eps, offset }, 2, (lm_value *const[]){ x, w });
}
lm_value *lm_rmsnorm(lm_graph *g, lm_value *x, lm_value *w, float eps) { return lm_rmsnorm_offset(g, x, w, eps, 0); }
