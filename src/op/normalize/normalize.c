/* normalize.c — the rule and the truth. */
#include "op/normalize/normalize.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_normalize);

static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); double s = 0, eps = (double)((const lm_normalize_p *)c->p)->eps;
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) s += x[i] * x[i];
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) lm_f64(&c->out[0])[i] = x[i] / (sqrt(s) + eps);
}
static void cost(const lm_call *c, double *flops, double *bytes) { double n = (double)lm_numel(&c->in[0]); *flops = 3 * n; *bytes = 12 * n; }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", (&(lm_normalize_p){ 1e-7f }), LM_TIMES1, 2e-6),
    { .name = "zeros", .params = &(lm_normalize_p){ 1e-7f }, .in = { { .rank = 2, .dim = { 3, 7 }, .fill = LM_FILL_ZERO } } }, { 0 } };
const lm_op lm_op_normalize = { .name = "normalize",
                                .math = "y = x / (norm(x) + eps)",
                                .n_in = 1,
                                .n_out = 1,
                                .params_bytes = sizeof(lm_normalize_p),
                                .inplace_ok = true,
                                .shape = lm_shape_like_first,
                                .ref = ref,
                                .cost = cost,
                                .kernels = lm_k_normalize,
                                .samples = samples };
lm_value *lm_normalize(lm_graph *g, lm_value *x, float eps) { return lm_emit(g, &lm_op_normalize, &(lm_normalize_p){ eps }, 1, &x); }
