/* muon_apply.c — inputs param, update, hyper. */
#include "op/muon_apply/muon_apply.h"
#include "op/rule.h"
LM_SIMD_CUDA_KERNELS(lm_k_muon_apply);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 1, LM_MAX_RANK)); LM_TRY(lm_want_dims(ctx, c, 1, c->in[0].rank, c->in[0].dim));
    LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(LM_HYPER_N)));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *p = lm_f64(&c->in[0]), *u = lm_f64(&c->in[1]), *h = lm_f64(&c->in[2]), f = (double)((const lm_muon_apply_p *)c->p)->factor;
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++)
        lm_f64(&c->out[0])[i] = p[i] * (1 - h[LM_HYPER_LR] * h[LM_HYPER_WD]) - h[LM_HYPER_LR] * f * u[i];
}
static void cost(const lm_call *c, double *flops, double *bytes) { double n = (double)lm_numel(&c->in[0]); *flops = 3 * n; *bytes = 12 * n; }
#define ARGS(...) { { __VA_ARGS__ }, { __VA_ARGS__ }, { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM } }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_muon_apply_p){ 0.7f }), ARGS, 2e-6),
                                     { .name = "panels beside plain",
                                       .params = &(lm_muon_apply_p){ 1 },
                                       .in = { { .rank = 2, .dim = { 37, 45 }, .layout = LM_PANEL16 },
                                               { .rank = 2, .dim = { 37, 45 } },
                                               { .rank = 1, .dim = { LM_HYPER_N }, .fill = LM_FILL_UNIFORM } },
                                       .tol = 2e-6 },
                                     { 0 } };
const lm_op lm_op_muon_apply = { .name = "muon_apply",
                                 .math = "p = p (1 - lr wd) - lr factor u",
                                 .n_in = 3,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_muon_apply_p),
                                 .alias = { 1 },
                                 .pure_write = true,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = lm_k_muon_apply,
                                 .samples = samples };
lm_value *lm_muon_apply(lm_graph *g, lm_value *param, lm_value *update, lm_value *hyper, float factor) {
    return lm_emit(g, &lm_op_muon_apply, &(lm_muon_apply_p){ factor }, 3, (lm_value *const[]){ param, update, hyper });
}
