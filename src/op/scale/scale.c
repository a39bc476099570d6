/* scale.c — y = s·x. */
#include "op/scale/scale.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_scale);

static void ref(const lm_call *c) {
    const lm_scale_p *p = c->p; const double *x = lm_f64(&c->in[0]); double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = (double)p->s * x[i];
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_scale(g, d->gout[0], ((const lm_scale_p *)d->p)->s);
    return LM_OK;
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_scale_p){ -0.37f }), LM_TIMES1, 1e-6), { 0 } };
const lm_op lm_op_scale = { .name = "scale", .math = "y = s x", .n_in = 1, .n_out = 1, .params_bytes = sizeof(lm_scale_p), .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .grad = grad, .kernels = lm_k_scale, .samples = samples };
lm_value *lm_scale(lm_graph *g, lm_value *x, float s) { return lm_emit(g, &lm_op_scale, &(lm_scale_p){ s }, 1, &x); }
