/* attn_paged — o_n = sum over the visible positions x of sequence seq_n of softmax_x(scale * q_n·k_x) v_x (attn_paged.h; the paging is that of
 * Kwon et al. 2023, with keys interleaved by 16). */
#include <math.h>
#include <string.h>
#include "op/attn_paged/attn_paged.h"
#include "op/kv_write/kv_write.h"
#include "op/rule.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_attn_p *p = c->p;
    LM_TRY(lm_attn_check(ctx, "attn_paged", p));
    if (p->both) return lm_fail(ctx, LM_E_SHAPE, "attn_paged: attention both ways has no paged form");
    int64_t n = c->in[0].dim[0];
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 0, LM_DIMS(n, (int64_t)p->n_head * p->d_head)));
    for (int i = 1; i < 3; i++) {
        LM_TRY(lm_kv_want_pages(ctx, c, i, c->in[1].dim[0], p->n_kv, p->d_head));
    }
    LM_TRY(lm_want(ctx, c, 3, LM_I32, 2, 2));
    for (int i = 4; i < 6; i++) { LM_TRY(lm_want(ctx, c, i, LM_I32, 1, 1)); LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(n))); }
    if (lm_has(c, 6)) { LM_TRY(lm_want(ctx, c, 6, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 6, LM_DIMS(p->n_head))); }
    out[0] = lm_type_like(&c->in[0]);
    return LM_OK;
}

/* q as it meets keys in blocks: each 32 numbers rounded to scale times an integer, the scale (an f32) being their largest / 127. */
static void in_codes(const double *q, double *y, int64_t D) {
    for (int64_t b = 0; b < D; b += 32) {
        float top = 0;
        bool finite = true;
        for (int64_t i = b; i < b + 32; i++) { const float v = fabsf((float)q[i]); finite &= v < INFINITY; if (v > top) top = v; }
        const float scale = top > 0 ? 127.0f / top : 0;
        for (int64_t i = b; i < b + 32; i++) y[i] = finite ? (double)rintf((float)q[i] * scale) * (double)(top / 127.0f) : (double)NAN;
    }
}
static void ref(const lm_call *c) {
    const lm_attn_p *p = c->p;
    const int64_t N = c->in[0].dim[0], H = p->n_head, Hk = p->n_kv, D = p->d_head, per = c->in[3].dim[1];
    const double *q = lm_f64(&c->in[0]), *k = lm_f64(&c->in[1]), *v = lm_f64(&c->in[2]), *sinks = lm_has(c, 6) ? lm_f64(&c->in[6]) : NULL;
    const int32_t *table = c->in[3].data, *seq = c->in[4].data, *pos = c->in[5].data;
    double *o = lm_f64(&c->out[0]);
    const bool blocks = c->in[1].quant;
    for (int64_t n = 0; n < N; n++) for (int64_t h = 0; h < H; h++) {
        double *on = o + (n * H + h) * D, m = sinks ? sinks[h] : -INFINITY, l = 0, qc[LM_ATTN_MAX_D];
        const double *qn = q + (n * H + h) * D;
        for (int64_t d = 0; d < D; d++) on[d] = 0;
        if (pos[n] < 0) continue;
        if (blocks) { in_codes(qn, qc, D); qn = qc; }
        for (int pass = 0; pass < 2; pass++)
            for (int64_t x = lm_attn_first(0, pos[n], p->window); x <= pos[n]; x++) {
                const int64_t base = ((int64_t)table[seq[n] * per + x / LM_KV_PAGE] * Hk + h / (H / Hk)) * LM_KV_PAGE * D, t = x % LM_KV_PAGE;
                double s = 0;
                for (int64_t d = 0; d < D; d++) s += qn[d] * k[base + (blocks ? t * D + d : lm_kv_key_at(t, d, D))];
                s *= (double)p->scale;
                if (p->cap > 0) s = (double)p->cap * tanh(s / (double)p->cap);
                if (!pass) { if (s > m) m = s; continue; }
                l += exp(s - m);
                for (int64_t d = 0; d < D; d++) on[d] += exp(s - m) * v[base + t * D + d];
            }
        if (sinks) l += exp(sinks[h] - m);
        for (int64_t d = 0; d < D; d++) on[d] /= l;
    }
}

/* Without data, as if every row saw all its table has room for. */
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_attn_p *p = c->p;
    const int32_t *pos = c->in[5].data;
    double seen = 0;
    for (int64_t n = 0; n < c->in[0].dim[0]; n++) {
        int64_t x = pos ? pos[n] : c->in[3].dim[1] * LM_KV_PAGE - 1;
        if (x >= 0) seen += (double)(x + 1 - lm_attn_first(0, x, p->window));
    }
    *flops = 4 * seen * p->n_head * p->d_head;
    const double each = c->in[1].quant ? c->in[1].quant->bits / 8 : (double)lm_dtype_size((lm_dtype)c->in[1].dtype);
    *bytes = 2 * seen * p->n_kv * p->d_head * each + 8 * (double)lm_numel(&c->in[0]);
}

lm_value *lm_attn_paged(lm_graph *g, lm_value *q, lm_value *kpages, lm_value *vpages, lm_value *table, lm_value *seq, lm_value *pos,
                        const lm_attn_p *p) {
    return lm_emit(g, &lm_op_attn_paged, p, 6, (lm_value *[]){ q, kpages, vpages, table, seq, pos });
}

#define P(h, hk, d, w, sc, t) &(const lm_attn_p){ h, hk, d, w, sc, t, 0, false }
#define PC(h, hk, d, w, sc, t, cap) &(const lm_attn_p){ h, hk, d, w, sc, t, cap, false }
/* n rows, pages in the pool, sequences, pages per sequence */
#define IN(n, h, hk, d, pool, s, per, t) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, t, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, t, 0, 0, 0, 0 }, \
    { 2, { s, per }, LM_I32, LM_FILL_IDS, pool, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, s, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, (per) * LM_KV_PAGE, 0, 0 } }
#define BL(n, h, hk, d, pool, s, per, q) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, 0, 0, 0, q, LM_PANEL16 }, { 4, { pool, hk, LM_KV_PAGE, d }, 0, 0, 0, q, LM_PLAIN }, \
    { 2, { s, per }, LM_I32, LM_FILL_IDS, pool, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, s, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, (per) * LM_KV_PAGE, 0, 0 } }
#define BLS(n, h, hk, d, pool, s, per, q) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, 0, 0, 0, q, LM_PANEL16 }, { 4, { pool, hk, LM_KV_PAGE, d }, 0, 0, 0, q, LM_PLAIN }, \
    { 2, { s, per }, LM_I32, LM_FILL_IDS, pool, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, s, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, (per) * LM_KV_PAGE, 0, 0 }, { 1, { h }, 0, 0, 0, 0, 0 } }
#define SI(n, h, hk, d, pool, s, per, t) { { 2, { n, (h) * (d) }, 0, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, t, 0, 0, 0, 0 }, { 4, { pool, hk, LM_KV_PAGE, d }, t, 0, 0, 0, 0 }, \
    { 2, { s, per }, LM_I32, LM_FILL_IDS, pool, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, s, 0, 0 }, { 1, { n }, LM_I32, LM_FILL_IDS, (per) * LM_KV_PAGE, 0, 0 }, { 1, { h }, 0, 0, 0, 0, 0 } }
static const lm_sample samples[] = {
    { "one row", P(1, 1, 16, 0, 0.25f, LM_F32), IN(1, 1, 1, 16, 3, 1, 2, LM_F32), 1e-5, 0, -1 },
    { "rows of one sequence", P(4, 2, 64, 0, 0.125f, LM_F32), IN(33, 4, 2, 64, 7, 1, 4, LM_F32), 1e-5, 0, -1 },
    { "few rows of one sequence", P(4, 2, 64, 0, 0.125f, LM_F32), IN(9, 4, 2, 64, 7, 1, 4, LM_F32), 1e-5, 0, -1 },
    { "few rows of two sequences, f16 pages", P(6, 3, 32, 0, 0.125f, LM_F32), IN(11, 6, 3, 32, 7, 2, 4, LM_F16), 1e-5, 0, -1 },
    { "few rows of one sequence, bf16 pages, window", P(4, 2, 64, 70, 0.125f, LM_F32), IN(12, 4, 2, 64, 7, 1, 4, LM_BF16), 1e-5, 0, -1 },
    { "few rows of one sequence, bf16 pages and inputs", P(2, 1, 64, 0, 0.125f, LM_BF16), IN(8, 2, 1, 64, 5, 1, 3, LM_BF16), 2e-2, 6e-3, -1 },
    { "few rows of one sequence, d_head 48", P(4, 2, 48, 0, 0.125f, LM_F32), IN(9, 4, 2, 48, 7, 1, 4, LM_F32), 1e-5, 0, -1 },
    { "mixed sequences, d_head 24", P(3, 1, 24, 0, 0.2f, LM_F32), IN(21, 3, 1, 24, 9, 5, 3, LM_F32), 1e-5, 0, -1 },
    { "window", P(2, 2, 32, 70, 0.17f, LM_F32), IN(50, 2, 2, 32, 8, 2, 5, LM_F32), 1e-5, 0, -1 },
    { "cap", PC(4, 2, 32, 0, 0.6f, LM_F32, 2), IN(40, 4, 2, 32, 8, 2, 5, LM_F32), 1e-5, 0, -1 },
    { "cap, window, bf16 pages, d_head 24", PC(2, 1, 24, 70, 0.6f, LM_F32, 1.5f), IN(21, 2, 1, 24, 8, 2, 5, LM_BF16), 1e-5, 0, -1 },
    { "bf16 pages, d_head 80", P(4, 2, 80, 0, 0.11f, LM_F32), IN(9, 4, 2, 80, 5, 3, 3, LM_BF16), 1e-5, 0, -1 },
    { "f16 pages, d_head 80", P(4, 2, 80, 0, 0.11f, LM_F32), IN(9, 4, 2, 80, 5, 3, 3, LM_F16), 1e-5, 0, -1 },
    { "f16 pages, window", P(2, 2, 32, 70, 0.17f, LM_F32), IN(50, 2, 2, 32, 8, 2, 5, LM_F16), 1e-5, 0, -1 },
    { "one kv head, 32 query heads", P(32, 1, 128, 0, 0.0884f, LM_F32), IN(2, 32, 1, 128, 5, 2, 4, LM_F32), 1e-5, 0, -1 },
    { "bf16 inputs, d_head 256", P(2, 1, 256, 0, 0.0625f, LM_BF16), IN(5, 2, 1, 256, 4, 2, 3, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, d_head 64", P(8, 2, 64, 0, 0.125f, LM_BF16), IN(5, 8, 2, 64, 9, 3, 11, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, d_head 128, 16 query heads", P(16, 1, 128, 100, 0.0884f, LM_BF16), IN(4, 16, 1, 128, 5, 2, 4, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, a prompt", P(2, 1, 64, 0, 0.125f, LM_BF16), IN(190, 2, 1, 64, 5, 1, 3, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, a prompt, window", P(2, 2, 32, 70, 0.2f, LM_BF16), IN(140, 2, 2, 32, 7, 2, 4, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, many sequences", P(2, 1, 64, 0, 0.125f, LM_BF16), IN(90, 2, 1, 64, 9, 90, 2, LM_BF16), 2e-2, 6e-3, -1 },
    { "bf16 pages and inputs, many rows", P(1, 1, 128, 0, 0.0884f, LM_BF16), IN(530, 1, 1, 128, 4, 3, 2, LM_BF16), 3e-2, 6e-3, -1 },
    { "bf16 pages and inputs, many rows, window", P(4, 2, 64, 70, 0.125f, LM_BF16), IN(600, 4, 2, 64, 8, 2, 4, LM_BF16), 3e-2, 6e-3, -1 },
    { "bf16 pages and inputs, a long prompt", P(2, 1, 128, 0, 0.0884f, LM_BF16), IN(300, 2, 1, 128, 12, 1, 9, LM_BF16), 3e-2, 6e-3, -1 },
    { "Q8_0 pages, one row", P(1, 1, 32, 0, 0.18f, LM_F32), BL(1, 1, 1, 32, 3, 1, 2, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, few rows of one sequence", P(4, 2, 64, 0, 0.125f, LM_F32), BL(9, 4, 2, 64, 7, 1, 4, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, grouped heads, window", P(8, 2, 64, 70, 0.125f, LM_F32), BL(21, 8, 2, 64, 9, 5, 3, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, a prompt", P(4, 2, 64, 0, 0.125f, LM_F32), BL(130, 4, 2, 64, 7, 1, 4, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, d_head 96, cap", PC(3, 1, 96, 0, 0.3f, LM_F32, 2), BL(9, 3, 1, 96, 5, 3, 3, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, d_head 128, 16 query heads", P(16, 1, 128, 100, 0.0884f, LM_F32), BL(4, 16, 1, 128, 5, 2, 4, "Q8_0"), 1e-5, 0, -1 },
    { "Q8_0 pages, d_head 256, inputs rounded to bf16", P(2, 1, 256, 0, 0.0625f, LM_BF16), BL(5, 2, 1, 256, 4, 2, 3, "Q8_0"), 2e-2, 6e-3, -1 },
    { "Q4_0 pages, one row", P(1, 1, 32, 0, 0.18f, LM_F32), BL(1, 1, 1, 32, 3, 1, 2, "Q4_0"), 1e-5, 0, -1 },
    { "Q4_0 pages, grouped heads, window", P(8, 2, 64, 70, 0.125f, LM_F32), BL(21, 8, 2, 64, 9, 5, 3, "Q4_0"), 1e-5, 0, -1 },
    { "Q4_0 pages, a prompt, d_head 160", P(2, 1, 160, 0, 0.08f, LM_F32), BL(70, 2, 1, 160, 7, 1, 4, "Q4_0"), 1e-5, 0, -1 },
    { "sinks, rows of one sequence", P(4, 2, 64, 0, 0.125f, LM_F32), SI(33, 4, 2, 64, 7, 1, 4, LM_F32), 1e-5, 0, -1 },
    { "sinks, mixed sequences, window, d_head 24", P(3, 1, 24, 70, 0.2f, LM_F32), SI(21, 3, 1, 24, 9, 5, 3, LM_F32), 1e-5, 0, -1 },
    { "sinks, bf16 pages and inputs, 16 query heads", P(16, 2, 64, 0, 0.125f, LM_BF16), SI(5, 16, 2, 64, 9, 3, 11, LM_BF16), 2e-2, 6e-3, -1 },
    { "sinks, bf16 pages and inputs, a prompt, window", P(2, 1, 64, 128, 0.125f, LM_BF16), SI(190, 2, 1, 64, 5, 1, 3, LM_BF16), 2e-2, 6e-3, -1 },
    { "sinks, Q8_0 pages, grouped heads, window", P(8, 2, 64, 70, 0.125f, LM_F32), BLS(21, 8, 2, 64, 9, 5, 3, "Q8_0"), 1e-5, 0, -1 },
    { 0 } };

LM_SIMD_CUDA_KERNELS(lm_k_attn_paged);
const lm_op lm_op_attn_paged = { .name = "attn_paged",
                                 .math = "o_n = sum_x softmax_x(scale * <q_n, k_x>) v_x over the visible positions x of sequence seq_n, and the sink",
                                 .n_in = 6,
                                 .n_opt = 1,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_attn_p),
                                 .mm_at = 1 + offsetof(lm_attn_p, mm),
                                 .opaque = 8 | 16 | 32,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = lm_k_attn_paged,
                                 .samples = samples };
