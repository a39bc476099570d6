/* muon_momentum.c — inputs grad, buf, hyper, scale. */
#include "op/muon_momentum/muon_momentum.h"
#include "op/rule.h"
LM_SIMD_CUDA_KERNELS(lm_k_muon_momentum);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK)); LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(LM_HYPER_N)));
    LM_TRY(lm_want(ctx, c, 3, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 3, LM_DIMS(1)));
    out[0] = out[1] = out[2] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *gr = lm_f64(&c->in[0]), *b = lm_f64(&c->in[1]), mu = lm_f64(&c->in[2])[LM_HYPER_BETA1], s = *lm_f64(&c->in[3]);
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) {
        double g = gr[i] * s, b1 = b[i] + (1 - mu) * (g - b[i]);
        lm_f64(&c->out[0])[i] = ((const lm_muon_momentum_p *)c->p)->nesterov ? g + mu * (b1 - g) : b1;
        lm_f64(&c->out[1])[i] = 0; lm_f64(&c->out[2])[i] = b1;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { double n = (double)lm_numel(&c->in[0]); *flops = 7 * n; *bytes = 20 * n; }
#define ARGS(...) { { __VA_ARGS__ }, { __VA_ARGS__ }, { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM }, { .rank = 1, .dim = { 1 }, .fill = LM_FILL_UNIFORM } }
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", (&(lm_muon_momentum_p){ true }), ARGS, 2e-6),
    { .name = "plain momentum", .params = &(lm_muon_momentum_p){ false }, .in = ARGS(.rank = 2, .dim = { 5, 33 }), .tol = 2e-6 },
    { 0 }
};
const lm_op lm_op_muon_momentum = { .name = "muon_momentum",
                                    .math = "buf += (1-mu)(g - buf); y = nesterov ? g + mu (buf - g) : buf",
                                    .n_in = 4,
                                    .n_out = 3,
                                    .params_bytes = sizeof(lm_muon_momentum_p),
                                    .alias = { 0, 1, 2 },
                                    .pure_write = true,
                                    .shape = shape,
                                    .ref = ref,
                                    .cost = cost,
                                    .kernels = lm_k_muon_momentum,
                                    .samples = samples };
lm_value *lm_muon_momentum(lm_graph *g, lm_value *grad, lm_value *buf, lm_value *hyper, lm_value *scale, bool nesterov) {
    return lm_emit(g, &lm_op_muon_momentum, &(lm_muon_momentum_p){ nesterov }, 4, (lm_value *const[]){ grad, buf, hyper, scale });
}
