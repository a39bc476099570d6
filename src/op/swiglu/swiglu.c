/* swiglu.c — y = a σ(a) b. */
#include "op/swiglu/swiglu.h"
#include "op/swiglu_grad/swiglu_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_swiglu);

static void ref(const lm_call *c) {
    const double *a = lm_f64(&c->in[0]), *b = lm_f64(&c->in[1]); double *y = lm_f64(&c->out[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = a[i] / (1 + exp(-a[i])) * b[i];
}
/* One node for both: it reads dy, a and b once, and whoever trains wants both. */
static lm_err grad(lm_graph *g, lm_grad *d) {
    lm_value *da = lm_swiglu_grad(g, d->gout[0], d->in[0], d->in[1]);
    if (d->want[0]) d->gin[0] = da;
    if (d->want[1]) d->gin[1] = lm_output(da, 1);
    return LM_OK;
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES2, 1e-6), { 0 } };
const lm_op lm_op_swiglu = { .name = "swiglu", .math = "y = silu(a) b", .n_in = 2, .n_out = 1, .inplace_ok = true, .pattern = "mul(silu(a), b)",
    .shape = lm_shape_like_first, .ref = ref, .grad = grad, .kernels = lm_k_swiglu, .samples = samples };
lm_value *lm_swiglu(lm_graph *g, lm_value *a, lm_value *b) { return lm_emit(g, &lm_op_swiglu, NULL, 2, (lm_value *const[]){ a, b }); }
