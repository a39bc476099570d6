/* attn_sinks_grad.c — ds = p (dl - <dy, y>) with p = exp(s - lse): the softmax's gradient (op/attn_grad) at a key whose value is zero. */
#include <math.h>
#include "op/attn_sinks_grad/attn_sinks_grad.h"
#include "op/rule.h"
LM_SIMD_CUDA_KERNELS(lm_k_attn_sinks_grad);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < 5; i++) if (i < 3 || lm_has(c, i)) LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, i == 2 ? 1 : 2, i == 2 ? 1 : 2));
    const int64_t n = c->in[0].dim[0], cols = c->in[0].dim[1], heads = c->in[2].dim[0];
    for (int i = 1; i < 5; i += 1 + (i == 1)) if (i < 3 || lm_has(c, i)) LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(n, i == 3 ? cols : heads)));
    if (heads < 1 || cols % heads)
        return lm_fail(ctx, LM_E_SHAPE, "attn_sinks_grad: input 2: got %lld heads, wanted a divisor of the %lld columns of input 0", (long long)heads, (long long)cols);
    out[0] = lm_type_like(&c->in[1]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t N = c->in[1].dim[0], H = c->in[1].dim[1], D = c->in[0].dim[1] / H;
    const double *y = lm_f64(&c->in[0]), *lse = lm_f64(&c->in[1]), *s = lm_f64(&c->in[2]), *dy = lm_has(c, 3) ? lm_f64(&c->in[3]) : NULL, *dl = lm_has(c, 4) ? lm_f64(&c->in[4]) : NULL;
    double *ds = lm_f64(&c->out[0]);
    for (int64_t i = 0; i < N * H; i++) {
        double t = dl ? dl[i] : 0;
        for (int64_t d = 0; dy && d < D; d++) t -= dy[i * D + d] * y[i * D + d];
        ds[i] = exp(s[i % H] - lse[i]) * t;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 2 * (double)lm_numel(&c->in[0]) + 6 * (double)lm_numel(&c->in[1]);
}
#define F(n, m) { .rank = 2, .dim = { n, m } }
#define V(h) { .rank = 1, .dim = { h } }
#define S(nm, n, h, d) { .name = nm, .in = { F(n, (h) * (d)), F(n, h), V(h), F(n, (h) * (d)) }, .tol = 6e-6 }
#define SL(nm, n, h, d) { .name = nm, .in = { F(n, (h) * (d)), F(n, h), V(h), F(n, (h) * (d)), F(n, h) }, .tol = 6e-6 }
static const lm_sample samples[] = {
    S("one", 1, 1, 1),
    SL("one, dl", 1, 1, 1),
    S("d_head 2", 19, 3, 2),
    SL("d_head 6, heads beyond a vector, dl", 9, 17, 6),
    S("d_head 24", 33, 5, 24),
    SL("d_head 64, dl", 130, 8, 64),
    S("d_head 96, more heads than a warp", 7, 40, 96),
    S("d_head 128, rows over several tiles", 300, 4, 128),
    S("d_head 256", 21, 3, 256),
    SL("d_head 80, dl", 70, 2, 80),
    S("one head, long rows", 3, 1, 1000),
    { .name = "dl alone", .in = { F(40, 6 * 16), F(40, 6), V(6), { 0 }, F(40, 6) }, .tol = 6e-6 },
    { 0 } };
const lm_op lm_op_attn_sinks_grad = { .name = "attn_sinks_grad",
                                      .math = "ds = exp(s - lse) (dl - <dy, y>), per row and head",
                                      .n_in = 3,
                                      .n_opt = 2,
                                      .n_out = 1,
                                      .shape = shape,
                                      .ref = ref,
                                      .cost = cost,
                                      .kernels = lm_k_attn_sinks_grad,
                                      .samples = samples };
lm_value *lm_attn_sinks_grad(lm_graph *g, lm_value *y, lm_value *lse, lm_value *s, lm_value *dy, lm_value *dl) {
    return lm_emit(g, &lm_op_attn_sinks_grad, NULL, 5, (lm_value *[]){ y, lse, s, dy, dl });
}
