/* gelu_back_simd.c — rows of dx and y, then columns of dx. Expressions as in gelu_simd.c and gelu_grad_simd.c. */
#include "op/elementwise.h"
#include "op/gelu_back/gelu_back.h"
static inline void both(vn x, bool tanh_form, vn *y, vn *slope) {
    if (tanh_form) {
        vn z = x * x, s = vn_sigmoid(x * (z * 0.0713548162726f + 1.59576912161f));
        *y = x / (1.0f + vn_exp(x * (z * -0.0713548162726f - 1.59576912161f)));
        *slope = s + s * (1.0f - s) * x * (z * 0.2140644488178f + 1.59576912161f);
    } else {
        vn e, q = vn_ncdf(x, &e);
        *y = x * q;
        *slope = q + x * e * 0.398942280401432678f;
    }
}
static lm_err rows(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const lm_gelu_back_p *p = c->p; const int64_t d = lm_cols(&c->in[0]);
    LM_ROW_FOR(c, tile, r) {
        const float *g = lm_row(&c->in[0], r), *x = lm_row(&c->in[1], r);
        float *s = lm_row(&c->out[0], r), *y = p->outs & LM_GELU_BACK_Y ? lm_row(&c->out[2], r) : NULL;
        LM_V_WALK(d, k, vn v; vn w; both(LM_LD(x + k), p->tanh, &v, &w); LM_ST(s + k, LM_LD(g + k) * w); if (y) LM_ST(y + k, v));
    }
    return LM_OK;
}
static int64_t columns(const lm_call *c) {
    return ((const lm_gelu_back_p *)c->p)->outs & LM_GELU_BACK_DB ? lm_ceil_div(lm_cols(&c->in[0]), LM_COL_TILE) : 0;
}
static lm_err sums(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    float *y = (float *)c->out[1].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc >> 1 & 1, k, for (r = 0; r < n; r++), LM_LD(lm_row(&c->out[0], r) + j + k));
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_gelu_back)[];
const lm_kernel LM_ISA_NAME(lm_k_gelu_back)[] = {
    { .name = "gelu_back.f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = LM_ORDER("gelu_back"), .accepts = lm_accepts_rows, .n_phase = 2,
      .phase = { { lm_row_tiles, rows }, { columns, sums } } }, { 0 } };
