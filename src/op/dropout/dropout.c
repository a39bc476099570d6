/* dropout.c — the rule, the truth, the gradient. */
#include "op/dropout/dropout.h"
#include "op/rule.h"
LM_SIMD_CUDA_F16_KERNELS(lm_k_dropout);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    double p = (double)((const lm_dropout_p *)c->p)->p;
    if (!(p >= 0 && p < 1)) return lm_fail(ctx, LM_E_SHAPE, "dropout: p: got %g, wanted 0 <= p < 1", p);
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want(ctx, c, 1, LM_I64, 1, 1));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(2)));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_dropout_p *p = c->p; const double *x = lm_f64(&c->in[0]); double *y = lm_f64(&c->out[0]);
    lm_rng rng = lm_dropout_rng(p, c->in[1].data);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = lm_rng_uniform(rng, (uint64_t)i) >= p->p ? x[i] / (1 - (double)p->p) : 0;
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_dropout_p *p = d->p;
    if (d->want[0]) d->gin[0] = lm_dropout(g, d->gout[0], d->in[1], p->p, p->stream);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 20 * (double)lm_numel(&c->in[0]); }
#define RNG { .rank = 1, .dim = { 2 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
#define X_RNG(...) { { __VA_ARGS__ }, RNG }
static const lm_sample samples[] = {
    LM_SAMPLES_ALIKE("", (&(lm_dropout_p){ 0.3f, 0x1234567890abcdefu }), X_RNG, 1e-6),
    { .name = "keeps all", .params = &(lm_dropout_p){ 0, 7 }, .in = X_RNG(.rank = 2, .dim = { 3, 50 }), .tol = 1e-6 },
    { .name = "keeps little", .params = &(lm_dropout_p){ 0.97f, 7 }, .in = X_RNG(.rank = 2, .dim = { 3, 50 }), .tol = 1e-6 },
    { 0 }
};
const lm_op lm_op_dropout = { .name = "dropout",
                              .math = "y_i = x_i / (1-p) if u_i >= p else 0, u_i = uniform(seed, stream, step, i)",
                              .n_in = 2,
                              .n_out = 1,
                              .params_bytes = sizeof(lm_dropout_p),
                              .opaque = 2,
                              .inplace_ok = true,
                              .shape = shape,
                              .ref = ref,
                              .grad = grad,
                              .cost = cost,
                              .kernels = lm_k_dropout,
                              .samples = samples };
lm_value *lm_dropout(lm_graph *g, lm_value *x, lm_value *rng, float p, uint64_t stream) {
    return lm_emit(g, &lm_op_dropout, &(lm_dropout_p){ p, stream }, 2, (lm_value *const[]){ x, rng });
}
