/* xent_step.c — the row of the fused loss and gradient. */
#include "op/xent_step/xent_step.h"
#include "op/xent/xent_core.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    if (((const lm_xent_step_p *)c->p)->refuse)
        return lm_fail(ctx, LM_E_UNSUPPORTED,
                       "xent: a gradient exists for the sum of the losses alone (seed of ones on loss, none on lse); put means and masks "
                       "into its weight input");
    LM_TRY(lm_xent_shape(ctx, c, out));
    if (c->in[1].dtype == LM_QUANT)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "xent_step: input 1 is quantized (%s): it has no gradient",
                       c->in[1].quant ? c->in[1].quant->name : "?");
    out[2] = LM_TYPE(LM_F32, c->in[0].dim[0], c->in[0].dim[1]);
    out[3] = LM_TYPE(LM_F32, c->in[1].dim[0], c->in[1].dim[1]);
    out[3].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    double *dw = lm_f64(&c->out[3]);
    if (!(c->acc >> 3 & 1)) for (int64_t i = 0; i < lm_numel(&c->out[3]); i++) dw[i] = 0;
    lm_xent_ref(c, lm_f64(&c->out[0]), lm_f64(&c->out[1]), lm_f64(&c->out[2]), dw);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 6.0 * (double)c->in[0].dim[0] * (double)c->in[1].dim[0] * (double)c->in[0].dim[1];
}
lm_value *lm_xent_step_of(lm_graph *g, const lm_xent_p *p, int n_in, lm_value *const *in, bool seed_is_ones) {
    const lm_xent_step_p q = { .xent = *p, .refuse = !seed_is_ones };
    return lm_emit(g, &lm_op_xent_step, &q, n_in, in);
}

extern const lm_kernel lm_k_xent_step_amx[], lm_k_xent_step_dp[], lm_k_xent_step_avx512[], lm_k_xent_step_avx2[], lm_k_xent_step_portable[];
LM_CUDA_DECLARE(lm_k_xent_step_hopper); LM_CUDA_DECLARE(lm_k_xent_step);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_xent_step_hopper) LM_CUDA_ROWS(lm_k_xent_step) lm_k_xent_step_amx,
                                            lm_k_xent_step_dp,
                                            lm_k_xent_step_avx512,
                                            lm_k_xent_step_avx2,
                                            lm_k_xent_step_portable,
                                            NULL };

#define P(...) &(const lm_xent_step_p){ .xent = { __VA_ARGS__ } }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define IDS(n, v) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = v }
#define WT(n) { .rank = 1, .dim = { n }, .fill = LM_FILL_POSITIVE }
static const lm_sample samples[] = {
    { "1x1x1", P(0), { T2(1, 1), T2(1, 1), IDS(1, 1) }, .tol = 2e-6 },
    { "5 rows of 33", P(0), { T2(5, 7), T2(33, 7), IDS(5, 33) }, .tol = 3e-6 },
    { "no rows", P(0), { T2(0, 7), T2(33, 7), IDS(0, 33) }, .tol = 2e-6 },
    { "weights, smoothing, z loss", P(.label_smoothing = 0.1f, .z_loss = 1e-2f), { T2(9, 16), T2(100, 16), IDS(9, 100), WT(9) }, .tol = 3e-6 },
    { "chunks", P(.z_loss = 1e-3f, .chunk = 8), { T2(19, 24), T2(1500, 24), IDS(19, 1500) }, .tol = 1e-5, .tol_norm = 3e-6 },
    { "cap", P(.cap = 1.5f), { T2(5, 7), T2(33, 7), IDS(5, 33) }, .tol = 3e-6 },
    { "cap, weights, smoothing, z loss", P(.label_smoothing = 0.1f, .z_loss = 1e-2f, .cap = 2), { T2(19, 16), T2(600, 16), IDS(19, 600), WT(19) }, .tol = 1e-5, .tol_norm = 3e-6 },
    { "cap, bf16", P(.mm = LM_BF16, .cap = 3), { T2(37, 40), T2(130, 40), IDS(37, 130) }, .tol = 8e-2, .tol_norm = 1e-2 },
    { "bf16", P(.mm = LM_BF16), { T2(37, 40), T2(130, 40), IDS(37, 130) }, .tol = 8e-2, .tol_norm = 1e-2 },
    /* logits up to 20, rounded to bf16 on a device: single gradients are off by as much as that moves exp(z); the norm's bound is as below */
    { "bf16, z loss, weights", P(.mm = LM_BF16, .z_loss = 1e-3f), { T2(300, 24), T2(777, 24), IDS(300, 777), WT(300) }, .tol = 2e-1, .tol_norm = 1e-2 },
    { "bf16, losses of hundreds", P(.mm = LM_BF16), { T2(5, 10000), T2(20, 10000), IDS(5, 20) }, .tol = 8e-2, .tol_norm = 1e-2 },
    { "bf16 chunks", P(.mm = LM_BF16, .chunk = 32), { T2(70, 40), T2(130, 40), IDS(70, 130) }, .tol = 8e-2, .tol_norm = 1e-2 },
    { NULL }
};
const lm_op lm_op_xent_step = {
    .name = "xent_step", .math = "xent, and dx, dW of sum(loss)", .n_in = 3, .n_opt = 1, .n_out = 4, .params_bytes = sizeof(lm_xent_step_p),
    .acc_ok = 1u << 3, .opaque = 1u << 2 | 1u << 3, .mm_at = 1 + (int16_t)(offsetof(lm_xent_step_p, xent) + offsetof(lm_xent_p, mm)),
    .shape = shape, .ref = ref, .cost = cost, .kernels = kernels, .samples = samples,
};
