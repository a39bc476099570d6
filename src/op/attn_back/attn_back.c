/* attn_back.c — the rule, the truth, what it replaces; the processor's plans never have it, so its row there is the truth, rounded. */
#include "op/attn_back/attn_back.h"
#include "op/attn_grad/attn_grad.h"
#include "op/rule.h"
#include <stdlib.h>
#include <string.h>

static int64_t wide(const lm_attn_p *p, int i) { return (int64_t)(i ? p->n_kv : p->n_head) * p->d_head; }
static int64_t all(const lm_attn_p *p) { return wide(p, 0) + 2 * wide(p, 1); }
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    lm_type each[3];
    lm_call g = *c;
    g.op = &lm_op_attn_grad; g.n_out = 3;
    LM_TRY(lm_op_attn_grad.shape(ctx, &g, each));
    out[0] = each[0]; out[0].dim[1] = all(c->p);
    out[1] = LM_TYPE(LM_F32, all(c->p)); out[1].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
/* All floats are doubles; room for dq, dk and dv at `at`. */
static void back(const lm_call *c, double *at) {
    const int64_t n = c->in[0].dim[0], cols = all(c->p);
    double *y = lm_f64(&c->out[0]), *sum = lm_f64(&c->out[1]);
    lm_call g = *c;
    g.op = &lm_op_attn_grad; g.n_out = 3;
    for (int i = 0; i < 3; at += n * wide(c->p, i++)) g.out[i] = lm_tensor_of(at, LM_F64, LM_DIMS(n, wide(c->p, i)));
    lm_op_attn_grad.ref(&g);
    for (int64_t j = 0; j < cols; j++) sum[j] = 0;
    for (int64_t i = 0, from = 0; i < 3; from += wide(c->p, (int)i++)) for (int64_t r = 0, w = wide(c->p, (int)i); r < n; r++)
        for (int64_t j = 0; j < w; j++) { const double x = lm_f64(&g.out[i])[r * w + j]; y[r * cols + from + j] = x; sum[from + j] += x; }
}
static void ref(const lm_call *c) {
    double *t = malloc((size_t)(c->in[0].dim[0] * all(c->p)) * sizeof *t + 8);
    if (t) back(c, t);
    free(t);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_attn_p *p = c->p;
    (void)bytes;
    *flops = 10.0 * lm_attn_pairs(&c->in[3], p) * p->n_head * p->d_head;
}
static const char *const unites[] = { "!Q,K,V=attn_grad(q,k,v,s,o,l,g,e) X=concat(Q,K,V) B=sum_rows(X)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)in; (void)outs;
    memcpy(out, params[0], sizeof(lm_attn_p));
    return true;
}

/* ---- the processor's row ---- */
static bool numbers(const lm_tensor *t) { return (t->dtype == LM_F32 || t->dtype == LM_BF16) && t->layout == LM_PLAIN && lm_rows_fold(t); }
static bool accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && i != 3 && !numbers(&c->in[i])) return false;
    for (int o = 0; o < c->n_out; o++) if (c->out[o].rank && (!numbers(&c->out[o]) || (o == 1 && c->out[o].dtype != LM_F32))) return false;
    return lm_is_contig(&c->in[3]);
}
static size_t shared(const lm_call *c) {
    int64_t n = c->in[0].dim[0] * all(c->p);
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && i != 3) n += lm_numel(&c->in[i]);
    for (int o = 0; o < c->n_out; o++) if (c->out[o].rank) n += lm_numel(&c->out[o]);
    return (size_t)n * sizeof(double);
}
static char *row(const lm_tensor *t, int64_t r) { return (char *)t->data + (size_t)(r * lm_row_stride(t)) * lm_dtype_size((lm_dtype)t->dtype); }
static lm_tensor doubles(const lm_tensor *t, double **at) {
    const lm_tensor d = lm_tensor_of(*at, LM_F64, t->rank, t->dim);
    *at += lm_numel(t);
    return d;
}
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    double *at = c->shared;
    lm_call d = *c;
    (void)tile; (void)scratch;
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && i != 3) {
        const lm_tensor *t = &c->in[i];
        d.in[i] = doubles(t, &at);
        for (int64_t r = 0; r < lm_rows(t); r++) lm_convert(lm_f64(&d.in[i]) + r * lm_cols(t), LM_F64, row(t, r), (lm_dtype)t->dtype, lm_cols(t));
    }
    for (int o = 0; o < c->n_out; o++) if (c->out[o].rank) d.out[o] = doubles(&c->out[o], &at);
    back(&d, at);
    for (int o = 0; o < c->n_out; o++) if (c->out[o].rank) {
        const lm_tensor *t = &c->out[o];
        double *x = lm_f64(&d.out[o]);
        for (int64_t j = 0; c->acc >> o & 1 && j < lm_numel(t); j++) x[j] += (double)((const float *)t->data)[j];
        for (int64_t r = 0; r < lm_rows(t); r++) lm_convert(row(t, r), (lm_dtype)t->dtype, x + r * lm_cols(t), LM_F64, lm_cols(t));
    }
    return LM_OK;
}
static const lm_kernel plain[] = { { .name = "attn_back.portable", .order = "attn_back", .accepts = accepts, .shared_bytes = shared, .n_phase = 1,
    .phase = { { one, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_attn_back_hopper);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_attn_back_hopper) plain, NULL };

#define P(h, hk, d, w, sc) &(const lm_attn_p){ h, hk, d, w, sc, LM_BF16, 0, false }
#define T(n, m, t) { .rank = 2, .dim = { n, m }, .dtype = t }
#define IN(t, n, h, hk, d, doc) \
    { T(n, (h) * (d), t), T(n, (hk) * (d), t), T(n, (hk) * (d), t), { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_START, .arg = doc }, \
      T(n, (h) * (d), t), T(n, h, LM_F32), T(n, (h) * (d), t), T(n, h, LM_F32) }
#define HALF 1.1e-1, 1.4e-2, -1                    /* as attn_grad's samples in bf16, rounded once more */
static const lm_sample samples[] = {
    { "grouped heads, documents", P(3, 1, 8, 0, 0.3f), IN(LM_F32, 21, 3, 1, 8, 9), 1e-6, 0, -1 },
    { "window", P(2, 2, 10, 5, 0.3f), IN(LM_F32, 17, 2, 2, 10, 17), 1e-6, 0, -1 },
    { "bf16, d_head 64", P(3, 3, 64, 0, 0.125f), IN(LM_BF16, 300, 3, 3, 64, 290), HALF },
    { "bf16, d_head 64, one row", P(2, 1, 64, 0, 0.125f), IN(LM_BF16, 1, 2, 1, 64, 1), HALF },
    { "bf16, d_head 64, documents, window", P(4, 2, 64, 70, 0.125f), IN(LM_BF16, 333, 4, 2, 64, 100), HALF },
    { "bf16, d_head 64, eight heads of one", P(8, 1, 64, 0, 0.125f), IN(LM_BF16, 270, 8, 1, 64, 270), HALF },
    { "bf16, d_head 64, more blocks than multiprocessors", P(16, 16, 64, 12, 0.125f), IN(LM_BF16, 1410, 16, 16, 64, 500), HALF },
    { 0 } };
const lm_op lm_op_attn_back = { .name = "attn_back",
                                .math = "y = [dq dk dv] of attn_grad, sum_r y",
                                .n_in = 6,
                                .n_opt = 2,
                                .n_out = 2,
                                .params_bytes = sizeof(lm_attn_p),
                                .mm_at = 1 + offsetof(lm_attn_p, mm),
                                .acc_ok = 1 << 1,
                                .opaque = 1 << 3,
                                .shape = shape,
                                .ref = ref,
                                .cost = cost,
                                .kernels = kernels,
                                .samples = samples,
                                .unite_in = "qkvsolge",
                                .unite_out = "XB",
                                .unites = unites,
                                .unite = unite };
