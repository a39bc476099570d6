/* layernorm_grad.c — inputs dy, x, w, mean, rstd. */
#include "op/layernorm_grad/layernorm_grad.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_layernorm_grad);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "layernorm_grad: input 0: got no columns, wanted at least one");
    lm_type st = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0]));
    LM_TRY(lm_want_dims(ctx, c, 3, st.rank, st.dim));
    LM_TRY(lm_want_dims(ctx, c, 4, st.rank, st.dim));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *w = lm_f64(&c->in[2]); int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *dy = lm_f64(&c->in[0]) + r * d, *x = lm_f64(&c->in[1]) + r * d; double *dx = lm_f64(&c->out[0]) + r * d;
        double m = lm_f64(&c->in[3])[r], rs = lm_f64(&c->in[4])[r], sg = 0, sgh = 0;
        for (int64_t j = 0; j < d; j++) { sg += dy[j] * w[j]; sgh += dy[j] * w[j] * (x[j] - m) * rs; }
        for (int64_t j = 0; j < d; j++) dx[j] = rs * (dy[j] * w[j] - sg / (double)d - (x[j] - m) * rs * sgh / (double)d);
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 12 * (double)lm_numel(&c->in[0]); }
#define S(nm, r, d) { .name = nm, .params = NULL, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { d } }, { .rank = 1, .dim = { r } }, { .rank = 1, .dim = { r }, .fill = LM_FILL_UNIFORM } }, .tol = 4e-6 }
static const lm_sample samples[] = { S("3x7", 3, 7),
                                     S("2x15", 2, 15),
                                     S("5x17", 5, 17),
                                     S("a tile and more", 33, 257),
                                     S("long row", 2, 9001),
                                     { .name = "vector",
                                       .params = NULL,
                                       .in = { { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 40 } },
                                               { .rank = 1, .dim = { 1 } },
                                               { .rank = 1, .dim = { 1 } } },
                                       .tol = 4e-6 },
                                     { 0 } };
const lm_op lm_op_layernorm_grad = { .name = "layernorm_grad",
                                     .math = "dx = rstd (g - mean g - h mean(g h)), g = dy w, h = (x - mean) rstd",
                                     .n_in = 5,
                                     .n_out = 1,
                                     .inplace_ok = true,
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = lm_k_layernorm_grad,
                                     .samples = samples };
lm_value *lm_layernorm_grad(lm_graph *g, lm_value *dy, lm_value *x, lm_value *w, lm_value *mean, lm_value *rstd) {
    return lm_emit(g, &lm_op_layernorm_grad, NULL, 5, (lm_value *const[]){ dy, x, w, mean, rstd });
}
