/* rmsnorm_back.c — the rule, the truth, what it replaces. */
#include "op/rmsnorm_back/rmsnorm_back.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rmsnorm_grad/rmsnorm_grad.h"
#include "op/rule.h"
#include <math.h>
LM_SIMD_CUDA_F16_KERNELS(lm_k_rmsnorm_back);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_rmsnorm_back_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    LM_TRY(lm_want_like(ctx, c, 1, 0));
    LM_TRY(lm_want_cols(ctx, c, 2, 0));
    if (lm_cols(&c->in[0]) < 1) return lm_fail(ctx, LM_E_SHAPE, "rmsnorm_back: input 0: got no columns, wanted at least one");
    const lm_type st = lm_norm_stat_type(&c->in[0], lm_cols(&c->in[0])), v = LM_TYPE(LM_F32, lm_cols(&c->in[0]));
    if (lm_has(c, 3) || !(p->outs & LM_RMSNORM_BACK_Y)) LM_TRY(lm_want_dims(ctx, c, 3, st.rank, st.dim));
    if (lm_has(c, 4)) LM_TRY(lm_want_like(ctx, c, 4, 0));
    out[0] = lm_type_like(&c->in[0]);
    for (int o = 1; o < 4; o += 2) if (p->outs >> o & 1) { out[o] = v; out[o].ext[0] = LM_NO_EXTENT; }
    if (p->outs & LM_RMSNORM_BACK_Y) out[4] = out[0];
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_rmsnorm_back_p *p = c->p; const double *w = lm_f64(&c->in[2]), offset = (double)p->offset;
    const int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]);
    for (int o = 1; o < 4; o++) for (int64_t j = 0; p->outs >> o & 1 && j < d; j++) lm_f64(&c->out[o])[j] = 0;
    for (int64_t r = 0; r < n; r++) {
        const double *dy = lm_f64(&c->in[0]) + r * d, *x = lm_f64(&c->in[1]) + r * d, *h = lm_has(c, 4) ? lm_f64(&c->in[4]) + r * d : NULL;
        double *s = lm_f64(&c->out[0]) + r * d, rs, dot = 0, q = 0;
        if (p->outs & LM_RMSNORM_BACK_Y) {
            for (int64_t j = 0; j < d; j++) q += x[j] * x[j];
            rs = 1 / sqrt(q / (double)d + (double)p->eps);
            for (int64_t j = 0; j < d; j++) lm_f64(&c->out[4])[r * d + j] = x[j] * rs * (w[j] + offset);
        } else rs = lm_f64(&c->in[3])[r];
        for (int64_t j = 0; j < d; j++) dot += dy[j] * (w[j] + offset) * x[j];
        for (int64_t j = 0; j < d; j++) {
            s[j] = rs * dy[j] * (w[j] + offset) - x[j] * rs * rs * rs * dot / (double)d + (h ? h[j] : 0);
            lm_f64(&c->out[1])[j] += dy[j] * x[j] * rs;
            if (p->outs & LM_RMSNORM_BACK_DS) lm_f64(&c->out[3])[j] += s[j];
        }
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 16 * (double)lm_numel(&c->in[0]); }
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    lm_rmsnorm_back_p *p = out;
    const bool again = outs & LM_RMSNORM_BACK_Y;
    p->outs = outs; p->offset = ((const lm_rmsnorm_grad_p *)params[again])->offset;
    if (again) p->eps = ((const lm_rmsnorm_p *)params[0])->eps;
    const int n = in[0]->rank;
    return n > 1 && (!in[4] || in[4]->rank == n) && in[2]->dim[0] == in[0]->dim[n - 1];      /* not a norm of groups */
}
static const char *const unites[] = { "Y,R=rmsnorm(x,w) X=rmsnorm_grad(g,x,w,R) S=add(h,X) W=rmsnorm_grad_w(g,x,R) ?C=sum_rows(S)",
                                     "Y,R=rmsnorm(x,w) S=rmsnorm_grad(g,x,w,R) W=rmsnorm_grad_w(g,x,R) ?C=sum_rows(S)",
                                     "X=rmsnorm_grad(g,x,w,r) S=add(h,X) W=rmsnorm_grad_w(g,x,r) ?C=sum_rows(S)",
                                     "S=rmsnorm_grad(g,x,w,r) W=rmsnorm_grad_w(g,x,r) ?C=sum_rows(S)",
                                     NULL };
#define T(r, d) { .rank = 2, .dim = { r, d } }
#define V(d) { .rank = 1, .dim = { d } }
#define P(off, o) &(lm_rmsnorm_back_p){ 1e-5f, off, o }
#define S(nm, r, d, o, ...) \
    { .name = nm, .params = P(0, o), \
      .in = { T(r, d), T(r, d), V(d), { .rank = 1, .dim = { r }, .fill = LM_FILL_UNIFORM }, __VA_ARGS__ }, .tol = 2e-5, .tol_norm = 4e-6 }
#define Y(nm, r, d, off, o, ...) \
    { .name = nm, .params = P(off, o), \
      .in = { T(r, d), T(r, d), V(d), { 0 }, __VA_ARGS__ }, .tol = 2e-5, .tol_norm = 4e-6 }
static const lm_sample samples[] = { S("3x7", 3, 7, 3, { 0 }),
                                     S("2x15, all sums", 2, 15, 11, T(2, 15)),
                                     S("5x24", 5, 24, 11, T(5, 24)),
                                     S("a tile and more", 33, 257, 11, T(33, 257)),
                                     S("long row", 2, 9001, 11, T(2, 9001)),
                                     S("many rows", 1000, 64, 3, T(1000, 64)),
                                     S("no residual", 70, 264, 3, { 0 }),
                                     Y("and y, 3x7", 3, 7, 0, 27, T(3, 7)),
                                     Y("and y, offset", 19, 520, 1, 19, T(19, 520)),
                                     Y("and y, a warp's row", 1700, 768, 0, 27, T(1700, 768)),
                                     Y("and y, 1000 columns", 9, 1000, 0, 27, T(9, 1000)),
                                     Y("and y, 1280 columns", 601, 1280, 0, 27, T(601, 1280)),
                                     Y("and y, a block's row", 401, 2048, 0, 19, T(401, 2048)),
                                     Y("and y, the longest", 9, 4096, 0, 19, T(9, 4096)),
                                     { 0 } };
const lm_op lm_op_rmsnorm_back = { .name = "rmsnorm_back",
                                   .math = "s = h + dx of rmsnorm, dw, sum_r s, y = rmsnorm(x)",
                                   .n_in = 3,
                                   .n_opt = 2,
                                   .n_out = 5,
                                   .params_bytes = sizeof(lm_rmsnorm_back_p),
                                   .acc_ok = 1 << 1 | 1 << 3,
                                   .shape = shape,
                                   .ref = ref,
                                   .cost = cost,
                                   .kernels = lm_k_rmsnorm_back,
                                   .samples = samples,
                                   .unite_in = "gxwrh",
                                   .unite_out = "SW_CY",
                                   .unites = unites,
                                   .unite = unite };
