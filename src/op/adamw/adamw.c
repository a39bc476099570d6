/* adamw.c — the rule and the truth. */
#include "op/adamw/adamw.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_KERNELS(lm_k_adamw);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    for (int i = 1; i < 4; i++) {
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, LM_MAX_RANK));
        LM_TRY(lm_want_dims(ctx, c, i, c->in[0].rank, c->in[0].dim));
    }
    LM_TRY(lm_want(ctx, c, 4, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 4, LM_DIMS(LM_HYPER_N)));
    LM_TRY(lm_want(ctx, c, 5, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 5, LM_DIMS(1)));
    for (int i = 0; i < 4; i++) out[i] = lm_type_like(&c->in[i]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *p = lm_f64(&c->in[0]), *gr = lm_f64(&c->in[1]), *m = lm_f64(&c->in[2]), *v = lm_f64(&c->in[3]), *h = lm_f64(&c->in[4]),
                 s = *lm_f64(&c->in[5]);
    double b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1 - b2,
           lr = h[LM_HYPER_LR];
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) {
        double g = gr[i] * s, m1 = m[i] + (1 - b1) * (g - m[i]), v1 = b2 * v[i] + ob2 * g * g;
        lm_f64(&c->out[0])[i] =
            p[i] * (1 - lr * h[LM_HYPER_WD]) - lr / h[LM_HYPER_BIAS1] * m1 / (sqrt(v1) / sqrt(h[LM_HYPER_BIAS2]) + h[LM_HYPER_EPS]);
        lm_f64(&c->out[1])[i] = 0; lm_f64(&c->out[2])[i] = m1; lm_f64(&c->out[3])[i] = v1;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { double n = (double)lm_numel(&c->in[0]); *flops = 15 * n; *bytes = 32 * n; }
#define HYPER { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM }
#define ARGS(...) { { __VA_ARGS__ }, { __VA_ARGS__ }, { __VA_ARGS__ }, { __VA_ARGS__, .fill = LM_FILL_UNIFORM }, HYPER, { .rank = 1, .dim = { 1 }, .fill = LM_FILL_UNIFORM } }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, ARGS, 2e-5),
                                     { .name = "panels beside plain",
                                       .params = NULL,
                                       .in = { { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 },
                                               { .rank = 2, .dim = { 37, 45 } },
                                               { .rank = 2, .dim = { 37, 45 } },
                                               { .rank = 2, .dim = { 37, 45 }, .fill = LM_FILL_UNIFORM },
                                               HYPER,
                                               { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ONES } },
                                       .tol = 2e-5 },
                                     { .name = "all panels",
                                       .params = NULL,
                                       .in = { { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 },
                                               { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 },
                                               { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 },
                                               { .rank = 2, .dim = { 37, 45 }, .fill = LM_FILL_UNIFORM, .layout = LM_PANEL16 },
                                               HYPER,
                                               { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ONES } },
                                       .tol = 2e-5 },
                                     { 0 } };
const lm_op lm_op_adamw = { .name = "adamw",
                            .math = "p = p (1 - lr wd) - lr/bias1 m / (sqrt(v)/sqrt(bias2) + eps)",
                            .n_in = 6,
                            .n_out = 4,
                            .alias = { 1, 2, 3, 4 },
                            .pure_write = true,
                            .shape = shape,
                            .ref = ref,
                            .cost = cost,
                            .kernels = lm_k_adamw,
                            .samples = samples };
lm_value *lm_adamw(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale) {
    return lm_emit(g, &lm_op_adamw, NULL, 6, (lm_value *const[]){ param, grad, m, v, hyper, scale });
}
