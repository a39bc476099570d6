/* rmsnorm_grad.c — inputs dy, x, w, rstd. */
#include "op/rmsnorm_grad/rmsnorm_grad.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_rmsnorm_grad);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 1, 1));
    int64_t d = c->in[2].dim[0], cols = lm_cols(&c->in[0]);
    if (d < 1 || cols < 1 || cols % d)
        return lm_fail(ctx, LM_E_SHAPE, "%s: input 2: got %lld weights, wanted a divisor of the %lld columns of input 0", c->op->name,
                       (long long)d, (long long)cols);
    lm_type st = lm_norm_stat_type(&c->in[0], d);
    LM_TRY(lm_want_dims(ctx, c, 3, st.rank, st.dim));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    double offset = (double)((const lm_rmsnorm_grad_p *)c->p)->offset; const double *w = lm_f64(&c->in[2]);
    int64_t d = c->in[2].dim[0], n = lm_numel(&c->in[0]) / d;
    for (int64_t r = 0; r < n; r++) {
        const double *dy = lm_f64(&c->in[0]) + r * d, *x = lm_f64(&c->in[1]) + r * d;
        double *dx = lm_f64(&c->out[0]) + r * d, dot = 0, rs = lm_f64(&c->in[3])[r];
        for (int64_t j = 0; j < d; j++) dot += dy[j] * (w[j] + offset) * x[j];
        for (int64_t j = 0; j < d; j++) dx[j] = rs * dy[j] * (w[j] + offset) - x[j] * rs * rs * rs * dot / (double)d;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 8 * (double)lm_numel(&c->in[0]); }
#define P &(lm_rmsnorm_grad_p){ 0 }
#define S(nm, r, d) { .name = nm, .params = P, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { d } }, { .rank = 1, .dim = { r }, .fill = LM_FILL_UNIFORM } }, .tol = 4e-6 }
static const lm_sample samples[] = { S("one", 1, 1),
                                     S("3x7", 3, 7),
                                     S("2x15", 2, 15),
                                     S("5x17", 5, 17),
                                     S("a tile and more", 33, 257),
                                     S("long row", 2, 9001),
                                     { .name = "vector",
                                       .params = P,
                                       .in = { { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ONES } },
                                       .tol = 4e-6 },
                                     { .name = "groups, offset",
                                       .params = &(lm_rmsnorm_grad_p){ 1 },
                                       .in = { { .rank = 2, .dim = { 7, 96 } },
                                               { .rank = 2, .dim = { 7, 96 } },
                                               { .rank = 1, .dim = { 24 } },
                                               { .rank = 2, .dim = { 7, 4 }, .fill = LM_FILL_UNIFORM } },
                                       .tol = 4e-6 },
                                     { 0 } };
const lm_op lm_op_rmsnorm_grad = { .name = "rmsnorm_grad",
                                   .math = "dx = rstd g - x rstd^3 mean(g x), g = dy (w + offset)",
                                   .n_in = 4,
                                   .n_out = 1,
                                   .params_bytes = sizeof(lm_rmsnorm_grad_p),
                                   .inplace_ok = true,
                                   .shape = shape,
                                   .ref = ref,
                                   .cost = cost,
                                   .kernels = lm_k_rmsnorm_grad,
                                   .samples = samples };
lm_value *lm_rmsnorm_grad(lm_graph *g, lm_value *dy, lm_value *x, lm_value *w, lm_value *rstd, float offset) {
    return lm_emit(g, &lm_op_rmsnorm_grad, &(lm_rmsnorm_grad_p){ offset }, 4, (lm_value *const[]){ dy, x, w, rstd });
}
