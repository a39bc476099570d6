/* kv_write — kpages[slot] = k, vpages[slot] = v, in the layouts of kv_write.h. */
#include <string.h>
#include "op/kv_write/kv_write.h"
#include "op/rule.h"

lm_err lm_kv_want_pages(lm_ctx *ctx, const lm_call *c, int i, int64_t pages, int64_t n_kv, int64_t d_head) {
    const lm_quant *q = c->in[i].dtype == LM_QUANT ? c->in[i].quant : NULL;
    if (!q) LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 4, 4));
    else {
        LM_TRY(lm_want(ctx, c, i, LM_QUANT, 4, 4));
        if (q->gguf_id != LM_KV_Q8_0 && q->gguf_id != LM_KV_Q4_0)
            return lm_fail(ctx, LM_E_SHAPE, "%s: input %d: pages in %s, of the formats with blocks wanted Q8_0 or Q4_0", c->op->name, i, q->name);
        if (d_head % q->block)
            return lm_fail(ctx, LM_E_SHAPE, "%s: input %d: pages in %s, but heads have %lld numbers, no multiple of %d", c->op->name, i, q->name,
                           (long long)d_head, q->block);
    }
    return lm_want_dims(ctx, c, i, LM_DIMS(pages, n_kv, LM_KV_PAGE, d_head));
}
bool lm_kv_blocks(const lm_tensor *k, const lm_tensor *v) {
    return k->dtype == LM_QUANT && v->dtype == LM_QUANT && k->quant && k->quant == v->quant && k->layout == LM_PANEL16 && v->layout == LM_PLAIN &&
           (k->quant->gguf_id == LM_KV_Q8_0 || k->quant->gguf_id == LM_KV_Q4_0);
}

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_kv_write_p *p = c->p;
    if (p->n_kv < 1 || p->d_head < 1) return lm_fail(ctx, LM_E_SHAPE, "kv_write: %d kv heads of %d dimensions", p->n_kv, p->d_head);
    int64_t n = c->in[2].dim[0];
    for (int i = 0; i < 2; i++) {
        LM_TRY(lm_kv_want_pages(ctx, c, i, c->in[0].dim[0], p->n_kv, p->d_head));
        LM_TRY(lm_want(ctx, c, 2 + i, LM_ANY_FLOAT, 2, 2));
        LM_TRY(lm_want_dims(ctx, c, 2 + i, LM_DIMS(n, (int64_t)p->n_kv * p->d_head)));
        out[i] = lm_type_like(&c->in[i]);
        out[i].quant = c->in[i].quant;
    }
    LM_TRY(lm_want(ctx, c, 4, LM_I32, 1, 1));
    return lm_want_dims(ctx, c, 4, LM_DIMS(n));
}

/* A block as the format keeps it. */
static void rounded(const lm_quant *q, const double *x, double *y) {
    float f[256];
    char block[256];
    void *to[1] = { block };
    const void *from[1] = { block };
    for (int i = 0; i < q->block; i++) f[i] = (float)x[i];
    q->from_float(q, f, q->block, to); q->to_float(q, from, q->block, f);
    for (int i = 0; i < q->block; i++) y[i] = (double)f[i];
}
static void ref(const lm_call *c) {
    const lm_kv_write_p *p = c->p;
    const double *k = lm_f64(&c->in[2]), *v = lm_f64(&c->in[3]);
    const int32_t *slot = c->in[4].data;
    for (int i = 0; i < 2; i++) if (c->out[i].data != c->in[i].data) memcpy(c->out[i].data, c->in[i].data, (size_t)lm_numel(&c->out[i]) * 8);
    double *kp = lm_f64(&c->out[0]), *vp = lm_f64(&c->out[1]);
    const lm_quant *q = c->out[0].quant;
    for (int64_t n = 0; n < c->in[2].dim[0]; n++) {
        if (slot[n] < 0 || slot[n] >= c->out[0].dim[0] * LM_KV_PAGE) continue;
        const int64_t page = slot[n] / LM_KV_PAGE, t = slot[n] % LM_KV_PAGE, D = p->d_head;
        for (int64_t h = 0; h < p->n_kv; h++) for (int64_t d = 0; d < D; d++) {
            const int64_t base = (page * p->n_kv + h) * LM_KV_PAGE * D;
            if (q) {
                if (d % q->block) continue;
                for (int i = 0; i < 2; i++) rounded(q, (i ? v : k) + (n * p->n_kv + h) * D + d, (i ? vp : kp) + base + t * D + d);
                continue;
            }
            kp[base + lm_kv_key_at(t, d, D)] = k[(n * p->n_kv + h) * D + d];
            vp[base + t * D + d] = v[(n * p->n_kv + h) * D + d];
        }
    }
}

static void cost(const lm_call *c, double *flops, double *bytes) {
    *flops = 0;
    const double each = c->in[0].quant ? c->in[0].quant->bits / 8 : (double)lm_dtype_size((lm_dtype)c->in[0].dtype);
    *bytes = (double)lm_numel(&c->in[2]) * 2 * ((double)lm_dtype_size((lm_dtype)c->in[2].dtype) + each);
}

/* Kernels move numbers and round once: the same code and bits everywhere, so there is one, for any machine. */
enum { ROWS = 64 };
static bool accepts(const lm_call *c) {
    const bool blocks = lm_kv_blocks(&c->in[0], &c->in[1]);
    for (int i = 0; i < 2; i++) {
        const lm_tensor *pg = &c->in[i], *x = &c->in[2 + i];
        if (!blocks && ((pg->dtype != LM_F32 && pg->dtype != LM_BF16 && pg->dtype != LM_F16) || pg->dtype != c->in[0].dtype || !lm_is_contig(pg))) return false;
        if (x->dtype != LM_F32 || x->layout != LM_PLAIN || !lm_rows_fold(x)) return false;
    }
    return lm_is_contig(&c->in[4]);
}
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[2].dim[0], ROWS) * ((const lm_kv_write_p *)c->p)->n_kv; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_kv_write_p *p = c->p;
    const int64_t D = p->d_head, h = tile % p->n_kv, n0 = tile / p->n_kv * ROWS, n1 = lm_min64(n0 + ROWS, c->in[2].dim[0]);
    const int32_t *slot = c->in[4].data;
    (void)scratch;
    for (int64_t n = n0; n < n1; n++) {
        if (slot[n] < 0) continue;
        const int64_t page = slot[n] / LM_KV_PAGE, t = slot[n] % LM_KV_PAGE;
        if (page >= c->out[0].dim[0]) return LM_E_RANGE;
        const int64_t ka = (page * p->n_kv + h) * LM_KV_PAGE * D + lm_kv_key_at(t, 0, D), va = ((page * p->n_kv + h) * LM_KV_PAGE + t) * D;
        const float *k = (const float *)c->in[2].data + n * lm_row_stride(&c->in[2]) + h * D,
                    *v = (const float *)c->in[3].data + n * lm_row_stride(&c->in[3]) + h * D;
        if (c->out[0].dtype == LM_QUANT) {
            const int64_t row = (page * p->n_kv + h) * LM_KV_PAGE + t;
            lm_quant_row_put(&c->out[0], row, k); lm_quant_row_put(&c->out[1], row, v);
        } else if (c->out[0].dtype == LM_F32) {
            float *kp = (float *)c->out[0].data + ka;
            for (int64_t d = 0; d < D; d++) kp[d * 16] = k[d];
            memcpy((float *)c->out[1].data + va, v, (size_t)D * 4);
        } else {
            uint16_t *kp = (uint16_t *)c->out[0].data + ka, *vp = (uint16_t *)c->out[1].data + va;
            uint16_t x[64];
            lm_convert(vp, (lm_dtype)c->out[1].dtype, v, LM_F32, D);
            for (int64_t d = 0, w; d < D; d += w) {
                w = lm_min64(64, D - d);
                lm_convert(x, (lm_dtype)c->out[0].dtype, k + d, LM_F32, w);
                for (int64_t i = 0; i < w; i++) kp[(d + i) * 16] = x[i];
            }
        }
    }
    return LM_OK;
}
static const lm_kernel kernel[] = {
    { .name = "kv_write.cpu", .order = "kv_write", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 }
};
LM_CUDA_DECLARE(lm_k_kv_write);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_kv_write) kernel, NULL };

lm_value *lm_kv_write(lm_graph *g, lm_value *kpages, lm_value *vpages, lm_value *k, lm_value *v, lm_value *slot, const lm_kv_write_p *p) {
    return lm_emit(g, &lm_op_kv_write, p, 5, (lm_value *[]){ kpages, vpages, k, v, slot });
}

#define PG(pages, h, d, t) { 4, { pages, h, LM_KV_PAGE, d }, t, 0, 0, 0, 0 }
#define X(n, m) { 2, { n, m }, 0, 0, 0, 0, 0 }
#define IN_BLOCKS(pages, h, d, q, l) { 4, { pages, h, LM_KV_PAGE, d }, 0, 0, 0, q, l }
#define BLOCKS(name, h, d, pages, n, q) { name, &(const lm_kv_write_p){ h, d }, { IN_BLOCKS(pages, h, d, q, LM_PANEL16), IN_BLOCKS(pages, h, d, q, LM_PLAIN), \
    X(n, (h) * (d)), X(n, (h) * (d)), SLOT(n, 0) }, 1e-12, 0, -1 }
#define SLOT(n, mod) { 1, { n }, LM_I32, LM_FILL_IOTA, mod, 0, 0 }
static const lm_sample samples[] = { { "one token",
                                       &(const lm_kv_write_p){ 1, 16 },
                                       { PG(1, 1, 16, LM_F32), PG(1, 1, 16, LM_F32), X(1, 16), X(1, 16), SLOT(1, 0) },
                                       0,
                                       0,
                                       -1 },
                                     { "over a page",
                                       &(const lm_kv_write_p){ 2, 24 },
                                       { PG(3, 2, 24, LM_F32), PG(3, 2, 24, LM_F32), X(150, 48), X(150, 48), SLOT(150, 0) },
                                       0,
                                       0,
                                       -1 },
                                     { "bf16 pages",
                                       &(const lm_kv_write_p){ 3, 10 },
                                       { PG(2, 3, 10, LM_BF16), PG(2, 3, 10, LM_BF16), X(65, 30), X(65, 30), SLOT(65, 0) },
                                       4e-3,
                                       0,
                                       -1 },
                                     { "f16 pages",
                                       &(const lm_kv_write_p){ 3, 10 },
                                       { PG(2, 3, 10, LM_F16), PG(2, 3, 10, LM_F16), X(65, 30), X(65, 30), SLOT(65, 0) },
                                       5e-4,
                                       0,
                                       -1 },
                                     BLOCKS("Q8_0 pages", 2, 64, 2, 100, "Q8_0"),
                                     BLOCKS("Q8_0 pages, d_head 96", 3, 96, 2, 65, "Q8_0"),
                                     BLOCKS("Q4_0 pages", 2, 64, 2, 100, "Q4_0"),
                                     BLOCKS("Q4_0 pages, d_head 32, one token", 1, 32, 1, 1, "Q4_0"),
                                     { 0 } };

const lm_op lm_op_kv_write = { .name = "kv_write",
                               .math = "kpages[slot_n] = k_n, vpages[slot_n] = v_n",
                               .n_in = 5,
                               .n_out = 2,
                               .params_bytes = sizeof(lm_kv_write_p),
                               .alias = { 1, 2 },
                               .opaque = 16,
                               .pure_write = true,
                               .shape = shape,
                               .ref = ref,
                               .cost = cost,
                               .kernels = kernels,
                               .samples = samples };
