/* attn_sink.c — with p = 1 / (1 + exp(lse - s)), the weight of the sink: y = o (1 - p). ds is a sum over the rows of what attn_sink_grad gives for each. */
#include <math.h>
#include "op/attn_sink/attn_sink.h"
#include "op/attn_sink_grad/attn_sink_grad.h"
#include "op/rule.h"
#include "op/scale/scale.h"
#include "op/sum_rows/sum_rows.h"
LM_SIMD_CUDA_KERNELS(lm_k_attn_sink);

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < 2; i++) LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 1, 1));
    const int64_t n = c->in[0].dim[0], heads = c->in[2].dim[0];
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(n, heads)));
    if (heads < 1 || c->in[0].dim[1] % heads)
        return lm_fail(ctx, LM_E_SHAPE, "attn_sink: input 2: got %lld heads, wanted a divisor of the %lld columns of input 0", (long long)heads, (long long)c->in[0].dim[1]);
    for (int i = 0; i < 2; i++) out[i] = lm_type_like(&c->in[i]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t N = c->in[1].dim[0], H = c->in[1].dim[1], D = c->in[0].dim[1] / H;
    const double *o = lm_f64(&c->in[0]), *lse = lm_f64(&c->in[1]), *s = lm_f64(&c->in[2]);
    double *y = lm_f64(&c->out[0]), *all = lm_f64(&c->out[1]);
    for (int64_t i = 0; i < N * H; i++) {
        const double top = fmax(lse[i], s[i % H]);
        for (int64_t d = 0; d < D; d++) y[i * D + d] = o[i * D + d] / (1 + exp(s[i % H] - lse[i]));
        all[i] = top + log(exp(lse[i] - top) + exp(s[i % H] - top));
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    lm_value *dy = d->gout[0] ? d->gout[0] : lm_scale(g, lm_ones(g, lm_type_of(d->out[0])), 0);
    lm_value *x = lm_attn_sink_grad(g, dy, d->in[0], d->in[1], d->in[2], d->gout[1]);
    for (int i = 0; i < 2; i++) if (d->want[i]) d->gin[i] = lm_output(x, i);
    if (d->want[2]) d->gin[2] = lm_sum_rows(g, lm_output(x, 2));
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = (double)lm_numel(&c->in[0]) + 10 * (double)lm_numel(&c->in[1]);
}
#define S(nm, n, h, d) { .name = nm, .in = { { .rank = 2, .dim = { n, (h) * (d) } }, { .rank = 2, .dim = { n, h } }, { .rank = 1, .dim = { h } } }, .tol = 2e-6 }
static const lm_sample samples[] = {
    S("one", 1, 1, 1),
    S("d_head 2", 19, 3, 2),
    S("d_head 6, heads beyond a vector", 9, 17, 6),
    S("d_head 24", 33, 5, 24),
    S("d_head 64", 130, 8, 64),
    S("d_head 96, more heads than a warp", 7, 40, 96),
    S("d_head 128, rows over several tiles", 300, 4, 128),
    S("d_head 256", 21, 3, 256),
    S("d_head 80", 70, 2, 80),
    S("one head, long rows", 3, 1, 1000),
    { .name = "off by one", .in = { { .rank = 2, .dim = { 40, 4 * 16 } }, { .rank = 2, .dim = { 40, 4 } }, { .rank = 1, .dim = { 4 }, .fill = LM_FILL_ZERO } }, .tol = 2e-6 },
    { .name = "sinks far above (no gradient check: all but nothing passes)",
      .in = { { .rank = 2, .dim = { 20, 12 * 8 } }, { .rank = 2, .dim = { 20, 12 } }, { .rank = 1, .dim = { 12 }, .fill = LM_FILL_IOTA, .arg = 0 } },
      .tol = 2e-6,
      .grad_tol = -1 },
    { .name = "sinks far below (no gradient check: all but everything passes)",
      .in = { { .rank = 2, .dim = { 20, 2 * 16 } }, { .rank = 2, .dim = { 20, 2 }, .fill = LM_FILL_IOTA, .arg = 0 }, { .rank = 1, .dim = { 2 } } },
      .tol = 2e-6,
      .grad_tol = -1 },
    { 0 } };
const lm_op lm_op_attn_sink = { .name = "attn_sink",
                                .math = "y = o / (1 + exp(s - lse)), lse' = log(exp(lse) + exp(s)), per head",
                                .n_in = 3,
                                .n_out = 2,
                                .inplace_ok = true,
                                .shape = shape,
                                .ref = ref,
                                .grad = grad,
                                .cost = cost,
                                .kernels = lm_k_attn_sink,
                                .samples = samples };
lm_value *lm_attn_sink(lm_graph *g, lm_value *o, lm_value *lse, lm_value *s) {
    return lm_emit(g, &lm_op_attn_sink, NULL, 3, (lm_value *[]){ o, lse, s });
}
lm_value *lm_attn_with_sinks(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *s, const lm_attn_p *p) {
    lm_value *o = lm_attn(g, q, k, v, start, p);
    return o && s ? lm_attn_sink(g, o, lm_output(o, 1), s) : o;
}
