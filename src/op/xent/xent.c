/* xent.c — chunks of rows, the loss of a row, the truth in double, and the row of the op. */
#include "op/xent/xent_core.h"
#include "op/xent_step/xent_step.h"
#include "op/rule.h"
#include "device/cpu.h"
#include <math.h>
#include <string.h>

/* ---- chunks ------------------------------------------------------------------------------------------------------------------ */
int64_t lm_xent_stride(const lm_call *c) { return lm_round_up(c->in[1].dim[0], 16) + 16; }
int64_t lm_xent_rows(const lm_call *c) {
    const lm_xent_p *p = c->p;
    const int64_t fit = LM_XENT_CHUNK_BYTES / 4 / lm_xent_stride(c) / 32 * 32;
    return p->chunk > 0 ? p->chunk : lm_max64(32, fit);
}
int64_t lm_xent_repeat(const lm_call *c) { return lm_max64(1, lm_ceil_div(c->in[0].dim[0], lm_xent_rows(c))); }
int64_t lm_xent_chunk(const lm_call *c, int64_t *row0) {
    const int64_t rows = lm_xent_rows(c);
    *row0 = c->iter * rows;
    return lm_max64(0, lm_min64(rows, c->in[0].dim[0] - *row0));
}
size_t lm_xent_shared(const lm_call *c) { return (size_t)(lm_min64(lm_xent_rows(c), c->in[0].dim[0]) * lm_xent_stride(c)) * 4; }

lm_gemm lm_xent_logits(const lm_call *c) {
    const lm_xent_p *p = c->p;
    int64_t row0, rows = lm_xent_chunk(c, &row0);
    lm_gemm g = { .batch = 1, .M = rows, .N = c->in[1].dim[0], .K = c->in[0].dim[1], .a = lm_mat_of(&c->in[0], true), .b = lm_mat_of(&c->in[1], true),
                  .c = c->shared, .c_rs = lm_xent_stride(c), .round = p->mm == LM_BF16 };
    if (g.a.p) g.a.p = (const char *)g.a.p + (size_t)(row0 * g.a.os) * lm_dtype_size(g.a.dtype);
    return g;
}

/* ---- what is accepted --------------------------------------------------------------------------------------------------------- */
static bool accepts(const lm_call *c) {
    const lm_tensor *x = &c->in[0], *w = &c->in[1];
    for (int i = 0; i < c->n_out; i++) if (c->out[i].dtype != LM_F32 || c->out[i].layout != LM_PLAIN || !lm_rows_fold(&c->out[i])) return false;
    for (int i = 2; i < c->n_in; i++) if (lm_has(c, i) && (c->in[i].layout != LM_PLAIN || !lm_is_contig(&c->in[i]))) return false;
    if (lm_has(c, 3) && c->in[3].dtype != LM_F32) return false;
    if ((x->dtype != LM_F32 && x->dtype != LM_BF16) || x->layout != LM_PLAIN || !lm_rows_fold(x)) return false;
    if (w->dtype == LM_QUANT)
        return c->n_out == 2 && w->layout == LM_PLAIN && w->quant && lm_cols(w) % w->quant->block == 0 && w->quant->block <= LM_GEMM_KC;
    if (w->layout != LM_PLAIN) return w->layout == (w->dtype == LM_F32 ? LM_PANEL16 : LM_PANEL16X2);
    return (w->dtype == LM_F32 || w->dtype == LM_BF16) && lm_rows_fold(w);
}
bool lm_xent_accepts_f32(const lm_call *c) { return ((const lm_xent_p *)c->p)->mm == LM_F32 && accepts(c); }
bool lm_xent_accepts_bf16(const lm_call *c) { return ((const lm_xent_p *)c->p)->mm == LM_BF16 && accepts(c); }

/* ---- one row ------------------------------------------------------------------------------------------------------------------ */
/* Blocks hold sums relative to their own maximum; one of nothing but -inf has sum 0 (or NaN), one with +inf makes the row +inf. */
void lm_xent_add(lm_xent_sum *t, lm_xent_stat b) {
    if (t->max == INFINITY) return;
    if (b.max == INFINITY) *t = (lm_xent_sum){ INFINITY, 1 };
    else if (b.max == -INFINITY) t->sum += b.sum;
    else if (b.max > t->max) { t->sum = (t->max == -INFINITY ? t->sum : t->sum * exp(t->max - b.max)) + b.sum; t->max = b.max; }
    else t->sum += b.sum * exp(b.max - t->max);
}
float lm_xent_end(const lm_xent_sum *t) {
    if (t->max == -INFINITY) return t->sum != t->sum ? NAN : -INFINITY;
    return (float)(t->max + log(t->sum));
}
float lm_xent_lse(const lm_xent_vec *f, float *z, int64_t V) {
    lm_xent_sum t = LM_XENT_SUM;
    for (int64_t v = 0; v < V; v += LM_XENT_BLOCK) {
        lm_xent_stat b;
        f->block(z + v, 16, lm_min64(LM_XENT_BLOCK, V - v), false, &b);
        lm_xent_add(&t, b);
    }
    return lm_xent_end(&t);
}
float lm_xent_loss(const lm_xent_p *p, float weight, float lse, float zt, double mean) {
    const double ls = p->label_smoothing;
    double l = (1 - ls) * ((double)lse - zt) + (double)p->z_loss * lse * lse;
    if (ls != 0) l += ls * (lse - mean);
    return (float)(weight * l);
}
lm_err lm_xent_row(const lm_call *c, const lm_xent_vec *f, int64_t row, float *z, bool grad) {
    const lm_xent_p *p = c->p;
    const int64_t V = c->in[1].dim[0];
    const int32_t t = ((const int32_t *)c->in[2].data)[row];
    if (p->cap > 0) f->cap(z, V, p->cap);
    const float w = lm_has(c, 3) ? ((const float *)c->in[3].data)[row] : 1.0f, lse = lm_xent_lse(f, z, V);
    const double ls = p->label_smoothing;
    float *loss = (float *)c->out[0].data + row;
    double mean = 0;
    ((float *)c->out[1].data)[row] = lse;
    if (t < 0 || t >= V) {
        *loss = t < 0 ? 0.0f : NAN;
        if (grad) memset(z, 0, (size_t)V * 4);
        return t < 0 ? LM_OK : LM_E_RANGE;
    }
    for (int64_t v = 0; ls != 0 && v < V; v += LM_XENT_BLOCK) mean += f->sum(z + v, 16, lm_min64(LM_XENT_BLOCK, V - v));
    *loss = lm_xent_loss(p, w, lse, z[t], mean / (double)V);
    if (grad) {
        const float y = p->cap > 0 ? z[t] / p->cap : 0;
        f->grad(z, V, lse, lm_xent_slope(p, w, lse), (float)(w * ls / (double)V), p->cap);
        z[t] -= (float)(w * (1 - ls)) * (1.0f - y * y);
    }
    return LM_OK;
}
float lm_xent_slope(const lm_xent_p *p, float weight, float lse) { return (float)(weight * (1 + 2 * (double)p->z_loss * lse)); }
float lm_row_lse(const float *logits, int64_t V) {
    const uint64_t have = lm_cpu_features();
    /* not written */
    return lm_xent_lse(have & LM_CPU_AVX512 ? &lm_xent_vec_avx512
                       : have & LM_CPU_AVX2 ? &lm_xent_vec_avx2
                                            : &lm_xent_vec_portable,
                       (float *)(uintptr_t)logits, V);
}

/* ---- truth -------------------------------------------------------------------------------------------------------------------- */
void lm_xent_ref(const lm_call *c, double *loss, double *lse, double *dx, double *dw) {
    const lm_xent_p *p = c->p;
    const int64_t N = c->in[0].dim[0], d = c->in[0].dim[1], V = c->in[1].dim[0];
    const double *x = lm_f64(&c->in[0]), *w = lm_f64(&c->in[1]), *wt = lm_has(c, 3) ? lm_f64(&c->in[3]) : NULL, ls = p->label_smoothing,
                 zl = p->z_loss;
    const int32_t *target = c->in[2].data;
    const double cap = p->cap;
    #define DOT_(i, v, t) double t = 0; for (int64_t k_ = 0; k_ < d; k_++) t += x[(i) * d + k_] * w[(v) * d + k_]; if (cap > 0) t = cap * tanh(t / cap)
    for (int64_t i = 0; i < N; i++) {
        double m = -INFINITY, s = 0, mean = 0, zt = 0;
        for (int64_t v = 0; v < V; v++) { DOT_(i, v, z); m = z > m ? z : m; mean += z / (double)V; if (v == target[i]) zt = z; }
        for (int64_t v = 0; v < V; v++) { DOT_(i, v, z); s += exp(z - m); }
        const double L = m + log(s), wi = target[i] < 0 ? 0 : wt ? wt[i] : 1;
        lse[i] = L;
        loss[i] = wi * ((1 - ls) * (L - zt) + ls * (L - mean) + zl * L * L);
        if (!dx) continue;
        for (int64_t k = 0; k < d; k++) dx[i * d + k] = 0;
        for (int64_t v = 0; v < V; v++) {
            DOT_(i, v, z);
            double g = wi * (exp(z - L) * (1 + 2 * zl * L) - (v == target[i] ? 1 - ls : 0) - ls / (double)V);
            if (cap > 0) g *= 1 - z / cap * (z / cap);
            for (int64_t k = 0; k < d; k++) { dx[i * d + k] += g * w[v * d + k]; dw[v * d + k] += g * x[i * d + k]; }
        }
    }
    #undef DOT_
}
lm_err lm_xent_shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_xent_p *p = c->p;
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    if (c->in[1].dtype != LM_QUANT) LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[1].dim[0], c->in[0].dim[1])));
    LM_TRY(lm_want(ctx, c, 2, LM_I32, 1, 1));
    LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(c->in[0].dim[0])));
    if (lm_has(c, 3)) { LM_TRY(lm_want(ctx, c, 3, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 3, LM_DIMS(c->in[0].dim[0]))); }
    if (c->in[1].dim[0] < 1) return lm_fail(ctx, LM_E_SHAPE, "%s: input 1: a vocabulary of none", c->op->name);
    if (!(p->label_smoothing >= 0 && p->label_smoothing <= 1))
        return lm_fail(ctx, LM_E_RANGE, "%s: label_smoothing: got %g, wanted 0 to 1", c->op->name, p->label_smoothing);
    if (!(p->z_loss >= 0)) return lm_fail(ctx, LM_E_RANGE, "%s: z_loss: got %g, wanted >= 0", c->op->name, p->z_loss);
    if (!(p->cap >= 0) || isinf(p->cap)) return lm_fail(ctx, LM_E_RANGE, "%s: cap: got %g, wanted 0 (none) or more", c->op->name, (double)p->cap);
    if (p->chunk < 0) return lm_fail(ctx, LM_E_RANGE, "%s: chunk: got %d, wanted >= 0", c->op->name, p->chunk);
    out[0] = out[1] = LM_TYPE(LM_F32, c->in[0].dim[0]);
    return LM_OK;
}

/* ---- the row ------------------------------------------------------------------------------------------------------------------- */
static void ref(const lm_call *c) { lm_xent_ref(c, lm_f64(&c->out[0]), lm_f64(&c->out[1]), NULL, NULL); }
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 2.0 * (double)c->in[0].dim[0] * (double)c->in[1].dim[0] * (double)c->in[0].dim[1];
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const bool ones = lm_is_ones(d->gout[0]) && !d->gout[1];
    lm_value *loss = lm_xent_step_of(g, d->p, d->n_in, d->in, ones);
    if (!loss) return LM_OK;                                     /* the graph keeps the sentence */
    lm_replace(g, d->out[0], loss);
    lm_replace(g, d->out[1], lm_output(loss, 1));
    if (d->want[0]) d->gin[0] = lm_output(loss, 2);
    if (d->want[1]) d->gin[1] = lm_output(loss, 3);
    return LM_OK;
}
lm_value *lm_xent(lm_graph *g, lm_value *x, lm_value *w, lm_value *target, lm_value *weight, float label_smoothing, float z_loss) {
    return lm_xent_capped(g, x, w, target, weight, label_smoothing, z_loss, 0);
}
lm_value *lm_xent_capped(lm_graph *g, lm_value *x, lm_value *w, lm_value *target, lm_value *weight, float label_smoothing, float z_loss, float cap) {
    const lm_xent_p p = { .label_smoothing = label_smoothing, .z_loss = z_loss, .cap = cap };
    return lm_emit(g, &lm_op_xent, &p, weight ? 4 : 3, (lm_value *[]){ x, w, target, weight });
}

extern const lm_kernel lm_k_xent_amx[], lm_k_xent_dp[], lm_k_xent_avx512[], lm_k_xent_avx2[], lm_k_xent_portable[], lm_k_xent_rows_avx512[],
    lm_k_xent_rows_avx2[], lm_k_xent_rows_portable[];
LM_CUDA_DECLARE(lm_k_xent);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_xent) lm_k_xent_amx,
                                            lm_k_xent_dp,
                                            lm_k_xent_avx512,
                                            lm_k_xent_rows_avx512,
                                            lm_k_xent_avx2,
                                            lm_k_xent_rows_avx2,
                                            lm_k_xent_portable,
                                            lm_k_xent_rows_portable,
                                            NULL };

#define P(...) &(const lm_xent_p){ __VA_ARGS__ }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define IDS(n, v) { .rank = 1, .dim = { n }, .dtype = LM_I32, .fill = LM_FILL_IDS, .arg = v }
#define WT(n) { .rank = 1, .dim = { n }, .fill = LM_FILL_POSITIVE }
static const lm_sample samples[] = {
    { "1x1x1", P(0), { T2(1, 1), T2(1, 1), IDS(1, 1) }, .tol = 2e-6 },
    { "5 rows of 33", P(0), { T2(5, 7), T2(33, 7), IDS(5, 33) }, .tol = 2e-6 },
    { "no rows", P(0), { T2(0, 7), T2(33, 7), IDS(0, 33) }, .tol = 2e-6 },
    { "weights, smoothing, z loss",
      P(.label_smoothing = 0.1f, .z_loss = 1e-2f),
      { T2(9, 16), T2(100, 16), IDS(9, 100), WT(9) },
      .tol = 3e-6 },
    { "chunks", P(.z_loss = 1e-3f, .chunk = 8), { T2(19, 24), T2(1500, 24), IDS(19, 1500) }, .tol = 3e-6 },
    { "cap", P(.cap = 1.5f), { T2(5, 7), T2(33, 7), IDS(5, 33) }, .tol = 2e-6 },
    { "cap, smoothing, panels", P(.label_smoothing = 0.1f, .cap = 2), { T2(5, 24), { .rank = 2, .dim = { 70, 24 }, .layout = LM_PANEL16 }, IDS(5, 70) }, .tol = 3e-6 },
    { "cap, bf16", P(.mm = LM_BF16, .cap = 3), { T2(37, 40), T2(130, 40), IDS(37, 130) }, .tol = 2e-2, .tol_norm = 5e-3 },
    { "bf16", P(.mm = LM_BF16), { T2(37, 40), T2(130, 40), IDS(37, 130) }, .tol = 2e-2, .tol_norm = 5e-3 },
    { "panels", P(0), { T2(5, 24), { .rank = 2, .dim = { 70, 24 }, .layout = LM_PANEL16 }, IDS(5, 70) }, .tol = 2e-6 },
    { "bf16 panels",
      P(.mm = LM_BF16),
      { T2(5, 24), { .rank = 2, .dim = { 70, 24 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 }, IDS(5, 70) },
      .tol = 2e-2,
      .tol_norm = 5e-3 },
    { NULL }
};
const lm_op lm_op_xent = {
    .name = "xent",
    .math = "loss = weight * (logsumexp(x W^T) - (x W^T)[target]), smoothed; lse",
    .n_in = 3,
    .n_opt = 1,
    .n_out = 2,
    .params_bytes = sizeof(lm_xent_p),
    .opaque = 1u << 2 | 1u << 3,
    .mm_at = 1 + (int16_t)offsetof(lm_xent_p, mm),
    .shape = lm_xent_shape,
    .ref = ref,
    .grad = grad,
    .cost = cost,
    .kernels = kernels,
    .samples = samples,
};
