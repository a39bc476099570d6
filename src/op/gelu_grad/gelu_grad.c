/* gelu_grad.c — dx = dy (Φ(x) + x φ(x)), or the derivative of the tanh form. */
#include "op/gelu_grad/gelu_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_gelu_grad);

static double slope(double x, bool tanh_form) {
    if (!tanh_form) return 0.5 * (1 + erf(x / sqrt(2))) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    double t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
static void ref(const lm_call *c) {
    const lm_gelu_p *p = c->p; const double *dy = lm_f64(&c->in[0]), *x = lm_f64(&c->in[1]); double *dx = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) dx[i] = dy[i] * slope(x[i], p->tanh);
}
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", (&(lm_gelu_p){ false }), LM_TIMES2, 1e-6), LM_SAMPLES_ALIKE(", tanh", (&(lm_gelu_p){ true }), LM_TIMES2, 1e-6), { 0 } };
const lm_op lm_op_gelu_grad = { .name = "gelu_grad",
                                .math = "dx = dy gelu'(x)",
                                .n_in = 2,
                                .n_out = 1,
                                .params_bytes = sizeof(lm_gelu_p),
                                .inplace_ok = true,
                                .shape = lm_shape_like_first,
                                .ref = ref,
                                .kernels = lm_k_gelu_grad,
                                .samples = samples };
lm_value *lm_gelu_grad(lm_graph *g, lm_value *dy, lm_value *x, bool tanh_form) {
    return lm_emit(g, &lm_op_gelu_grad, &(lm_gelu_p){ tanh_form }, 2, (lm_value *const[]){ dy, x });
}
