/* layernorm_back_simd.c — statistics of rows where they are not given, columns of g and x, rows of s and y, columns of s: a phase each. */
#include "op/elementwise.h"
#include "op/layernorm_back/layernorm_back.h"
static bool makes(const lm_call *c) { return ((const lm_layernorm_back_p *)c->p)->outs & LM_NORM_BACK_Y; }
static size_t shared(const lm_call *c) { return makes(c) ? (size_t)lm_rows(&c->in[0]) * 8 : 0; }
static const float *means(const lm_call *c) { return makes(c) ? c->shared : c->in[3].data; }
static const float *rstds(const lm_call *c) { return makes(c) ? (const float *)c->shared + lm_rows(&c->in[0]) : c->in[4].data; }
static int64_t columns(const lm_call *c) { return lm_ceil_div(lm_cols(&c->in[0]), LM_COL_TILE); }
static int64_t columns_of_s(const lm_call *c) { return ((const lm_layernorm_back_p *)c->p)->outs & LM_NORM_BACK_DS ? columns(c) : 0; }
static int64_t stat_tiles(const lm_call *c) { return makes(c) ? lm_row_tiles(c) : 0; }
static lm_err stats(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const int64_t d = lm_cols(&c->in[0]), n = lm_rows(&c->in[0]); float *mean = c->shared, *rstd = mean + n, s, q;
    LM_ROW_FOR(c, tile, r) {
        const float *x = lm_row(&c->in[1], r);
        LM_V_SUM(s, d, k, LM_LD(x + k));
        const float m = s / (float)d;
        LM_V_SUM(q, d, k, __extension__({ vn v = vn_first(LM_LD(x + k) - m, m_); v * v; }));
        mean[r] = m; rstd[r] = 1.0f / sqrtf(q / (float)d + ((const lm_layernorm_back_p *)c->p)->eps);
    }
    return LM_OK;
}
static lm_err sums(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    const float *mean = means(c), *rstd = rstds(c); float *y = (float *)c->out[1].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc >> 1 & 1, k, for (r = 0; r < n; r++),
        (LM_LD(lm_row(&c->in[1], r) + j + k) - mean[r]) * rstd[r] * LM_LD(lm_row(&c->in[0], r) + j + k));
    if (!(((const lm_layernorm_back_p *)c->p)->outs & LM_NORM_BACK_DB)) return LM_OK;
    y = (float *)c->out[2].data + j;
    LM_COL_SUM(y, w, c->acc >> 2 & 1, k, for (r = 0; r < n; r++), LM_LD(lm_row(&c->in[0], r) + j + k));
    return LM_OK;
}
static lm_err rows(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float sg, sgh; const int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[2].data, *bias = lm_has(c, 6) ? c->in[6].data : NULL;
    LM_ROW_FOR(c, tile, r) {
        const float *dy = lm_row(&c->in[0], r), *x = lm_row(&c->in[1], r), *h = lm_has(c, 5) ? lm_row(&c->in[5], r) : NULL;
        float *s = lm_row(&c->out[0], r), *y = makes(c) ? lm_row(&c->out[4], r) : NULL; const float m = means(c)[r], rs = rstds(c)[r];
        LM_V_SUM(sg, d, k, LM_LD(dy + k) * LM_LD(w + k));
        LM_V_SUM(sgh, d, k, LM_LD(dy + k) * LM_LD(w + k) * ((LM_LD(x + k) - m) * rs));
        sg /= (float)d; sgh /= (float)d;
        LM_V_WALK(d, k, vn v = (LM_LD(dy + k) * LM_LD(w + k) - sg - (LM_LD(x + k) - m) * rs * sgh) * rs; if (h) v = LM_LD(h + k) + v; LM_ST(s + k, v));
        if (!y) continue;
        if (bias) LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(x + k) - m) * rs * LM_LD(w + k) + LM_LD(bias + k)));
        else LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(x + k) - m) * rs * LM_LD(w + k)));
    }
    return LM_OK;
}
static lm_err sum_s(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    float *y = (float *)c->out[3].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc >> 3 & 1, k, for (r = 0; r < n; r++), LM_LD(lm_row(&c->out[0], r) + j + k));
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_layernorm_back)[];
const lm_kernel LM_ISA_NAME(lm_k_layernorm_back)[] = {
    { .name = "layernorm_back.f32." LM_ISA_STR,
      .needs = LM_ISA_NEEDS,
      .order = LM_ORDER("layernorm_back"),
      .accepts = lm_accepts_rows,
      .shared_bytes = shared,
      .n_phase = 4,
      .phase = { { stat_tiles, stats }, { columns, sums }, { lm_row_tiles, rows }, { columns_of_s, sum_s } } },
    { 0 }
};
