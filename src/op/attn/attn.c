/* attn — o_i = sum_j softmax_j(scale * q_i·k_j) v_j over the keys that token i sees (attn.h).
 *
 * The online softmax is Milakov & Gimelshein 2018, the tiling FlashAttention (Dao et al. 2022): the scores never exist as a matrix. What the
 * gradient needs is o and lse_i = log sum_j exp(scale * q_i·k_j): P is recomputed from them. This file is the truth, attn_simd.c is the speed. */
#include <math.h>
#include <stdio.h>
#include "op/attn/attn.h"
#include "op/attn/paged_form.h"
#include "op/attn_grad/attn_grad.h"
#include "op/attn_paged/attn_paged.h"
#include "op/kv_write/kv_write.h"
#include "op/rule.h"

lm_err lm_attn_check(lm_ctx *ctx, const char *op, const lm_attn_p *p) {
    if (p->d_head < 2 || p->d_head > LM_ATTN_MAX_D || p->d_head % 2)
        return lm_fail(ctx, LM_E_SHAPE, "%s: d_head is %d, wanted an even number up to %d", op, p->d_head, LM_ATTN_MAX_D);
    if (p->n_kv < 1 || p->n_head < 1 || p->n_head > 65536 || p->n_head % p->n_kv)
        return lm_fail(ctx, LM_E_SHAPE, "%s: %d heads over %d kv heads, wanted a multiple", op, p->n_head, p->n_kv);
    if (p->window < 0) return lm_fail(ctx, LM_E_SHAPE, "%s: window is %lld, wanted 0 (none) or more", op, (long long)p->window);
    if (p->both && p->window) return lm_fail(ctx, LM_E_SHAPE, "%s: a window of %lld both ways is not known", op, (long long)p->window);
    if (!(p->cap >= 0) || isinf(p->cap)) return lm_fail(ctx, LM_E_SHAPE, "%s: cap is %g, wanted 0 (none) or more", op, (double)p->cap);
    if (p->mm != LM_F32 && p->mm != LM_BF16) return lm_fail(ctx, LM_E_SHAPE, "%s: mm is %s, wanted F32 or BF16", op, lm_dtype_name(p->mm));
    return LM_OK;
}

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_attn_p *p = c->p;
    LM_TRY(lm_attn_check(ctx, "attn", p));
    int64_t n = c->in[0].dim[0], dkv = (int64_t)p->n_kv * p->d_head;
    for (int i = 0; i < 3; i++) {
        LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 2, 2));
        LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(n, i ? dkv : (int64_t)p->n_head * p->d_head)));
    }
    LM_TRY(lm_want(ctx, c, 3, LM_I32, 1, 1));
    LM_TRY(lm_want_dims(ctx, c, 3, LM_DIMS(n)));
    out[0] = lm_type_like(&c->in[0]);
    out[1] = LM_TYPE((lm_dtype)c->in[0].dtype, n, p->n_head);
    return LM_OK;
}

static void ref(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], H = p->n_head, Hk = p->n_kv, D = p->d_head;
    const double *q = lm_f64(&c->in[0]), *k = lm_f64(&c->in[1]), *v = lm_f64(&c->in[2]);
    const int32_t *start = c->in[3].data;
    double *o = lm_f64(&c->out[0]), *lse = lm_f64(&c->out[1]);
    for (int64_t i = 0; i < N; i++) for (int64_t h = 0; h < H; h++) {
        const double *qi = q + (i * H + h) * D;
        double *oi = o + (i * H + h) * D, m = -INFINITY, l = 0;
        int64_t kh = h / (H / Hk), lo = lm_attn_first(lm_attn_start(start[i], i), i, p->window), hi = p->both ? lm_attn_end(start, i, N) : i + 1;
        for (int pass = 0; pass < 2; pass++) {                     /* the maximum first, then the sums */
            if (pass) for (int64_t d = 0; d < D; d++) oi[d] = 0;
            for (int64_t j = lo; j < hi; j++) {
                const double *kj = k + (j * Hk + kh) * D, *vj = v + (j * Hk + kh) * D;
                double s = 0;
                for (int64_t d = 0; d < D; d++) s += qi[d] * kj[d];
                s *= (double)p->scale;
                if (p->cap > 0) s = (double)p->cap * tanh(s / (double)p->cap);
                if (!pass) { if (s > m) m = s; continue; }
                double e = exp(s - m);
                l += e;
                for (int64_t d = 0; d < D; d++) oi[d] += e * vj[d];
            }
        }
        for (int64_t d = 0; d < D; d++) oi[d] /= l;
        lse[i * H + h] = m + log(l);
    }
}

static lm_err grad(lm_graph *g, lm_grad *d) {
    if (!d->want[0] && !d->want[1] && !d->want[2]) return LM_OK;
    lm_value *dq = lm_attn_grad(g, d->in[0], d->in[1], d->in[2], d->in[3], d->out[0], d->out[1], d->gout[0], d->gout[1], d->p);
    for (int i = 0; i < 3; i++) if (d->want[i]) d->gin[i] = lm_output(dq, i);
    return LM_OK;
}

double lm_attn_pairs(const lm_tensor *start, const lm_attn_p *p) {
    const int32_t *s = start->data;
    const int64_t N = start->dim[0];
    double n = 0;
    for (int64_t i = 0, end = 0; i < N; i++) {
        if (p->both && i >= end) end = s ? lm_attn_end(s, i, N) : N;
        n += (double)((p->both ? end : i + 1) - lm_attn_first(s ? lm_attn_start(s[i], i) : 0, i, p->window));
    }
    return n;
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_attn_p *p = c->p;
    (void)bytes;
    *flops = 4.0 * lm_attn_pairs(&c->in[3], p) * p->n_head * p->d_head;
}

lm_value *lm_attn_paged_form(lm_graph *g, const lm_paged *pg, const lm_attn_p *p, lm_value *const *in, lm_value *sinks) {
    if (p->both) { lm_graph_fail(g, LM_E_UNSUPPORTED, "attention both ways has no paged form: an encoder is run whole"); return NULL; }
    lm_type t = LM_TYPE(pg->kv_dtype, pg->n_pages, p->n_kv, LM_KV_PAGE, p->d_head);
    t.quant = pg->kv_quant;
    if (t.quant && p->d_head % t.quant->block) {
        lm_graph_fail(g, LM_E_UNSUPPORTED, "key-value pages in %s hold blocks of %d numbers of a head, and this model's heads have %d: use f32, bf16 or f16 pages",
                      t.quant->name, t.quant->block, p->d_head);
        return NULL;
    }
    char name[32];
    snprintf(name, sizeof name, "kv.%d.k", pg->layer); lm_value *k = lm_state_in(g, name, &t, t.quant ? LM_PANEL16 : LM_PLAIN);
    snprintf(name, sizeof name, "kv.%d.v", pg->layer); lm_value *v = lm_state(g, name, &t);
    lm_value *kw = lm_kv_write(g, k, v, in[1], in[2], pg->slot, &(lm_kv_write_p){ p->n_kv, p->d_head }), *vw = lm_output(kw, 1);
    return lm_emit(g, &lm_op_attn_paged, p, sinks ? 7 : 6, (lm_value *[]){ in[0], kw, vw, pg->table, pg->seq, pg->pos, sinks });
}
static lm_value *session(lm_graph *g, const lm_paged *pg, const void *params, lm_value *const *in) { return lm_attn_paged_form(g, pg, params, in, NULL); }

lm_value *lm_attn(lm_graph *g, lm_value *q, lm_value *k, lm_value *v, lm_value *start, const lm_attn_p *p) {
    return lm_emit(g, &lm_op_attn, p, 4, (lm_value *[]){ q, k, v, start });
}

#define P(h, hk, d, w, sc, t) &(const lm_attn_p){ h, hk, d, w, sc, t, 0, false }
#define PC(h, hk, d, w, sc, t, cap, both) &(const lm_attn_p){ h, hk, d, w, sc, t, cap, both }
#define IN(n, h, hk, d, doc) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 2, { n, (hk) * (d) }, 0, 0, 0, 0, 0 }, { 2, { n, (hk) * (d) }, 0, 0, 0, 0, 0 }, \
                               { 1, { n }, LM_I32, LM_FILL_START, doc, 0, 0 } }
static const lm_sample samples[] = {
    { "one token", P(1, 1, 16, 0, 0.25f, LM_F32), IN(1, 1, 1, 16, 1), 1e-5, 0, 0 },
    { "two blocks and one key", P(2, 2, 16, 0, 0.25f, LM_F32), IN(129, 2, 2, 16, 129), 1e-5, 0, 0 },
    { "d_head 24, odd documents", P(3, 1, 24, 0, 0.2f, LM_F32), IN(65, 3, 1, 24, 13), 1e-5, 0, 0 },
    { "d_head 2", P(2, 1, 2, 0, 0.7f, LM_F32), IN(19, 2, 1, 2, 7), 1e-5, 0, 0 },
    { "d_head 6, window 1", P(2, 2, 6, 1, 0.4f, LM_F32), IN(21, 2, 2, 6, 21), 1e-5, 0, 0 },
    { "grouped heads 4:2, window 17", P(4, 2, 64, 17, 0.125f, LM_F32), IN(200, 4, 2, 64, 111), 1e-5, 0, 0 },
    { "grouped heads 8:1, window 70", P(8, 1, 32, 70, 0.2f, LM_F32), IN(150, 8, 1, 32, 150), 1e-5, 0, 0 },
    { "d_head 80", P(2, 2, 80, 0, 0.11f, LM_F32), IN(70, 2, 2, 80, 70), 1e-5, 0, 0 },
    { "d_head 96", P(6, 3, 96, 0, 0.1f, LM_F32), IN(33, 6, 3, 96, 30), 1e-5, 0, 0 },
    { "d_head 128", P(4, 1, 128, 0, 0.0884f, LM_F32), IN(100, 4, 1, 128, 65), 1e-5, 0, 0 },
    { "d_head 256", P(2, 1, 256, 90, 0.0625f, LM_F32), IN(130, 2, 1, 256, 128), 1e-5, 0, 0 },
    { "documents of one token", P(2, 1, 16, 0, 0.25f, LM_F32), IN(9, 2, 1, 16, 1), 1e-5, 0, 0 },
    { "several query tiles", P(2, 1, 32, 0, 0.18f, LM_F32), IN(333, 2, 1, 32, 300), 1e-5, 0, 0 },
    { "cap", PC(4, 2, 32, 0, 0.6f, LM_F32, 2.5f, false), IN(150, 4, 2, 32, 70), 1e-5, 0, 0 },
    { "cap, window 17, d_head 24", PC(3, 1, 24, 17, 0.6f, LM_F32, 1.5f, false), IN(75, 3, 1, 24, 75), 1e-5, 0, 0 },
    { "cap, bf16", PC(2, 1, 64, 0, 0.3f, LM_BF16, 2, false), IN(140, 2, 1, 64, 90), 2e-2, 6e-3, 0 },
    { "both ways", PC(2, 2, 32, 0, 0.18f, LM_F32, 0, true), IN(140, 2, 2, 32, 50), 1e-5, 0, 0 },
    { "both ways, several query tiles, one document", PC(2, 1, 16, 0, 0.25f, LM_F32, 0, true), IN(333, 2, 1, 16, 333), 1e-5, 0, 0 },
    { "both ways, d_head 6, documents of one", PC(2, 1, 6, 0, 0.4f, LM_F32, 0, true), IN(9, 2, 1, 6, 1), 1e-5, 0, 0 },
    { "both ways, cap", PC(4, 1, 24, 0, 0.6f, LM_F32, 2, true), IN(131, 4, 1, 24, 64), 1e-5, 0, 0 },
    { "inputs rounded to bf16", P(2, 1, 48, 0, 0.14f, LM_BF16), IN(90, 2, 1, 48, 50), 2e-2, 6e-3, 0 },
    { "bf16, d_head 32, documents", P(4, 2, 32, 0, 0.18f, LM_BF16), IN(150, 4, 2, 32, 40), 4e-2, 8e-3, -1 },
    { "bf16, d_head 64, tiles", P(4, 2, 64, 0, 0.125f, LM_BF16), IN(300, 4, 2, 64, 290), 4e-2, 8e-3, -1 },
    { "bf16, d_head 64, window", P(2, 2, 64, 70, 0.125f, LM_BF16), IN(261, 2, 2, 64, 130), 4e-2, 8e-3, -1 },
    { "bf16, d_head 96", P(3, 1, 96, 0, 0.1f, LM_BF16), IN(140, 3, 1, 96, 100), 4e-2, 8e-3, -1 },
    { "bf16, d_head 128", P(4, 1, 128, 100, 0.0884f, LM_BF16), IN(200, 4, 1, 128, 180), 4e-2, 8e-3, -1 },
    { "bf16, d_head 256", P(2, 1, 256, 0, 0.0625f, LM_BF16), IN(130, 2, 1, 256, 120), 4e-2, 8e-3, -1 },
    { "bf16, d_head 96, grouped heads, window", P(4, 2, 96, 70, 0.1f, LM_BF16), IN(333, 4, 2, 96, 100), 4e-2, 8e-3, -1 },
    { "bf16, d_head 256, grouped heads, window", P(4, 2, 256, 70, 0.0625f, LM_BF16), IN(333, 4, 2, 256, 100), 4e-2, 8e-3, -1 },
    { 0 } };

extern const lm_kernel lm_k_attn_avx512[], lm_k_attn_avx2[], lm_k_attn_portable[];
LM_CUDA_DECLARE(lm_k_attn_hopper); LM_CUDA_F16_DECLARE(lm_k_attn);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_attn_hopper) LM_CUDA_F16_ROWS(lm_k_attn) lm_k_attn_avx512, lm_k_attn_avx2, lm_k_attn_portable, NULL };
const lm_op lm_op_attn = { .name = "attn",
                           .math = "o_i = sum_j softmax_j(cap(scale * <q_i, k_j>)) v_j over the keys j that i sees; lse_i = log of the sum; cap(s) = c tanh(s/c)",
                           .n_in = 4,
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
