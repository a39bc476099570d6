/* swiglu_back.c — with s = σ(a): da = dy b s (1 + a (1 - s)), db = dy a s, y = a s b. */
#include "op/swiglu_back/swiglu_back.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_swiglu_back);

static void ref(const lm_call *c) {
    const double *dy = lm_f64(&c->in[0]), *a = lm_f64(&c->in[1]), *b = lm_f64(&c->in[2]);
    double *da = lm_f64(&c->out[0]), *db = lm_f64(&c->out[1]), *y = lm_f64(&c->out[2]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) {
        const double s = 1 / (1 + exp(-a[i]));
        da[i] = dy[i] * b[i] * s * (1 + a[i] * (1 - s)); db[i] = dy[i] * a[i] * s; y[i] = a[i] * s * b[i];
    }
}
static const char *const unites[] = { "A,B=swiglu_grad(g,a,b) Y=swiglu(a,b)", NULL };
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES3, 1e-6), { 0 } };
const lm_op lm_op_swiglu_back = { .name = "swiglu_back", .math = "da = dy b silu'(a), db = dy silu(a), y = silu(a) b", .n_in = 3, .n_out = 3, .inplace_ok = true,
    .shape = lm_shape_like_first, .ref = ref, .kernels = lm_k_swiglu_back, .samples = samples, .unite_in = "gab", .unite_out = "ABY", .unites = unites };
