/* layernorm.c — the rule, the truth, the gradient: dx and dw are nodes of their own, db is sum_rows. */
#include "op/layernorm/layernorm.h"
#include "op/layernorm_grad/layernorm_grad.h"
#include "op/layernorm_grad_w/layernorm_grad_w.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/sum_rows/sum_rows.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_layernorm);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_cols(ctx, c, 1, 0));
    if (lm_has(c, 2)) LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "layernorm: input 0: got no columns, wanted at least one");
    out[0] = lm_type_like(&c->in[0]);
    out[1] = out[2] = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0]));
    return LM_OK;
}
static void ref(const lm_call *c) {
    double eps = (double)((const lm_layernorm_p *)c->p)->eps; const double *w = lm_f64(&c->in[1]), *b = lm_has(c, 2) ? lm_f64(&c->in[2]) : NULL;
    int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *x = lm_f64(&c->in[0]) + r * d; double *y = lm_f64(&c->out[0]) + r * d, m = 0, v = 0;
        for (int64_t j = 0; j < d; j++) m += x[j] / (double)d;
        for (int64_t j = 0; j < d; j++) v += (x[j] - m) * (x[j] - m) / (double)d;
        double rstd = 1 / sqrt(v + eps);
        for (int64_t j = 0; j < d; j++) y[j] = (x[j] - m) * rstd * w[j] + (b ? b[j] : 0);
        lm_f64(&c->out[1])[r] = m; lm_f64(&c->out[2])[r] = rstd;
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->gout[1] || d->gout[2]) return LM_E_UNSUPPORTED;
    lm_value *mean = lm_output(d->out[0], 1), *rstd = lm_output(d->out[0], 2);
    if (d->want[0]) d->gin[0] = lm_layernorm_grad(g, d->gout[0], d->in[0], d->in[1], mean, rstd);
    if (d->want[1]) d->gin[1] = lm_layernorm_grad_w(g, d->gout[0], d->in[0], mean, rstd);
    if (d->n_in > 2 && d->want[2]) d->gin[2] = lm_sum_rows(g, d->gout[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 7 * (double)lm_numel(&c->in[0]); }
#define P &(lm_layernorm_p){ 1e-5f }
#define S(nm, r, d) { .name = nm, .params = P, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { d } }, { .rank = 1, .dim = { d } } }, .tol = 4e-6 }
static const lm_sample samples[] = {
    S("3x7", 3, 7),
    S("2x15", 2, 15),
    S("5x17", 5, 17),
    S("a tile and more", 33, 257),
    S("long row", 2, 9001),
    S("many rows", 300, 64),
    { .name = "no bias", .params = P, .in = { { .rank = 2, .dim = { 6, 48 } }, { .rank = 1, .dim = { 48 } } }, .tol = 4e-6 },
    { .name = "vector",
      .params = P,
      .in = { { .rank = 1, .dim = { 40 } }, { .rank = 1, .dim = { 40 } }, { .rank = 1, .dim = { 40 } } },
      .tol = 4e-6 },
    { .name = "rank 3", .params = P, .in = { { .rank = 3, .dim = { 2, 3, 33 } }, { .rank = 1, .dim = { 33 } } }, .tol = 4e-6 },
    { .name = "one column, zeros",
      .params = P,
      .in = { { .rank = 2, .dim = { 3, 1 }, .fill = LM_FILL_ZERO }, { .rank = 1, .dim = { 1 } }, { .rank = 1, .dim = { 1 } } },
      .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_layernorm = { .name = "layernorm",
                                .math = "y = (x - mean) rstd w + b, rstd = (var x + eps)^-1/2",
                                .n_in = 2,
                                .n_opt = 1,
                                .n_out = 3,
                                .params_bytes = sizeof(lm_layernorm_p),
                                .inplace_ok = true,
                                .shape = shape,
                                .ref = ref,
                                .grad = grad,
                                .cost = cost,
                                .kernels = lm_k_layernorm,
                                .samples = samples };
lm_value *lm_layernorm(lm_graph *g, lm_value *x, lm_value *w, lm_value *b, float eps) {
    return lm_emit(g, &lm_op_layernorm, &(lm_layernorm_p){ eps }, 3, (lm_value *const[]){ x, w, b });
}
