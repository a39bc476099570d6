/* softcap.c — y = c tanh(x/c); the gradient needs y alone: dy (1 - (y/c)²). */
#include "op/softcap/softcap.h"
#include "op/scale/scale.h"
#include "op/tanh_grad/tanh_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_softcap);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_softcap_p *p = c->p;
    if (!(p->cap > 0) || isinf(p->cap)) return lm_fail(ctx, LM_E_SHAPE, "softcap: cap is %g, wanted a positive number", (double)p->cap);
    return lm_shape_like_first(ctx, c, out);
}
static void ref(const lm_call *c) {
    const lm_softcap_p *p = c->p; const double *x = lm_f64(&c->in[0]), cap = (double)p->cap; double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = cap * tanh(x[i] / cap);
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_tanh_grad(g, d->gout[0], lm_scale(g, d->out[0], 1.0f / ((const lm_softcap_p *)d->p)->cap));
    return LM_OK;
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_softcap_p){ 1.3f }), LM_TIMES1, 1e-6), { 0 } };
const lm_op lm_op_softcap = { .name = "softcap", .math = "y = c tanh(x / c)", .n_in = 1, .n_out = 1, .params_bytes = sizeof(lm_softcap_p), .inplace_ok = true,
    .shape = shape, .ref = ref, .grad = grad, .kernels = lm_k_softcap, .samples = samples };
lm_value *lm_softcap(lm_graph *g, lm_value *x, float cap) { return lm_emit(g, &lm_op_softcap, &(lm_softcap_p){ cap }, 1, &x); }
