/* adamw_round.c — the rule and the truth. */
#include "op/adamw_round/adamw_round.h"
#include "op/rule.h"
#include <math.h>
#include <string.h>
LM_SIMD_CUDA_KERNELS(lm_k_adamw_round);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    for (int i = 1; i < 7; i++) {
        if (i == 4 || i == 5 || (i == 6 && !lm_has(c, 6))) continue;
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, LM_MAX_RANK));
        LM_TRY(lm_want_dims(ctx, c, i, c->in[0].rank, c->in[0].dim));
    }
    LM_TRY(lm_want(ctx, c, 4, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 4, LM_DIMS(LM_HYPER_N)));
    LM_TRY(lm_want(ctx, c, 5, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 5, LM_DIMS(1)));
    out[0] = lm_type_like(&c->in[0]); out[1] = lm_type_like(&c->in[2]); out[2] = lm_type_like(&c->in[3]);
    if (lm_has(c, 6)) out[3] = lm_type_like(&c->in[6]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *p = lm_f64(&c->in[0]), *gr = lm_f64(&c->in[1]), *m = lm_f64(&c->in[2]), *v = lm_f64(&c->in[3]), *h = lm_f64(&c->in[4]),
                 s = *lm_f64(&c->in[5]);
    const double b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1 - b2,
                 lr = h[LM_HYPER_LR];
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) {
        const double g = gr[i] * s, m1 = m[i] + (1 - b1) * (g - m[i]), v1 = b2 * v[i] + ob2 * g * g,
                     q = p[i] * (1 - lr * h[LM_HYPER_WD]) - lr / h[LM_HYPER_BIAS1] * m1 / (sqrt(v1) / sqrt(h[LM_HYPER_BIAS2]) + h[LM_HYPER_EPS]);
        lm_f64(&c->out[0])[i] = q; lm_f64(&c->out[1])[i] = m1; lm_f64(&c->out[2])[i] = v1;
        if (lm_has(c, 6)) lm_f64(&c->out[3])[i] = q;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const double n = (double)lm_numel(&c->in[0]);
    *flops = 15 * n; *bytes = (24 + (c->in[1].dtype == LM_BF16 ? 2 : 4) + (lm_has(c, 6) ? 2 : 0)) * n;
}
#define HYPER { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM }
#define SCALE { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ONES }
#define T(r, k) { .rank = 2, .dim = { r, k } }
#define U(r, k) { .rank = 2, .dim = { r, k }, .fill = LM_FILL_UNIFORM }
#define H(r, k) { .rank = 2, .dim = { r, k }, .dtype = LM_BF16 }
/* the copy is of bf16's precision; rows without one hold the rest to f32's */
#define ROUNDED .tol = 4e-3, .tol_norm = 2.5e-3
static const lm_sample samples[] = {
    { .name = "vector",
      .in = { { .rank = 1, .dim = { 1000 } },
              { .rank = 1, .dim = { 1000 } },
              { .rank = 1, .dim = { 1000 } },
              { .rank = 1, .dim = { 1000 }, .fill = LM_FILL_UNIFORM },
              HYPER,
              SCALE },
      .tol = 2e-5 },
    { .name = "matrix, rounded", .in = { T(37, 45), T(37, 45), T(37, 45), U(37, 45), HYPER, SCALE, H(37, 45) }, ROUNDED },
    { .name = "more than a tile, rounded", .in = { T(130, 136), T(130, 136), T(130, 136), U(130, 136), HYPER, SCALE, H(130, 136) }, ROUNDED },
    { .name = "gradient bf16, rounded", .in = { T(96, 200), H(96, 200), T(96, 200), U(96, 200), HYPER, SCALE, H(96, 200) }, ROUNDED },
    { .name = "gradient bf16", .in = { T(96, 200), H(96, 200), T(96, 200), U(96, 200), HYPER, SCALE }, .tol = 2e-5 },
    { 0 }
};
const lm_op lm_op_adamw_round = { .name = "adamw_round",
                                  .math = "p = p (1 - lr wd) - lr/bias1 m / (sqrt(v)/sqrt(bias2) + eps), copy = p",
                                  .n_in = 6,
                                  .n_opt = 1,
                                  .n_out = 4,
                                  .alias = { 1, 3, 4, 7 },
                                  .pure_write = true,
                                  .shape = shape,
                                  .ref = ref,
                                  .cost = cost,
                                  .kernels = lm_k_adamw_round,
                                  .samples = samples };
lm_value *lm_adamw_round(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale, lm_value *copy) {
    return lm_emit(g, &lm_op_adamw_round, NULL, copy ? 7 : 6, (lm_value *const[]){ param, grad, m, v, hyper, scale, copy });
}
