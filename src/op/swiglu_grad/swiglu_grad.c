/* swiglu_grad.c — with s = σ(a): da = dy b s (1 + a (1 - s)), db = dy a s. */
#include "op/swiglu_grad/swiglu_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_swiglu_grad);

static void ref(const lm_call *c) {
    const double *dy = lm_f64(&c->in[0]), *a = lm_f64(&c->in[1]), *b = lm_f64(&c->in[2]); double *da = lm_f64(&c->out[0]), *db = lm_f64(&c->out[1]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) {
        double s = 1 / (1 + exp(-a[i]));
        da[i] = dy[i] * b[i] * s * (1 + a[i] * (1 - s)); db[i] = dy[i] * a[i] * s;
    }
}
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES3, 1e-6), { 0 } };
const lm_op lm_op_swiglu_grad = { .name = "swiglu_grad", .math = "da = dy b silu'(a), db = dy silu(a)", .n_in = 3, .n_out = 2, .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .kernels = lm_k_swiglu_grad, .samples = samples };
lm_value *lm_swiglu_grad(lm_graph *g, lm_value *dy, lm_value *a, lm_value *b) {
    return lm_emit(g, &lm_op_swiglu_grad, NULL, 3, (lm_value *const[]){ dy, a, b });
}
