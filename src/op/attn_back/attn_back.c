/* attn_back.c — the rule, the truth, what it replaces; the processor's plans never have it, so its row there is the truth, rounded. */
#include "op/attn_back/attn_back.h"
#include "op/attn_grad/attn_grad.h"
#include "op/rule.h"
#include <stdlib.h>
#include <string.h>
enum { TABLE = 8 };

static int64_t wide(const lm_attn_p *p, int i) { return (int64_t)(i ? p->n_kv : p->n_head) * p->d_head; }
static int64_t all(const lm_attn_p *p) { return wide(p, 0) + 2 * wide(p, 1); }
static lm_call gradient(const lm_call *c) {
    lm_call g = { .op = &lm_op_attn_grad, .p = &((const lm_attn_back_p *)c->p)->attn, .n_in = c->n_in < TABLE ? c->n_in : TABLE, .n_out = 3, .ctx = c->ctx };
    memcpy(g.in, c->in, sizeof *g.in * (size_t)g.n_in);
    return g;
}
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_attn_back_p *p = c->p;
    lm_type each[3];
    const lm_call g = gradient(c);
    LM_TRY(lm_op_attn_grad.shape(ctx, &g, each));
    if (lm_has(c, TABLE) != (p->rope.d_head != 0) || (p->rope.d_head && p->rope.d_head != p->attn.d_head))
        return lm_fail(ctx, LM_E_SHAPE, "attn_back: rotates heads of %d, attention has %d, and there is %s table", p->rope.d_head, p->attn.d_head, lm_has(c, TABLE) ? "a" : "no");
    for (int i = 0; i < 2 && p->rope.d_head; i++) {
        lm_call r = { .op = &lm_op_rope, .p = &p->rope, .n_in = 2, .n_out = 1, .in = { c->in[i], c->in[TABLE] }, .ctx = ctx };
        lm_type like;
        LM_TRY(lm_op_rope.shape(ctx, &r, &like));
    }
    if (p->sums && !p->joined) return lm_fail(ctx, LM_E_SHAPE, "attn_back: sums of dq, dk and dv that are apart are sum_rows");
    if (p->joined) { out[0] = each[0]; out[0].dim[1] = all(&p->attn); }
    else memcpy(out, each, sizeof each);
    if (p->sums) { out[3] = LM_TYPE(LM_F32, all(&p->attn)); out[3].ext[0] = LM_NO_EXTENT; }
    return LM_OK;
}
/* All floats are doubles; room for dq, dk and dv at `at`. */
static void back(const lm_call *c, double *at) {
    const lm_attn_back_p *p = c->p;
    const int64_t n = c->in[0].dim[0], cols = all(&p->attn);
    lm_call g = gradient(c);
    for (int i = 0; i < 3; at += n * wide(&p->attn, i++)) g.out[i] = lm_tensor_of(at, LM_F64, LM_DIMS(n, wide(&p->attn, i)));
    lm_op_attn_grad.ref(&g);
    for (int i = 0; i < 2 && p->rope.d_head; i++) {
        const lm_call r = { .op = &lm_op_rope, .p = &p->rope, .n_in = 2, .n_out = 1, .in = { g.out[i], c->in[TABLE] }, .out = { g.out[i] } };
        lm_op_rope.ref(&r);
    }
    for (int64_t j = 0; p->sums && j < cols; j++) lm_f64(&c->out[3])[j] = 0;
    for (int i = 0, from = 0; i < 3; from += (int)wide(&p->attn, i++)) for (int64_t r = 0, w = wide(&p->attn, i); r < n; r++) {
        const double *x = lm_f64(&g.out[i]) + r * w;
        memcpy(p->joined ? lm_f64(&c->out[0]) + r * cols + from : lm_f64(&c->out[i]) + r * w, x, (size_t)w * sizeof *x);
        for (int64_t j = 0; p->sums && j < w; j++) lm_f64(&c->out[3])[from + j] += x[j];
    }
}
static void ref(const lm_call *c) {
    double *t = malloc((size_t)(c->in[0].dim[0] * all(&((const lm_attn_back_p *)c->p)->attn)) * sizeof *t + 8);
    if (t) back(c, t);
    free(t);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_attn_p *p = &((const lm_attn_back_p *)c->p)->attn;
    (void)bytes;
    *flops = 10.0 * lm_attn_pairs(&c->in[3], p) * p->n_head * p->d_head;
}
static const char *const unites[] = { "!Q,K,W=attn_grad(q,k,v,s,o,l,g,e) C=concat(Q,K) R=rope(C,t) X=concat(R,W) ?B=sum_rows(X)",
                                     "!Q,K,W=attn_grad(q,k,v,s,o,l,g,e) X=concat(Q,K,W) B=sum_rows(X)",
                                     "!Q,K,V=attn_grad(q,k,v,s,o,l,g,e) X=rope(Q,t) Y=rope(K,t)",
                                     NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    lm_attn_back_p *p = out;
    p->attn = *(const lm_attn_p *)params[0]; p->joined = !(outs & 2); p->sums = outs & 8;
    if (in[TABLE]) p->rope = *(const lm_rope_p *)params[p->joined ? 2 : 1];
    return p->joined || !memcmp(params[1], params[2], sizeof(lm_rope_p));
}

/* ---- the processor's row ---- */
static bool numbers(const lm_tensor *t) { return (t->dtype == LM_F32 || t->dtype == LM_BF16) && t->layout == LM_PLAIN && lm_rows_fold(t); }
static bool accepts(const lm_call *c) {
    for (int i = 0; i < c->n_in; i++) if (lm_has(c, i) && i != 3 && !numbers(&c->in[i])) return false;
    for (int o = 0; o < c->n_out; o++) if (c->out[o].rank && (!numbers(&c->out[o]) || (o == 3 && c->out[o].dtype != LM_F32))) return false;
    return lm_is_contig(&c->in[3]);
}
static size_t shared(const lm_call *c) {
    int64_t n = c->in[0].dim[0] * all(&((const lm_attn_back_p *)c->p)->attn);
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

#define P(h, hk, d, w, sc, turn, back, il, join, sum) \
    &(const lm_attn_back_p){ { h, hk, d, w, sc, LM_BF16, 0, false }, { (turn) ? (d) : 0, turn, il, back }, join, sum }
#define T(n, m, t) { .rank = 2, .dim = { n, m }, .dtype = t }
#define IN(t, n, h, hk, d, doc, ...) \
    { T(n, (h) * (d), t), T(n, (hk) * (d), t), T(n, (hk) * (d), t), { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_START, .arg = doc }, \
      T(n, (h) * (d), t), T(n, h, LM_F32), T(n, (h) * (d), t), __VA_ARGS__ }
#define HALF 1.1e-1, 1.4e-2, -1                    /* as attn_grad's samples in bf16, rounded once more */
static const lm_sample samples[] = {
    { "apart, turned back", P(3, 1, 8, 0, 0.3f, 8, true, false, false, false), IN(LM_F32, 21, 3, 1, 8, 9, { 0 }, T(21, 8, LM_F32)), 1e-6, 0, -1 },
    { "joined, six of ten turn, neighbours", P(2, 2, 10, 5, 0.3f, 6, false, true, true, true), IN(LM_F32, 17, 2, 2, 10, 17, T(17, 2, LM_F32), T(17, 6, LM_F32)), 1e-6, 0, -1 },
    { "joined and sums", P(2, 1, 6, 0, 0.4f, 0, false, false, true, true), IN(LM_F32, 13, 2, 1, 6, 13), 1e-6, 0, -1 },
    { "bf16, d_head 64, sums", P(3, 3, 64, 0, 0.125f, 0, false, false, true, true), IN(LM_BF16, 300, 3, 3, 64, 290), HALF },
    { "bf16, d_head 64, sums of one row", P(2, 1, 64, 0, 0.125f, 0, false, false, true, true), IN(LM_BF16, 1, 2, 1, 64, 1), HALF },
    { "bf16, d_head 64, documents, turned back, joined", P(4, 2, 64, 0, 0.125f, 64, true, false, true, false), IN(LM_BF16, 333, 4, 2, 64, 100, { 0 }, T(333, 64, LM_F32)), HALF },
    { "bf16, d_head 64, window, dlse, turned back, sums", P(2, 2, 64, 70, 0.125f, 64, true, false, true, true), IN(LM_BF16, 261, 2, 2, 64, 130, T(261, 2, LM_F32), T(261, 64, LM_F32)), HALF },
    { "bf16, d_head 64, turned, apart", P(4, 1, 64, 0, 0.125f, 64, false, false, false, false), IN(LM_BF16, 200, 4, 1, 64, 200, { 0 }, T(200, 64, LM_F32)), HALF },
    { "bf16, d_head 128, turned back, joined", P(4, 1, 128, 100, 0.0884f, 128, true, false, true, false), IN(LM_BF16, 280, 4, 1, 128, 180, { 0 }, T(280, 128, LM_F32)), HALF },
    { "bf16, d_head 128, turned, apart", P(2, 2, 128, 0, 0.0884f, 128, false, false, false, false), IN(LM_BF16, 150, 2, 2, 128, 70, { 0 }, T(150, 128, LM_F32)), HALF },
    { 0 } };
const lm_op lm_op_attn_back = { .name = "attn_back",
                                .math = "[dq dk dv] of attention, dq and dk rotated back, sum_r of it",
                                .n_in = 6,
                                .n_opt = 3,
                                .n_out = 4,
                                .params_bytes = sizeof(lm_attn_back_p),
                                .mm_at = 1 + offsetof(lm_attn_back_p, attn.mm),
                                .acc_ok = 1 << 3,
                                .opaque = 1 << 3 | 1 << TABLE,
                                .shape = shape,
                                .ref = ref,
                                .cost = cost,
                                .kernels = kernels,
                                .samples = samples,
                                .unite_in = "qkvsolget",
                                .unite_out = "XYVB",
                                .unites = unites,
                                .unite = unite };
