/* mul.c — y = a * b with the broadcasting of rule.h. */
#include "op/mul/mul.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_mul);

static void ref(const lm_call *c) {
    const double *a = lm_f64(&c->in[0]), *b = lm_f64(&c->in[1]); double *y = lm_f64(&c->out[0]);
    lm_broadcast kind = lm_broadcast_of(&c->in[0], &c->in[1]);
    int64_t n = lm_numel(&c->out[0]), cols = lm_cols(&c->out[0]);
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[kind == LM_B_SAME ? i : kind == LM_B_ROW ? i % cols : 0];
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0]) d->gin[0] = lm_mul(g, d->gout[0], d->in[1]);
    if (d->want[1]) d->gin[1] = lm_broadcast_fold(g, lm_mul(g, d->gout[0], d->in[0]), d->in[0], d->in[1]);
    return LM_OK;
}
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", NULL, LM_TIMES2, 1e-6),
    { .name = "row vector", .params = NULL, .in = { { .rank = 2, .dim = { 5, 33 } }, { .rank = 1, .dim = { 33 } } }, .tol = 1e-6 },
    { .name = "row vector, rank 3", .params = NULL, .in = { { .rank = 3, .dim = { 3, 41, 130 } }, { .rank = 1, .dim = { 130 } } }, .tol = 1e-6 },
    { .name = "number", .params = NULL, .in = { { .rank = 2, .dim = { 4, 19 } }, { .rank = 1, .dim = { 1 } } }, .tol = 1e-6 },
    { .name = "number on a vector", .params = NULL, .in = { { .rank = 1, .dim = { 9001 } }, { .rank = 1, .dim = { 1 } } }, .tol = 1e-6 },
    { 0 } };
const lm_op lm_op_mul = { .name = "mul", .math = "y = a * b; b like a, a row vector, or one number", .n_in = 2, .n_out = 1, .inplace_ok = true,
    .shape = lm_broadcast_shape, .ref = ref, .grad = grad, .kernels = lm_k_mul, .samples = samples };
lm_value *lm_mul(lm_graph *g, lm_value *a, lm_value *b) { return lm_emit(g, &lm_op_mul, NULL, 2, (lm_value *const[]){ a, b }); }
