/* add_rmsnorm.c — made by the pass that unites (unite.c), since the sum is used again by the next residual, or by its builder. Rounds as
 * rmsnorm(add(a, b), w) does. */
#include "op/add_rmsnorm/add_rmsnorm.h"
#include "op/add/add.h"
#include "op/rmsnorm_grad/rmsnorm_grad.h"
#include "op/rmsnorm_grad_w/rmsnorm_grad_w.h"
#include "op/rule.h"
#include <math.h>
#include <string.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_add_rmsnorm);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 1, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "add_rmsnorm: input 0: got no columns, wanted at least one");
    out[0] = out[1] = lm_type_like(&c->in[0]);
    out[2] = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0]));
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_rmsnorm_p *p = c->p; const double *w = lm_f64(&c->in[2]);
    int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int64_t r = 0; r < n; r++) {
        const double *a = lm_f64(&c->in[0]) + r * d, *b = lm_f64(&c->in[1]) + r * d;
        double *s = lm_f64(&c->out[0]) + r * d, *y = lm_f64(&c->out[1]) + r * d, q = 0;
        for (int64_t j = 0; j < d; j++) { s[j] = a[j] + b[j]; q += s[j] * s[j]; }
        double rstd = 1 / sqrt(q / (double)d + (double)p->eps);
        for (int64_t j = 0; j < d; j++) y[j] = s[j] * rstd * (w[j] + (double)p->offset);
        lm_f64(&c->out[2])[r] = rstd;
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_rmsnorm_p *p = d->p;
    lm_value *s = lm_output(d->out[0], 0), *rstd = lm_output(d->out[0], 2), *gs = d->gout[0], *gy = d->gout[1];
    if (d->gout[2]) return LM_E_UNSUPPORTED;
    if (gy && (d->want[0] || d->want[1])) {
        lm_value *dx = lm_rmsnorm_grad(g, gy, s, d->in[2], rstd, p->offset);
        gs = gs ? lm_add(g, gs, dx) : dx;
    }
    if (d->want[0]) d->gin[0] = gs;
    if (d->want[1]) d->gin[1] = gs;
    if (d->want[2] && gy) d->gin[2] = lm_rmsnorm_grad_w(g, gy, s, rstd, lm_type_of(d->in[2])->dim[0]);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 5 * (double)lm_numel(&c->in[0]); }
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    memcpy(out, params[1], sizeof(lm_rmsnorm_p));
    const int n = in[0]->rank;
    return n == in[1]->rank && in[2]->dim[0] == in[0]->dim[n - 1];   /* not a broadcast, not a norm of groups */
}
static const char *const unites[] = { "S=add(a,b) Y,R=rmsnorm(S,w)", NULL };
#define P &(lm_rmsnorm_p){ 1e-5f, 0 }
#define S(nm, r, d) { .name = nm, .params = P, .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } }, { .rank = 1, .dim = { d } } }, .tol = 2e-6 }
static const lm_sample samples[] = { S("one", 1, 1),
                                     S("3x7", 3, 7),
                                     S("2x15", 2, 15),
                                     S("5x17", 5, 17),
                                     S("a tile and more", 33, 257),
                                     S("long row", 2, 9001),
                                     { .name = "offset, vector",
                                       .params = &(lm_rmsnorm_p){ 1e-6f, 1 },
                                       .in = { { .rank = 1, .dim = { 40 } }, { .rank = 1, .dim = { 40 } }, { .rank = 1, .dim = { 40 } } },
                                       .tol = 2e-6 },
                                     { 0 } };
const lm_op lm_op_add_rmsnorm = { .name = "add_rmsnorm",
                                  .math = "s = a + b, y = s rstd (w + offset), rstd = (mean s^2 + eps)^-1/2",
                                  .n_in = 3,
                                  .n_out = 3,
                                  .params_bytes = sizeof(lm_rmsnorm_p),
                                  .inplace_ok = true,
                                  .sums = 1,
                                  .here = true,
                                  .shape = shape,
                                  .ref = ref,
                                  .grad = grad,
                                  .cost = cost,
                                  .kernels = lm_k_add_rmsnorm,
                                  .samples = samples,
                                  .unite_in = "abw",
                                  .unite_out = "SYR",
                                  .unites = unites,
                                  .unite = unite };
lm_value *lm_add_rmsnorm(lm_graph *g, lm_value *a, lm_value *b, lm_value *w, float eps) {
    return lm_emit(g, &lm_op_add_rmsnorm, &(lm_rmsnorm_p){ eps, 0 }, 3, (lm_value *const[]){ a, b, w });
}
