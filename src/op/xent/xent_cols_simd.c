/* xent_cols_simd.c — statistics and dz of logits whose rows lie side by side, and the kernels of xent for plain weights: no logits are
 * kept, a block of them exists per thread. */
#include "op/xent/xent_vec.h"
#include "op/lanes.h"
#include "op/xent/xent_cols.h"

/* A block of n <= LM_XENT_BLOCK logits of W rows: maximum, sum exp(z - max), plain sum if wanted. Register v % 16 adds in order, registers
 * are added by halves, as the lanes of xent_simd.c. */
INL void halves(vec *s) {
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) s[i] += s[i + h];
}
static void stats(const float *z, int64_t zs, int64_t n, float *top_, float *sum_, float *mean_) {
    vec top = all(-INFINITY), s[16];
    for (int64_t v = 0; v < n; v++) { const vec x = LD(z + v * zs); top = sel(x > top, x, top); }
    const vec base = sel((top == all(-INFINITY)) | (top == all(INFINITY)), all(0.0f), top);
    for (int i = 0; i < 16; i++) s[i] = all(0.0f);
    int64_t v = 0;
    for (; v + 16 <= n; v += 16)
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) s[i] += exp_neg(LD(z + (v + i) * zs) - base);
    for (int i = 0; v < n; v++, i++) s[i] += exp_neg(LD(z + v * zs) - base);
    halves(s);
    ST(top_, top); ST(sum_, s[0]);
    if (!mean_) return;
    for (int i = 0; i < 16; i++) s[i] = all(0.0f);
    for (v = 0; v < n; v++) s[v % 16] += LD(z + v * zs);
    halves(s);
    ST(mean_, s[0]);
}
void LM_ISA_NAME(lm_xent_cols_logits)(const lm_xent_cols *t, int64_t item, float *scratch) {
    const int64_t b = item / t->n_g, v0 = b * LM_XENT_BLOCK, n = lm_min64(LM_XENT_BLOCK, t->V - v0), r0 = item % t->n_g * t->nr,
                  rows = lm_min64(t->nr, t->Np - r0);
    const int64_t zs = t->z ? t->zs : rows + 16;
    float *z = t->z ? t->z + v0 * zs + r0 : scratch, *part[3] = { t->top, t->sum, t->mean };
    const lm_gemm g = lm_xent_cols_gemm(t, v0, n, r0, rows, z, zs);
    LM_ISA_NAME(lm_gemm_f32_tile)(&g, 0, t->z ? scratch : scratch + LM_XENT_BLOCK * (LM_XENT_COLS_N + 16));
    if (t->p->cap > 0)
        for (int64_t v = 0; v < n; v++) for (int64_t r = 0; r < rows; r += VN) vn_store(z + v * zs + r, vn_softcap(vn_load(z + v * zs + r), t->p->cap));
    for (int i = 0; i < 3; i++) part[i] += b * t->Np + r0;
    for (int64_t r = 0; r < rows; r += W) stats(z + r, zs, n, part[0] + r, part[1] + r, t->p->label_smoothing != 0 ? part[2] + r : NULL);
    for (int64_t r = 0; r < rows && t->p->label_smoothing == 0; r++) part[2][r] = 0;
    const int32_t *target = (const int32_t *)t->c->in[2].data + t->row0;
    for (int64_t r = r0; r < lm_min64(r0 + rows, t->N); r++) if (target[r] >= v0 && target[r] < v0 + n) t->zt[r] = z[(target[r] - v0) * zs + r - r0];
}
void LM_ISA_NAME(lm_xent_cols_grad)(const lm_xent_cols *t, int64_t v0, int64_t n) {
    const vec zero = all(0.0f);
    const int32_t *target = (const int32_t *)t->c->in[2].data + t->row0;
    const double ls = t->p->label_smoothing;
    const float cap = t->p->cap;
    float *z = t->z + v0 * t->zs;
    for (int64_t v = 0; v < n; v++)
        for (int64_t r = 0; r < t->Np; r += W) {
            float *q = z + v * t->zs + r;
            vec x = LD(q) - LD(t->lse + r);
            x = sel(x > zero, zero, x);
            vec dz = exp_neg(x) * LD(t->slope + r) - LD(t->less + r);
            if (cap > 0) { const vec y = LD(q) * all(1.0f / cap); dz *= 1.0f - y * y; }
            ST(q, sel((veci)LD((const float *)t->live + r), dz, zero));
        }
    for (int64_t r = 0; r < t->N; r++)
        if (target[r] >= v0 && target[r] < v0 + n) {
            const float y = cap > 0 ? t->zt[r] / cap : 0;
            z[(target[r] - v0) * t->zs + r] -=
                (float)((lm_has(t->c, 3) ? ((const float *)t->c->in[3].data)[t->row0 + r] : 1.0f) * (1 - ls)) * (1.0f - y * y);
        }
}

/* ---- kernels ------------------------------------------------------------------------------------------------------------------------ */
static lm_xent_cols all_rows(const lm_call *c) { return lm_xent_cols_of(c, 0, c->in[0].dim[0], false, NULL); }
static size_t shared(const lm_call *c) { size_t n; lm_xent_cols_of(c, 0, c->in[0].dim[0], false, &n); return n; }
static size_t bytes(const lm_call *c) { const lm_xent_cols t = all_rows(c); return lm_xent_cols_scratch(&t); }
static int64_t x_tiles(const lm_call *c) { const lm_xent_cols t = all_rows(c); return lm_xent_cols_packs(&t); }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) {
    (void)scratch;
    const lm_xent_cols t = all_rows(c);
    lm_xent_cols_pack(&t, i);
    return LM_OK;
}
static int64_t z_tiles(const lm_call *c) { const lm_xent_cols t = all_rows(c); return lm_xent_cols_items(&t); }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_cols t = all_rows(c);
    LM_ISA_NAME(lm_xent_cols_logits)(&t, i, scratch);
    return LM_OK;
}
static int64_t row_tiles(const lm_call *c) { const lm_xent_cols t = all_rows(c); return t.Np / 16; }
static lm_err row_run(const lm_call *c, int64_t i, void *scratch) {
    (void)scratch;
    const lm_xent_cols t = all_rows(c);
    return lm_xent_cols_end(&t, i);
}
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define ORDER "fma.k"
#else
#define ORDER "mad.k"
#endif
#define ROW(mm, order_, accepts_) { .name = "xent." mm "." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = order_, .accepts = accepts_, .shared_bytes = shared, \
    .thread_bytes = bytes, .n_phase = 3, .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { row_tiles, row_run } } }
const lm_kernel LM_ISA_NAME(lm_k_xent)[] = { ROW("f32", ORDER, lm_xent_cols_f32), ROW("bf16", "bf16." ORDER, lm_xent_cols_bf16), { 0 } };
