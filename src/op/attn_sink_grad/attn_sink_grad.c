/* attn_sink_grad.c — with p the weight of the sink and t = <dy, o> of a head: do = dy (1 - p), dlse = t p (1 - p) + dl (1 - p), ds = dl - dlse, for y
 * depends on s - lse and lse' moves as both do. */
#include <math.h>
#include "op/attn_sink_grad/attn_sink_grad.h"
#include "op/rule.h"
LM_SIMD_CUDA_KERNELS(lm_k_attn_sink_grad);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < 5; i++) if (i < 4 || lm_has(c, i)) LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, i == 3 ? 1 : 2, i == 3 ? 1 : 2));
    const int64_t n = c->in[0].dim[0], heads = c->in[3].dim[0];
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(n, c->in[0].dim[1])));
    for (int i = 2; i < 5; i += 2) if (lm_has(c, i)) LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(n, heads)));
    if (heads < 1 || c->in[0].dim[1] % heads)
        return lm_fail(ctx, LM_E_SHAPE, "attn_sink_grad: input 3: got %lld heads, wanted a divisor of the %lld columns of input 0", (long long)heads, (long long)c->in[0].dim[1]);
    out[0] = lm_type_like(&c->in[1]);
    out[1] = out[2] = lm_type_like(&c->in[2]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t N = c->in[2].dim[0], H = c->in[2].dim[1], D = c->in[0].dim[1] / H;
    const double *dy = lm_f64(&c->in[0]), *o = lm_f64(&c->in[1]), *lse = lm_f64(&c->in[2]), *s = lm_f64(&c->in[3]), *dl = lm_has(c, 4) ? lm_f64(&c->in[4]) : NULL;
    double *dx = lm_f64(&c->out[0]), *dlse = lm_f64(&c->out[1]), *ds = lm_f64(&c->out[2]);
    for (int64_t i = 0; i < N * H; i++) {
        const double sink = 1 / (1 + exp(lse[i] - s[i % H])), keep = 1 / (1 + exp(s[i % H] - lse[i]));
        double t = 0;
        for (int64_t d = 0; d < D; d++) { t += dy[i * D + d] * o[i * D + d]; dx[i * D + d] = dy[i * D + d] * keep; }
        dlse[i] = t * sink * keep + (dl ? dl[i] * keep : 0);
        ds[i] = (dl ? dl[i] * sink : 0) - t * sink * keep;
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 3 * (double)lm_numel(&c->in[0]) + 12 * (double)lm_numel(&c->in[2]);
}
#define S(nm, n, h, d) { .name = nm, .in = { { .rank = 2, .dim = { n, (h) * (d) } }, { .rank = 2, .dim = { n, (h) * (d) } }, { .rank = 2, .dim = { n, h } }, { .rank = 1, .dim = { h } } }, .tol = 4e-6 }
#define SL(nm, n, h, d) { .name = nm, .in = { { .rank = 2, .dim = { n, (h) * (d) } }, { .rank = 2, .dim = { n, (h) * (d) } }, { .rank = 2, .dim = { n, h } }, { .rank = 1, .dim = { h } }, { .rank = 2, .dim = { n, h } } }, .tol = 4e-6 }
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
    { .name = "sinks far above", .in = { { .rank = 2, .dim = { 20, 12 * 8 } }, { .rank = 2, .dim = { 20, 12 * 8 } }, { .rank = 2, .dim = { 20, 12 } }, { .rank = 1, .dim = { 12 }, .fill = LM_FILL_IOTA } }, .tol = 4e-6 },
    { 0 } };
const lm_op lm_op_attn_sink_grad = { .name = "attn_sink_grad",
                                     .math = "do = dy (1 - p), dlse = <dy, o> p (1 - p) + dl (1 - p), ds = dl - dlse with p = 1 / (1 + exp(lse - s)), per head",
                                     .n_in = 4,
                                     .n_opt = 1,
                                     .n_out = 3,
                                     .inplace_ok = true,
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = lm_k_attn_sink_grad,
                                     .samples = samples };
lm_value *lm_attn_sink_grad(lm_graph *g, lm_value *dy, lm_value *o, lm_value *lse, lm_value *s, lm_value *dl) {
    return lm_emit(g, &lm_op_attn_sink_grad, NULL, 5, (lm_value *[]){ dy, o, lse, s, dl });
}
