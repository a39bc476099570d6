/* rope — for each pair (x1, x2) of a head: y1 = x1 c - x2 s, y2 = x2 c + x1 s (RoFormer, Su et al. 2021, eq. 34). */
#include "op/rope/rope.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_rope_p *p = c->p;
    if (p->d_head < 1 || p->rotary < 2 || p->rotary % 2 || p->rotary > p->d_head)
        return lm_fail(ctx, LM_E_SHAPE, "rope: rotary is %d of d_head %d, wanted an even number up to d_head", p->rotary, p->d_head);
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 2, 2));
    if (c->in[0].dim[1] % p->d_head)
        return lm_fail(ctx, LM_E_SHAPE, "rope: input 0: got %lld columns, wanted a multiple of d_head %d", (long long)c->in[0].dim[1], p->d_head);
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[0].dim[0], p->rotary)));
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}

static void ref(const lm_call *c) {
    const lm_rope_p *p = c->p;
    const int64_t N = c->in[0].dim[0], W = c->in[0].dim[1], n = p->rotary / 2;
    for (int64_t r = 0; r < N; r++) {
        const double *t = lm_f64(&c->in[1]) + r * p->rotary;
        for (int64_t h = 0; h < W; h += p->d_head) {
            const double *x = lm_f64(&c->in[0]) + r * W + h;
            double *y = lm_f64(&c->out[0]) + r * W + h;
            for (int64_t i = 0; i < n; i++) {
                const int64_t a = p->interleaved ? 2 * i : i, b = p->interleaved ? 2 * i + 1 : i + n;
                const double cs = t[i], sn = p->inverse ? -t[n + i] : t[n + i], x1 = x[a], x2 = x[b];
                y[a] = x1 * cs - x2 * sn; y[b] = x2 * cs + x1 * sn;
            }
            for (int64_t i = 2 * n; i < p->d_head; i++) y[i] = x[i];
        }
    }
}

static lm_err grad(lm_graph *g, lm_grad *d) {
    lm_rope_p p = *(const lm_rope_p *)d->p;
    p.inverse = !p.inverse;
    if (d->want[0] && d->gout[0]) d->gin[0] = lm_rope(g, d->gout[0], d->in[1], &p);
    return LM_OK;
}
static void cost(const lm_call *c, double *flops, double *bytes) { (void)bytes; *flops = 3.0 * (double)lm_numel(&c->in[0]); }

lm_value *lm_rope(lm_graph *g, lm_value *x, lm_value *table, const lm_rope_p *p) { return lm_emit(g, &lm_op_rope, p, 2, (lm_value *[]){ x, table }); }

#define IN(n, w, rot) { { 2, { n, w }, 0, 0, 0, 0, 0 }, { 2, { n, rot }, 0, 0, 0, 0, 0 } }
#define P(d, r, il, inv) &(const lm_rope_p){ d, r, il, inv }
static const lm_sample samples[] = {
    { "one pair", P(2, 2, false, false), IN(1, 2, 2), 1e-6, 0, 0 },
    { "halves, 12 heads of 64", P(64, 64, false, false), IN(37, 768, 64), 1e-6, 0, 0 },
    { "halves, d_head 80, 20 turn", P(80, 20, false, false), IN(11, 240, 20), 1e-6, 0, 0 },
    { "halves, d_head 34", P(34, 34, false, false), IN(5, 68, 34), 1e-6, 0, 0 },
    { "halves, back", P(48, 48, false, true), IN(9, 96, 48), 1e-6, 0, 0 },
    { "neighbours", P(64, 64, true, false), IN(65, 128, 64), 1e-6, 0, 0 },
    { "neighbours, d_head 96, 50 turn, back", P(96, 50, true, true), IN(3, 192, 50), 1e-6, 0, 0 },
    { 0 } };

LM_SIMD_CUDA_F16_KERNELS(lm_k_rope);
const lm_op lm_op_rope = { .name = "rope",
                           .math = "y1 = x1 c - x2 s, y2 = x2 c + x1 s for the pairs of every head",
                           .n_in = 2,
                           .n_out = 1,
                           .params_bytes = sizeof(lm_rope_p),
                           .opaque = 2,
                           .inplace_ok = true,
                           .beside = true,
                           .shape = shape,
                           .ref = ref,
                           .grad = grad,
                           .cost = cost,
                           .kernels = lm_k_rope,
                           .samples = samples };
