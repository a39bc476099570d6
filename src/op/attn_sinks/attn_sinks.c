/* attn_sinks.c — the rule, the truth, the gradient: attention's own for q, k and v, and for s a sum over the rows of what attn_sinks_grad gives for each. */
#include <math.h>
#include "op/attn/paged_form.h"
#include "op/attn_grad/attn_grad.h"
#include "op/attn_sinks/attn_sinks.h"
#include "op/attn_sinks_grad/attn_sinks_grad.h"
#include "op/rule.h"
#include "op/sum_rows/sum_rows.h"

/* The call without the sinks. */
static lm_call plain(const lm_call *c) { lm_call a = *c; a.op = &lm_op_attn; a.n_in = 4; return a; }
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_call a = plain(c);
    LM_TRY(lm_op_attn.shape(ctx, &a, out));
    LM_TRY(lm_want(ctx, c, 4, LM_ANY_FLOAT, 1, 1));
    return lm_want_dims(ctx, c, 4, LM_DIMS(((const lm_attn_p *)c->p)->n_head));
}
static void ref(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const lm_call a = plain(c);
    lm_op_attn.ref(&a);
    const int64_t H = p->n_head, D = p->d_head;
    const double *s = lm_f64(&c->in[4]);
    double *y = lm_f64(&c->out[0]), *lse = lm_f64(&c->out[1]);
    for (int64_t i = 0; i < c->in[0].dim[0] * H; i++) {
        const double top = fmax(lse[i], s[i % H]);
        for (int64_t d = 0; d < D; d++) y[i * D + d] /= 1 + exp(s[i % H] - lse[i]);
        lse[i] = top + log(exp(lse[i] - top) + exp(s[i % H] - top));
    }
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    if (d->want[0] || d->want[1] || d->want[2]) {
        lm_value *dq = lm_attn_grad(g, d->in[0], d->in[1], d->in[2], d->in[3], d->out[0], d->out[1], d->gout[0], d->gout[1], d->p);
        for (int i = 0; i < 3; i++) if (d->want[i]) d->gin[i] = lm_output(dq, i);
    }
    if (d->want[4]) d->gin[4] = lm_sum_rows(g, lm_attn_sinks_grad(g, d->out[0], d->out[1], d->in[4], d->gout[0], d->gout[1]));
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_call a = plain(c);
    lm_op_attn.cost(&a, flops, bytes);
}
static lm_value *session(lm_graph *g, const lm_paged *pg, const void *params, lm_value *const *in) { return lm_attn_paged_form(g, pg, params, in, in[4]); }

#define P(h, hk, d, w, sc, t) &(const lm_attn_p){ h, hk, d, w, sc, t, 0, false }
#define PC(h, hk, d, w, sc, t, cap, both) &(const lm_attn_p){ h, hk, d, w, sc, t, cap, both }
#define IN(n, h, hk, d, doc, fill) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 2, { n, (hk) * (d) }, 0, 0, 0, 0, 0 }, { 2, { n, (hk) * (d) }, 0, 0, 0, 0, 0 }, \
                                     { 1, { n }, LM_I32, LM_FILL_START, doc, 0, 0 }, { 1, { h }, 0, fill, 0, 0, 0 } }
static const lm_sample samples[] = {
    { "one token", P(1, 1, 16, 0, 0.25f, LM_F32), IN(1, 1, 1, 16, 1, 0), 1e-5, 0, 0 },
    { "d_head 2, more heads than a vector", P(17, 1, 2, 0, 0.7f, LM_F32), IN(19, 17, 1, 2, 7, 0), 1e-5, 0, 0 },
    { "d_head 24, odd documents", P(3, 1, 24, 0, 0.2f, LM_F32), IN(65, 3, 1, 24, 13, 0), 1e-5, 0, 0 },
    { "grouped heads 4:2, window 17", P(4, 2, 64, 17, 0.125f, LM_F32), IN(200, 4, 2, 64, 111, 0), 1e-5, 0, 0 },
    { "off by one", P(4, 1, 128, 0, 0.0884f, LM_F32), IN(100, 4, 1, 128, 65, LM_FILL_ZERO), 1e-5, 0, 0 },
    { "sinks up to 11", P(12, 2, 16, 0, 0.25f, LM_F32), IN(40, 12, 2, 16, 30, LM_FILL_IOTA), 1e-5, 0, 0 },
    { "d_head 256", P(2, 1, 256, 90, 0.0625f, LM_F32), IN(130, 2, 1, 256, 128, 0), 1e-5, 0, 0 },
    { "cap, window 17, d_head 24", PC(3, 1, 24, 17, 0.6f, LM_F32, 1.5f, false), IN(75, 3, 1, 24, 75, 0), 1e-5, 0, 0 },
    { "both ways, d_head 6, documents of one", PC(2, 1, 6, 0, 0.4f, LM_F32, 0, true), IN(9, 2, 1, 6, 1, 0), 1e-5, 0, 0 },
    { "inputs rounded to bf16, d_head 80", P(2, 1, 80, 0, 0.11f, LM_BF16), IN(90, 2, 1, 80, 50, 0), 2e-2, 6e-3, 0 },
    { "bf16, d_head 32, documents", P(4, 2, 32, 0, 0.18f, LM_BF16), IN(150, 4, 2, 32, 40, 0), 4e-2, 8e-3, -1 },
    { "bf16, d_head 64, tiles", P(4, 2, 64, 0, 0.125f, LM_BF16), IN(300, 4, 2, 64, 290, 0), 4e-2, 8e-3, -1 },
    { "bf16, d_head 64, window, 16 heads", P(16, 2, 64, 70, 0.125f, LM_BF16), IN(261, 16, 2, 64, 130, LM_FILL_IOTA), 4e-2, 8e-3, -1 },
    { "bf16, d_head 96", P(3, 1, 96, 0, 0.1f, LM_BF16), IN(140, 3, 1, 96, 100, 0), 4e-2, 8e-3, -1 },
    { "bf16, d_head 128", P(4, 1, 128, 100, 0.0884f, LM_BF16), IN(200, 4, 1, 128, 180, 0), 4e-2, 8e-3, -1 },
    { "bf16, d_head 256", P(2, 1, 256, 0, 0.0625f, LM_BF16), IN(130, 2, 1, 256, 120, 0), 4e-2, 8e-3, -1 },
    { 0 } };

extern const lm_kernel lm_k_attn_sinks_avx512[], lm_k_attn_sinks_avx2[], lm_k_attn_sinks_portable[];
LM_CUDA_DECLARE(lm_k_attn_sinks);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_attn_sinks) lm_k_attn_sinks_avx512, lm_k_attn_sinks_avx2, lm_k_attn_sinks_portable, NULL };
const lm_op lm_op_attn_sinks = { .name = "attn_sinks",
                                 .math = "o_i = sum_j exp(z_ij) v_j / (exp(s) + sum_j exp(z_ij)), z_ij = cap(scale * <q_i, k_j>), over the keys j that i sees; lse_i = log of that denominator",
                                 .n_in = 5,
                                 .n_out = 2,
                                 .params_bytes = sizeof(lm_attn_p),
                                 .mm_at = 1 + offsetof(lm_attn_p, mm),
                                 .opaque = 8,
                                 .shape = shape,
                                 .ref = ref,
                                 .grad = grad,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples,
                                 .session = session };
lm_value *lm_attn_sinks(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, lm_value *s, const lm_attn_p *p) {
    return lm_emit(g, &lm_op_attn_sinks, p, 5, (lm_value *[]){ q, k, v, start, s });
}
