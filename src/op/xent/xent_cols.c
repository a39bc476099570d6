/* xent_cols.c — where the parts of a chunk lie, packing of x, and the end of a row. */
#include "op/xent/xent_cols.h"
#include <string.h>

static bool plain(const lm_call *c) { return c->in[1].layout == LM_PLAIN && c->in[1].dtype != LM_QUANT; }
bool lm_xent_cols_f32(const lm_call *c) { return plain(c) && lm_xent_accepts_f32(c); }
bool lm_xent_cols_bf16(const lm_call *c) { return plain(c) && lm_xent_accepts_bf16(c); }
int64_t lm_xent_cols_rows(const lm_call *c) {
    const lm_xent_p *p = c->p;
    const int64_t fit = LM_XENT_COLS_BYTES / 4 / lm_round_up(c->in[1].dim[0], LM_XENT_BLOCK) / 48 * 48;
    return p->chunk > 0 ? lm_min64(p->chunk, LM_XENT_COLS_N) : lm_max64(48, lm_min64(fit, LM_XENT_COLS_N));
}

/* Without memory (base NULL) only sizes are added up. */
typedef struct { char *base; int64_t used; } room;
static void *take(room *r, int64_t n, size_t size) {
    char *p = r->base ? r->base + r->used : NULL;
    r->used += lm_round_up(n * (int64_t)size, 64);
    return p;
}
lm_xent_cols lm_xent_cols_of(const lm_call *c, int64_t row0, int64_t rows, bool step, size_t *bytes) {
    lm_xent_cols t = { .c = c, .p = c->p, .row0 = row0, .N = rows, .Np = lm_round_up(rows, 16), .step = step, .V = c->in[1].dim[0], .d = c->in[0].dim[1] };
    room at = { .base = c->shared };
    t.n_b = lm_ceil_div(t.V, LM_XENT_BLOCK); t.nr = t.V >= 16 * LM_XENT_BLOCK ? LM_XENT_COLS_N : LM_XENT_COLS_FEW;
    t.n_g = lm_ceil_div(t.Np, t.nr);
    t.zs = t.Np + 16;                                        /* not a power of two */
    t.x = take(&at, t.Np * t.d, 4);
    t.top = take(&at, t.n_b * t.Np, 4); t.sum = take(&at, t.n_b * t.Np, 4); t.mean = take(&at, t.n_b * t.Np, 4);
    t.zt = take(&at, t.Np, 4);
    t.lse = take(&at, t.Np, 4); t.slope = take(&at, t.Np, 4); t.less = take(&at, t.Np, 4); t.live = take(&at, t.Np, 4);
    if (step) { t.xt = take(&at, lm_round_up(t.d, 16) * t.N, 4); t.z = take(&at, t.V * t.zs + 16 * LM_XENT_COLS_N, 4); }
    if (bytes) *bytes = (size_t)at.used;
    return t;
}

/* ---- x --------------------------------------------------------------------------------------------------------------------------- */
static float at(const lm_mat *m, int64_t o, int64_t k) {
    return m->dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)m->p)[o * m->os + k]) : ((const float *)m->p)[o * m->os + k];
}
int64_t lm_xent_cols_packs(const lm_xent_cols *t) { return t->Np / 16; }
void lm_xent_cols_pack(const lm_xent_cols *t, int64_t i) {
    const lm_mat m = lm_mat_of(&t->c->in[0], true);
    float *x = t->x + i * 16 * t->d;
    for (int64_t r = 0; r < 16; r++) {
        const bool there = i * 16 + r < t->N;
        for (int64_t k = 0; k < t->d; k++) x[k * 16 + r] = there ? at(&m, t->row0 + i * 16 + r, k) : 0;
    }
    for (int64_t r = i * 16; t->xt && r < lm_min64(i * 16 + 16, t->N); r++)
        for (int64_t k = 0; k < lm_round_up(t->d, 16); k += 16)
            for (int64_t j = 0; j < 16; j++) t->xt[(k / 16 * t->N + r) * 16 + j] = k + j < t->d ? at(&m, t->row0 + r, k + j) : 0;
}

/* ---- items ------------------------------------------------------------------------------------------------------------------------ */
int64_t lm_xent_cols_items(const lm_xent_cols *t) { return t->n_b * t->n_g; }
lm_gemm lm_xent_cols_gemm(const lm_xent_cols *t, int64_t v0, int64_t cols, int64_t r0, int64_t rows, float *z, int64_t zs) {
    lm_gemm g = { .batch = 1,
                  .M = cols,
                  .N = rows,
                  .K = t->d,
                  .a = lm_mat_of(&t->c->in[1], true),
                  .b = { .p = t->x ? t->x + r0 * t->d : NULL, .dtype = LM_F32, .layout = LM_PANEL16, .row = true, .cols = t->d },
                  .c = z,
                  .c_rs = zs,
                  .round = t->p->mm == LM_BF16,
                  .mb = cols,
                  .nbp = LM_GEMM_NBP };
    if (g.a.p) g.a.p = (const char *)g.a.p + (size_t)(v0 * g.a.os) * lm_dtype_size(g.a.dtype);
    return g;
}
size_t lm_xent_cols_scratch(const lm_xent_cols *t) {
    const lm_gemm g = lm_xent_cols_gemm(t, 0, LM_XENT_BLOCK, 0, LM_XENT_COLS_N, NULL, 0);
    return lm_gemm_f32_scratch(&g) + (t->step ? 0 : LM_XENT_BLOCK * (LM_XENT_COLS_N + 16) * 4);
}
lm_err lm_xent_cols_end(const lm_xent_cols *t, int64_t i) {
    const lm_call *c = t->c;
    lm_err err = LM_OK;
    for (int64_t r = i * 16; r < i * 16 + 16; r++) {
        const int64_t row = t->row0 + r;
        t->live[r] = 0; t->lse[r] = t->slope[r] = t->less[r] = 0;
        if (r >= t->N) continue;
        lm_xent_sum s = LM_XENT_SUM;
        double mean = 0;
        for (int64_t b = 0; b < t->n_b; b++) {
            lm_xent_add(&s, (lm_xent_stat){ t->top[b * t->Np + r], t->sum[b * t->Np + r] });
            mean += (double)t->mean[b * t->Np + r];
        }
        const float lse = lm_xent_end(&s), w = lm_has(c, 3) ? ((const float *)c->in[3].data)[row] : 1.0f;
        const int32_t v = ((const int32_t *)c->in[2].data)[row];
        ((float *)c->out[1].data)[row] = lse;
        ((float *)c->out[0].data)[row] = v < 0 ? 0.0f : v >= t->V ? NAN : lm_xent_loss(t->p, w, lse, t->zt[r], mean / (double)t->V);
        if (v >= t->V) err = LM_E_RANGE;
        if (v < 0 || v >= t->V) continue;
        t->live[r] = -1;
        t->lse[r] = lse;
        t->slope[r] = lm_xent_slope(t->p, w, lse);
        t->less[r] = (float)((double)w * (double)t->p->label_smoothing / (double)t->V);
    }
    return err;
}
