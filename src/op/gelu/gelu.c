/* gelu.c — y = x (1 + erf(x/√2)) / 2, or x (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2. */
#include "op/gelu/gelu.h"
#include "op/gelu_grad/gelu_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_gelu);

static void ref(const lm_call *c) {
    const lm_gelu_p *p = c->p; const double *x = lm_f64(&c->in[0]); double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++)
        y[i] = x[i] * 0.5 * (1 + (p->tanh ? tanh(sqrt(2 / M_PI) * (x[i] + 0.044715 * x[i] * x[i] * x[i])) : erf(x[i] / sqrt(2))));
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_gelu_grad(g, d->gout[0], d->in[0], ((const lm_gelu_p *)d->p)->tanh);
    return LM_OK;
}
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", (&(lm_gelu_p){ false }), LM_TIMES1, 1e-6), LM_SAMPLES_ALIKE(", tanh", (&(lm_gelu_p){ true }), LM_TIMES1, 1e-6), { 0 } };
const lm_op lm_op_gelu = { .name = "gelu",
                           .math = "y = x Phi(x); tanh: x (1 + tanh(sqrt(2/pi)(x + 0.044715 x^3))) / 2",
                           .n_in = 1,
                           .n_out = 1,
                           .params_bytes = sizeof(lm_gelu_p),
                           .inplace_ok = true,
                           .shape = lm_shape_like_first,
                           .ref = ref,
                           .grad = grad,
                           .kernels = lm_k_gelu,
                           .samples = samples };
lm_value *lm_gelu(lm_graph *g, lm_value *x, bool tanh_form) { return lm_emit(g, &lm_op_gelu, &(lm_gelu_p){ tanh_form }, 1, &x); }
