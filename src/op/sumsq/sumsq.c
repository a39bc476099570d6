/* sumsq.c — (…) → (1). */
#include "op/sumsq/sumsq.h"
#include "op/mul/mul.h"
#include "op/scale/scale.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_sumsq);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    out[0] = LM_TYPE(c->in[0].dtype == LM_BF16 ? LM_F32 : (lm_dtype)c->in[0].dtype, 1);
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); double s = 0;
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) s += x[i] * x[i];
    *lm_f64(&c->out[0]) = s;
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_scale(g, lm_mul(g, d->in[0], d->gout[0]), 2.0f);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 2 * (double)lm_numel(&c->in[0]); }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, LM_TIMES1, 1e-6),
                                     { .name = "zeros", .params = NULL, .in = { { .rank = 2, .dim = { 7, 19 }, .fill = LM_FILL_ZERO } } },
                                     { .name = "bf16, two blocks and a bit", .params = NULL, .in = { { .rank = 1, .dim = { 8200 }, .dtype = LM_BF16 } }, .tol = 1e-6 },
                                     { .name = "block edge", .params = NULL, .in = { { .rank = 1, .dim = { 4096 } } }, .tol = 1e-6 },
                                     { 0 } };
const lm_op lm_op_sumsq = { .name = "sumsq", .math = "y = sum x^2", .n_in = 1, .n_out = 1, .acc_ok = 1,
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = lm_k_sumsq, .samples = samples };
lm_value *lm_sumsq(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_sumsq, NULL, 1, &x); }
