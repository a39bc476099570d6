/* tanh_grad.c — dx = dy (1 - y²). */
#include "op/tanh_grad/tanh_grad.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_tanh_grad);

static void ref(const lm_call *c) {
    const double *dy = lm_f64(&c->in[0]), *y = lm_f64(&c->in[1]); double *dx = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) dx[i] = dy[i] * (1 - y[i] * y[i]);
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES2, 1e-6), { 0 } };
const lm_op lm_op_tanh_grad = { .name = "tanh_grad", .math = "dx = dy (1 - y^2)", .n_in = 2, .n_out = 1, .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .kernels = lm_k_tanh_grad, .samples = samples };
lm_value *lm_tanh_grad(lm_graph *g, lm_value *dy, lm_value *y) { return lm_emit(g, &lm_op_tanh_grad, NULL, 2, (lm_value *const[]){ dy, y }); }
