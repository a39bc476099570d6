/* tanh.c — y = tanh x; the gradient needs y alone. */
#include "op/tanh/tanh.h"
#include "op/tanh_grad/tanh_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_tanh);

static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = tanh(x[i]);
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_tanh_grad(g, d->gout[0], d->out[0]);
    return LM_OK;
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES1, 1e-6), { 0 } };
const lm_op lm_op_tanh = { .name = "tanh", .math = "y = tanh x", .n_in = 1, .n_out = 1, .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .grad = grad, .kernels = lm_k_tanh, .samples = samples };
lm_value *lm_tanh(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_tanh, NULL, 1, &x); }
