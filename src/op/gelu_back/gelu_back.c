/* gelu_back.c — inputs dy, x. */
#include "op/gelu_back/gelu_back.h"
#include "op/gelu/gelu.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_gelu_back);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_gelu_back_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    out[0] = lm_type_like(&c->in[0]);
    if (p->outs & LM_GELU_BACK_DB) { out[1] = LM_TYPE(LM_F32, lm_cols(&c->in[0])); out[1].ext[0] = LM_NO_EXTENT; }
    if (p->outs & LM_GELU_BACK_Y) out[2] = out[0];
    return LM_OK;
}
static double value(double x, bool tanh_form) {
    return x * 0.5 * (1 + (tanh_form ? tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)) : erf(x / sqrt(2))));
}
static double slope(double x, bool tanh_form) {
    if (!tanh_form) return 0.5 * (1 + erf(x / sqrt(2))) + x * exp(-x * x / 2) / sqrt(2 * M_PI);
    const double t = tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
}
static void ref(const lm_call *c) {
    const lm_gelu_back_p *p = c->p; const double *dy = lm_f64(&c->in[0]), *x = lm_f64(&c->in[1]); double *dx = lm_f64(&c->out[0]);
    const int64_t n = lm_numel(&c->out[0]), d = lm_cols(&c->out[0]);
    for (int64_t j = 0; p->outs & LM_GELU_BACK_DB && j < d; j++) lm_f64(&c->out[1])[j] = 0;
    for (int64_t i = 0; i < n; i++) {
        dx[i] = dy[i] * slope(x[i], p->tanh);
        if (p->outs & LM_GELU_BACK_DB) lm_f64(&c->out[1])[i % d] += dx[i];
        if (p->outs & LM_GELU_BACK_Y) lm_f64(&c->out[2])[i] = value(x[i], p->tanh);
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 20 * (double)lm_numel(&c->in[0]); }
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    lm_gelu_back_p *p = out;
    p->tanh = ((const lm_gelu_p *)params[0])->tanh; p->outs = outs;
    return in[0]->rank > 1 && outs != 1 && (!params[2] || ((const lm_gelu_p *)params[2])->tanh == p->tanh);
}
static const char *const unites[] = { "D=gelu_grad(g,x) ?B=sum_rows(D) ?Y=gelu(x)", NULL };
#define S(nm, r, d, t, o) \
    { .name = nm, .params = &(lm_gelu_back_p){ t, o }, \
      .in = { { .rank = 2, .dim = { r, d } }, { .rank = 2, .dim = { r, d } } }, .tol = 1e-5, .tol_norm = 2e-6 }
static const lm_sample samples[] = { S("3x7", 3, 7, false, 7),
                                     S("2x15, tanh", 2, 15, true, 7),
                                     S("5x24, sum alone", 5, 24, true, 3),
                                     S("9x40, y alone", 9, 40, false, 5),
                                     S("33x257", 33, 257, true, 7),
                                     S("many rows", 1000, 72, true, 7),
                                     S("several blocks of columns", 300, 1032, true, 7),
                                     { 0 } };
const lm_op lm_op_gelu_back = { .name = "gelu_back",
                                .math = "dx = dy gelu'(x), sum_r dx, y = gelu(x)",
                                .n_in = 2,
                                .n_out = 3,
                                .params_bytes = sizeof(lm_gelu_back_p),
                                .acc_ok = 1 << 1,
                                .inplace_ok = true,
                                .shape = shape,
                                .ref = ref,
                                .cost = cost,
                                .kernels = lm_k_gelu_back,
                                .samples = samples,
                                .unite_in = "gx",
                                .unite_out = "DBY",
                                .unites = unites,
                                .unite = unite };
