/* rmsnorm_grad_w.c — inputs dy, x, rstd. */
#include "op/rmsnorm_grad_w/rmsnorm_grad_w.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_rmsnorm_grad_w);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    int64_t d = ((const lm_rmsnorm_grad_w_p *)c->p)->d, cols = lm_cols(&c->in[0]);
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    if (d < 1 || cols < 1 || cols % d)
        return lm_fail(ctx, LM_E_SHAPE, "%s: got d = %lld, wanted a divisor of the %lld columns", c->op->name, (long long)d,
                       (long long)cols);
    lm_type st = lm_norm_stat_type(&c->in[0], d);
    LM_TRY(lm_want_dims(ctx, c, 2, st.rank, st.dim));
    out[0] = LM_TYPE((lm_dtype)c->in[0].dtype, d);
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    int64_t d = ((const lm_rmsnorm_grad_w_p *)c->p)->d, n = lm_numel(&c->in[0]) / d;
    const double *dy = lm_f64(&c->in[0]), *x = lm_f64(&c->in[1]), *rs = lm_f64(&c->in[2]); double *dw = lm_f64(&c->out[0]);
    for (int64_t j = 0; j < d; j++) { dw[j] = 0; for (int64_t r = 0; r < n; r++) dw[j] += dy[r * d + j] * x[r * d + j] * rs[r]; }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 3 * (double)lm_numel(&c->in[0]); }
#define S(nm, r, d) { .name = nm, .params = &(lm_rmsnorm_grad_w_p){ d }, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { r }, .fill = LM_FILL_UNIFORM } }, .tol = 4e-6 }
static const lm_sample samples[] = {
    S("one", 1, 1),
    S("3x7", 3, 7),
    S("5x17", 5, 17),
    S("one row", 1, 65),
    S("several tiles", 70, 257),
    { .name = "many rows",
      .params = &(lm_rmsnorm_grad_w_p){ 64 },
      .in = { { .rank = 2, .dim = { 1000, 64 } },
              { .rank = 2, .dim = { 1000, 64 } },
              { .rank = 1, .dim = { 1000 }, .fill = LM_FILL_UNIFORM } },
      .tol = 1e-5,
      .tol_norm = 2e-6 },
    { .name = "groups",
      .params = &(lm_rmsnorm_grad_w_p){ 24 },
      .in = { { .rank = 2, .dim = { 7, 96 } }, { .rank = 2, .dim = { 7, 96 } }, { .rank = 2, .dim = { 7, 4 }, .fill = LM_FILL_UNIFORM } },
      .tol = 4e-6 },
    { 0 }
};
const lm_op lm_op_rmsnorm_grad_w = { .name = "rmsnorm_grad_w",
                                     .math = "dw_j = sum_r dy_rj x_rj rstd_r",
                                     .n_in = 3,
                                     .n_out = 1,
                                     .params_bytes = sizeof(lm_rmsnorm_grad_w_p),
                                     .acc_ok = 1,
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = lm_k_rmsnorm_grad_w,
                                     .samples = samples };
lm_value *lm_rmsnorm_grad_w(lm_graph *g, lm_value *dy, lm_value *x, lm_value *rstd, int64_t d) {
    return lm_emit(g, &lm_op_rmsnorm_grad_w, &(lm_rmsnorm_grad_w_p){ d }, 3, (lm_value *const[]){ dy, x, rstd });
}
