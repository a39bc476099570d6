/* add_layernorm.c — made by the pass that unites (unite.c): the sum is used again by the next residual. Rounds as layernorm(add(a, b), w, bias)
 * does. */
#include "op/add_layernorm/add_layernorm.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rule.h"
#include <math.h>
#include <string.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_add_layernorm);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_has(c, 3)) LM_TRY(lm_want_cols(ctx, c, 3, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "add_layernorm: input 0: got no columns, wanted at least one");
    out[0] = out[1] = lm_type_like(&c->in[0]);
    out[2] = out[3] = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0]));
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double eps = (double)((const lm_layernorm_p *)c->p)->eps, *w = lm_f64(&c->in[2]), *b = lm_has(c, 3) ? lm_f64(&c->in[3]) : NULL;
    const int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *x = lm_f64(&c->in[0]) + r * d, *z = lm_f64(&c->in[1]) + r * d;
        double *s = lm_f64(&c->out[0]) + r * d, *y = lm_f64(&c->out[1]) + r * d, m = 0, v = 0;
        for (int64_t j = 0; j < d; j++) { s[j] = x[j] + z[j]; m += s[j] / (double)d; }
        for (int64_t j = 0; j < d; j++) v += (s[j] - m) * (s[j] - m) / (double)d;
        const double rstd = 1 / sqrt(v + eps);
        for (int64_t j = 0; j < d; j++) y[j] = (s[j] - m) * rstd * w[j] + (b ? b[j] : 0);
        lm_f64(&c->out[2])[r] = m; lm_f64(&c->out[3])[r] = rstd;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 8 * (double)lm_numel(&c->in[0]); }
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    memcpy(out, params[1], sizeof(lm_layernorm_p));
    return in[0]->rank == in[1]->rank;                            /* not a broadcast */
}
static const char *const unites[] = { "S=add(a,b) Y,M,R=layernorm(S,w,c)", NULL };
#define P &(lm_layernorm_p){ 1e-5f }
#define V(d) { .rank = 1, .dim = { d } }
#define S(nm, r, d) { .name = nm, .params = P, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } }, V(d), V(d) }, .tol = 4e-6 }
static const lm_sample samples[] = {
    S("3x7", 3, 7),
    S("2x15", 2, 15),
    S("5x24", 5, 24),
    S("a tile and more", 33, 257),
    S("long row", 2, 9001),
    S("many rows", 300, 64),
    S("a warp's row", 9, 768),
    S("1280 columns", 5, 1280),
    S("a block's row", 3, 1600),
    { .name = "no bias", .params = P, .in = { { .rank = 2, .dim = { 6, 48 } }, { .rank = 2, .dim = { 6, 48 } }, V(48) }, .tol = 4e-6 },
    { .name = "vector", .params = P, .in = { V(40), V(40), V(40), V(40) }, .tol = 4e-6 },
    { 0 }
};
const lm_op lm_op_add_layernorm = { .name = "add_layernorm",
                                    .math = "s = a + b, y = (s - mean) rstd w + bias, rstd = (var s + eps)^-1/2",
                                    .n_in = 3,
                                    .n_opt = 1,
                                    .n_out = 4,
                                    .params_bytes = sizeof(lm_layernorm_p),
                                    .inplace_ok = true,
                                    .sums = 1,
                                    .shape = shape,
                                    .ref = ref,
                                    .cost = cost,
                                    .kernels = lm_k_add_layernorm,
                                    .samples = samples,
                                    .unite_in = "abwc",
                                    .unite_out = "SYMR",
                                    .unites = unites,
                                    .here = true,
                                    .unite = unite };
