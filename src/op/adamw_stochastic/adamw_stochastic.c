/* adamw_stochastic.c — the rule and the truth. */
#include "op/adamw_stochastic/adamw_stochastic.h"
#include "op/rule.h"
#include <math.h>
#include <string.h>
LM_SIMD_CUDA_KERNELS(lm_k_adamw_stochastic);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < 4; i++) {
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, LM_MAX_RANK));
        LM_TRY(lm_want_dims(ctx, c, i, c->in[0].rank, c->in[0].dim));
        out[i] = lm_type_like(&c->in[i]);
    }
    LM_TRY(lm_want(ctx, c, 4, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 4, LM_DIMS(LM_HYPER_N)));
    LM_TRY(lm_want(ctx, c, 5, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 5, LM_DIMS(1)));
    LM_TRY(lm_want(ctx, c, 6, LM_I64, 1, 1));
    return lm_want_dims(ctx, c, 6, LM_DIMS(2));
}
static void ref(const lm_call *c) {
    const lm_adamw_stochastic_p *o = c->p;
    const double *p = lm_f64(&c->in[0]), *gr = lm_f64(&c->in[1]), *m = lm_f64(&c->in[2]), *v = lm_f64(&c->in[3]), *h = lm_f64(&c->in[4]),
                 s = *lm_f64(&c->in[5]);
    const double b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1 - b2,
                 lr = h[LM_HYPER_LR];
    const lm_rng rng = lm_adamw_stochastic_rng(o->stream, c->in[6].data);
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) {
        const double g = gr[i] * s, m1 = m[i] + (1 - b1) * (g - m[i]), v1 = b2 * v[i] + ob2 * g * g,
                     q = p[i] * (1 - lr * h[LM_HYPER_WD]) - lr / h[LM_HYPER_BIAS1] * m1 / (sqrt(v1) / sqrt(h[LM_HYPER_BIAS2]) + h[LM_HYPER_EPS]);
        const float f = (float)q;
        uint32_t x, w[4];
        memcpy(&x, &f, sizeof x);
        lm_rng_block(rng, (uint64_t)i / 8, w);
        lm_f64(&c->out[0])[i] = (double)lm_bf16_to_f32(lm_bf16_by_chance(x, w[i % 8 / 2] >> 16 * (i % 2) & 0xffff));
        lm_f64(&c->out[1])[i] = o->clear ? 0 : gr[i]; lm_f64(&c->out[2])[i] = m1; lm_f64(&c->out[3])[i] = v1;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const double n = (double)lm_numel(&c->in[0]);
    *flops = 30 * n; *bytes = (24 + (((const lm_adamw_stochastic_p *)c->p)->clear ? 4 : 0)) * n;
}
#define REST { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM }, { .rank = 1, .dim = { 1 }, .fill = LM_FILL_ONES }, \
             { .rank = 1, .dim = { 2 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
#define ALL(r, ...) { { .rank = r, .dim = { __VA_ARGS__ }, .dtype = LM_BF16 }, { .rank = r, .dim = { __VA_ARGS__ } }, { .rank = r, .dim = { __VA_ARGS__ } }, \
                      { .rank = r, .dim = { __VA_ARGS__ }, .fill = LM_FILL_UNIFORM }, REST }
#define P(s, c) &(lm_adamw_stochastic_p){ s, c }
/* a number beside the border of its draw may go to the other neighbour: one step of bf16 */
#define ROUNDED .tol = 8e-3, .tol_norm = 1e-3
static const lm_sample samples[] = {
    { .name = "one", .params = P(3, true), .in = ALL(1, 1), .tol = 8e-3 },
    { .name = "vector", .params = P(0x1234567890abcdefu, true), .in = ALL(1, 1000), ROUNDED },
    { .name = "matrix", .params = P(7, true), .in = ALL(2, 37, 45), ROUNDED },
    { .name = "gradient stays", .params = P(7, false), .in = ALL(2, 37, 45), ROUNDED },
    { .name = "more than a tile", .params = P(9, false), .in = ALL(2, 130, 136), ROUNDED },
    { .name = "more than a tile, cleared", .params = P(9, true), .in = ALL(2, 129, 131), ROUNDED },
    { 0 }
};
const lm_op lm_op_adamw_stochastic = { .name = "adamw_stochastic",
                                       .math = "p = chance_bf16(p (1 - lr wd) - lr/bias1 m / (sqrt(v)/sqrt(bias2) + eps)), u_i = 16 bits of (seed, stream, step, i)",
                                       .n_in = 7,
                                       .n_out = 4,
                                       .params_bytes = sizeof(lm_adamw_stochastic_p),
                                       .alias = { 1, 2, 3, 4 },
                                       .opaque = 64,
                                       .pure_write = true,
                                       .shape = shape,
                                       .ref = ref,
                                       .cost = cost,
                                       .kernels = lm_k_adamw_stochastic,
                                       .samples = samples };
lm_value *lm_adamw_stochastic(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale, lm_value *rng,
                              uint64_t stream, bool clear) {
    lm_adamw_stochastic_p p;
    memset(&p, 0, sizeof p);                                             /* params are compared as bytes */
    p.stream = stream; p.clear = clear;
    return lm_emit(g, &lm_op_adamw_stochastic, &p, 7, (lm_value *const[]){ param, grad, m, v, hyper, scale, rng });
}
