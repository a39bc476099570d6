/* rmsnorm_back_simd.c — statistics of rows where they are not given, columns of g and x, rows of s and y, columns of s: a phase each. */
#include "op/elementwise.h"
#include "op/rmsnorm_back/rmsnorm_back.h"
static bool makes(const lm_call *c) { return ((const lm_rmsnorm_back_p *)c->p)->outs & LM_RMSNORM_BACK_Y; }
static size_t shared(const lm_call *c) { return makes(c) ? (size_t)lm_rows(&c->in[0]) * 4 : 0; }
static const float *rstds(const lm_call *c) { return makes(c) ? c->shared : c->in[3].data; }
static int64_t columns(const lm_call *c) { return lm_ceil_div(lm_cols(&c->in[0]), LM_COL_TILE); }
static int64_t columns_of_s(const lm_call *c) { return ((const lm_rmsnorm_back_p *)c->p)->outs & LM_RMSNORM_BACK_DS ? columns(c) : 0; }
static int64_t stat_tiles(const lm_call *c) { return makes(c) ? lm_row_tiles(c) : 0; }
static lm_err stats(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const int64_t d = lm_cols(&c->in[0]); float *rstd = c->shared, s;
    LM_ROW_FOR(c, tile, r) {
        const float *x = lm_row(&c->in[1], r);
        LM_V_SUM(s, d, k, __extension__({ vn v = LM_LD(x + k); v * v; }));
        rstd[r] = 1.0f / sqrtf(s / (float)d + ((const lm_rmsnorm_back_p *)c->p)->eps);
    }
    return LM_OK;
}
static lm_err sums(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    const float *rstd = rstds(c); float *y = (float *)c->out[1].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc >> 1 & 1, k, for (r = 0; r < n; r++),
        LM_LD(lm_row(&c->in[1], r) + j + k) * rstd[r] * LM_LD(lm_row(&c->in[0], r) + j + k));
    return LM_OK;
}
static lm_err rows(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float dot; const int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[2].data, offset = ((const lm_rmsnorm_back_p *)c->p)->offset;
    LM_ROW_FOR(c, tile, r) {
        const float *dy = lm_row(&c->in[0], r), *x = lm_row(&c->in[1], r), *h = lm_has(c, 4) ? lm_row(&c->in[4], r) : NULL;
        float *s = lm_row(&c->out[0], r), *y = makes(c) ? lm_row(&c->out[4], r) : NULL; const float rs = rstds(c)[r];
        LM_V_SUM(dot, d, k, LM_LD(dy + k) * (LM_LD(w + k) + offset) * (LM_LD(x + k) * rs));
        dot /= (float)d;
        LM_V_WALK(d, k, vn v = LM_LD(dy + k) * (LM_LD(w + k) + offset) - LM_LD(x + k) * rs * dot;
                  v *= rs; if (h) v = LM_LD(h + k) + v; LM_ST(s + k, v));
        if (y) LM_V_WALK(d, k, LM_ST(y + k, LM_LD(x + k) * rs * (LM_LD(w + k) + offset)));
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
extern const lm_kernel LM_ISA_NAME(lm_k_rmsnorm_back)[];
const lm_kernel LM_ISA_NAME(lm_k_rmsnorm_back)[] = {
    { .name = "rmsnorm_back.f32." LM_ISA_STR,
      .needs = LM_ISA_NEEDS,
      .order = LM_ORDER("rmsnorm_back"),
      .accepts = lm_accepts_rows,
      .shared_bytes = shared,
      .n_phase = 4,
      .phase = { { stat_tiles, stats }, { columns, sums }, { lm_row_tiles, rows }, { columns_of_s, sum_s } } },
    { 0 }
};
