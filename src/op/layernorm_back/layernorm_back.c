/* layernorm_back.c — the rule, the truth, what it replaces. */
#include "op/layernorm_back/layernorm_back.h"
#include "op/layernorm/layernorm.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_layernorm_back);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_layernorm_back_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "layernorm_back: input 0: got no columns, wanted at least one");
    const lm_type st = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0])), v = LM_TYPE(LM_F32, lm_cols(&c->in[0]));
    for (int i = 3; i < 5; i++) if (lm_has(c, i) || !(p->outs & LM_NORM_BACK_Y)) LM_TRY(lm_want_dims(ctx, c, i, st.rank, st.dim));
    if (lm_has(c, 5)) LM_TRY(lm_want_like(ctx, c, 5, 0));
    if (lm_has(c, 6)) LM_TRY(lm_want_cols(ctx, c, 6, 0));
    out[0] = lm_type_like(&c->in[0]);
    for (int o = 1; o < 4; o++) if (p->outs >> o & 1) { out[o] = v; out[o].ext[0] = LM_NO_EXTENT; }
    if (p->outs & LM_NORM_BACK_Y) out[4] = out[0];
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_layernorm_back_p *p = c->p; const double *w = lm_f64(&c->in[2]);
    const int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int o = 1; o < 4; o++) for (int64_t j = 0; p->outs >> o & 1 && j < d; j++) lm_f64(&c->out[o])[j] = 0;
    for (int64_t r = 0; r < n; r++) {
        const double *dy = lm_f64(&c->in[0]) + r * d, *x = lm_f64(&c->in[1]) + r * d, *h = lm_has(c, 5) ? lm_f64(&c->in[5]) + r * d : NULL;
        double *s = lm_f64(&c->out[0]) + r * d, m = 0, rs, sg = 0, sgh = 0, v = 0;
        if (p->outs & LM_NORM_BACK_Y) {
            for (int64_t j = 0; j < d; j++) m += x[j] / (double)d;
            for (int64_t j = 0; j < d; j++) v += (x[j] - m) * (x[j] - m) / (double)d;
            rs = 1 / sqrt(v + (double)p->eps);
            for (int64_t j = 0; j < d; j++) lm_f64(&c->out[4])[r * d + j] = (x[j] - m) * rs * w[j] + (lm_has(c, 6) ? lm_f64(&c->in[6])[j] : 0);
        } else { m = lm_f64(&c->in[3])[r]; rs = lm_f64(&c->in[4])[r]; }
        for (int64_t j = 0; j < d; j++) { sg += dy[j] * w[j]; sgh += dy[j] * w[j] * (x[j] - m) * rs; }
        for (int64_t j = 0; j < d; j++) {
            s[j] = rs * (dy[j] * w[j] - sg / (double)d - (x[j] - m) * rs * sgh / (double)d) + (h ? h[j] : 0);
            lm_f64(&c->out[1])[j] += dy[j] * (x[j] - m) * rs;
            if (p->outs & LM_NORM_BACK_DB) lm_f64(&c->out[2])[j] += dy[j];
            if (p->outs & LM_NORM_BACK_DS) lm_f64(&c->out[3])[j] += s[j];
        }
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 20 * (double)lm_numel(&c->in[0]); }
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    lm_layernorm_back_p *p = out;
    p->outs = outs;
    if (outs & LM_NORM_BACK_Y) p->eps = ((const lm_layernorm_p *)params[0])->eps;
    return in[0]->rank > 1 && (!in[5] || in[5]->rank == in[0]->rank);
}
static const char *const unites[] = {
    "Y,M,R=layernorm(x,w,b) X=layernorm_grad(g,x,w,M,R) S=add(h,X) W=layernorm_grad_w(g,x,M,R) ?B=sum_rows(g) ?C=sum_rows(S)",
    "Y,M,R=layernorm(x,w,b) S=layernorm_grad(g,x,w,M,R) W=layernorm_grad_w(g,x,M,R) ?B=sum_rows(g) ?C=sum_rows(S)",
    "X=layernorm_grad(g,x,w,m,r) S=add(h,X) W=layernorm_grad_w(g,x,m,r) ?B=sum_rows(g) ?C=sum_rows(S)",
    "S=layernorm_grad(g,x,w,m,r) W=layernorm_grad_w(g,x,m,r) ?B=sum_rows(g) ?C=sum_rows(S)", NULL
};
#define T(r, d) { .rank = 2, .dim = { r, d } }
#define V(d) { .rank = 1, .dim = { d } }
#define P(o) &(lm_layernorm_back_p){ 1e-5f, o }
#define S(nm, r, d, o, ...) \
    { .name = nm, .params = P(o), \
      .in = { T(r, d), T(r, d), V(d), V(r), { .rank = 1, .dim = { r }, .fill = LM_FILL_UNIFORM }, __VA_ARGS__ }, .tol = 2e-5, .tol_norm = 4e-6 }
#define Y(nm, r, d, o, ...) { .name = nm, .params = P(o), .in = { T(r, d), T(r, d), V(d), { 0 }, { 0 }, __VA_ARGS__ }, .tol = 2e-5, .tol_norm = 4e-6 }
static const lm_sample samples[] = { S("3x7", 3, 7, 3, { 0 }),
                                     S("2x15, all sums", 2, 15, 15, T(2, 15)),
                                     S("5x24", 5, 24, 11, T(5, 24)),
                                     S("a tile and more", 33, 257, 15, T(33, 257)),
                                     S("long row", 2, 9001, 15, T(2, 9001)),
                                     S("many rows", 1000, 64, 15, T(1000, 64)),
                                     S("no residual", 70, 264, 7, { 0 }),
                                     Y("and y, 3x7", 3, 7, 31, T(3, 7), V(7)),
                                     Y("and y, no bias", 19, 520, 27, T(19, 520)),
                                     Y("and y, a warp's row", 1700, 768, 31, T(1700, 768), V(768)),
                                     Y("and y, 1000 columns", 9, 1000, 31, T(9, 1000), V(1000)),
                                     Y("and y, 1280 columns", 601, 1280, 31, T(601, 1280), V(1280)),
                                     Y("and y, a block's row", 401, 1600, 31, T(401, 1600), V(1600)),
                                     Y("and y, the longest", 9, 4096, 31, T(9, 4096), V(4096)),
                                     { 0 } };
const lm_op lm_op_layernorm_back = { .name = "layernorm_back",
                                     .math = "s = h + dx of layernorm, dw, db, sum_r s, y = layernorm(x)",
                                     .n_in = 3,
                                     .n_opt = 4,
                                     .n_out = 5,
                                     .params_bytes = sizeof(lm_layernorm_back_p),
                                     .acc_ok = 1 << 1 | 1 << 2 | 1 << 3,
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = lm_k_layernorm_back,
                                     .samples = samples,
                                     .unite_in = "gxwmrhb",
                                     .unite_out = "SWBCY",
                                     .unites = unites,
                                     .unite = unite };
