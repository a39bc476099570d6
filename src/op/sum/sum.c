/* sum.c — (…) → (1). */
#include "op/sum/sum.h"
#include "op/mul/mul.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_sum);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    out[0] = LM_TYPE((lm_dtype)c->in[0].dtype, 1);
    out[0].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *x = lm_f64(&c->in[0]); double s = 0;
    for (int64_t i = 0, n = lm_numel(&c->in[0]); i < n; i++) s += x[i];
    *lm_f64(&c->out[0]) = s;
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_mul(g, lm_ones(g, lm_type_of(d->in[0])), d->gout[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = (double)lm_numel(&c->in[0]); }
#define POS(...) { { __VA_ARGS__, .fill = LM_FILL_POSITIVE } }
static const lm_sample samples[] = { LM_SAMPLES_ALIKE("", NULL, POS, 1e-6),
                                     { .name = "zeros", .params = NULL, .in = { { .rank = 2, .dim = { 7, 19 }, .fill = LM_FILL_ZERO } } },
                                     { .name = "block edge", .params = NULL, .in = POS(.rank = 1, .dim = { 4096 }), .tol = 1e-6 },
                                     { .name = "signs", .params = NULL, .in = { { .rank = 2, .dim = { 3, 7 } } }, .tol = 5e-6 },
                                     { 0 } };
const lm_op lm_op_sum = { .name = "sum", .math = "y = sum x", .n_in = 1, .n_out = 1, .acc_ok = 1,
    .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = lm_k_sum, .samples = samples };
lm_value *lm_sum(lm_graph *g, lm_value *x) { return lm_emit(g, &lm_op_sum, NULL, 1, &x); }
