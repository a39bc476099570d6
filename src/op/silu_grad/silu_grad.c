/* silu_grad.c — dx = dy s (1 + x (1 - s)), s = 1 / (1 + e^-x). */
#include "op/silu_grad/silu_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_silu_grad);

static void ref(const lm_call *c) {
    const double *dy = lm_f64(&c->in[0]), *x = lm_f64(&c->in[1]); double *dx = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) { double s = 1 / (1 + exp(-x[i])); dx[i] = dy[i] * s * (1 + x[i] * (1 - s)); }
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES2, 1e-6), { 0 } };
const lm_op lm_op_silu_grad = { .name = "silu_grad", .math = "dx = dy s (1 + x (1 - s)), s = sigmoid(x)", .n_in = 2, .n_out = 1, .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .kernels = lm_k_silu_grad, .samples = samples };
lm_value *lm_silu_grad(lm_graph *g, lm_value *dy, lm_value *x) { return lm_emit(g, &lm_op_silu_grad, NULL, 2, (lm_value *const[]){ dy, x }); }
