/* add_layernorm_simd.c — whole rows: 16 bytes per element, where add and layernorm apart move 20. */
#include "op/elementwise.h"
#include "op/layernorm/layernorm.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float eps = ((const lm_layernorm_p *)c->p)->eps, t, q; int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[2].data, *bias = lm_has(c, 3) ? c->in[3].data : NULL; float *mean = c->out[2].data, *rstd = c->out[3].data;
    LM_ROW_FOR(c, tile, r) {
        const float *a = lm_row(&c->in[0], r), *b = lm_row(&c->in[1], r); float *s = lm_row(&c->out[0], r), *y = lm_row(&c->out[1], r);
        LM_V_WALK(d, k, LM_ST(s + k, LM_LD(a + k) + LM_LD(b + k)));
        LM_V_SUM(t, d, k, LM_LD(s + k));
        float m = t / (float)d;
        LM_V_SUM(q, d, k, __extension__({ vn v = vn_first(LM_LD(s + k) - m, m_); v * v; }));
        float rs = 1.0f / sqrtf(q / (float)d + eps);
        if (bias) LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(s + k) - m) * rs * LM_LD(w + k) + LM_LD(bias + k)));
        else LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(s + k) - m) * rs * LM_LD(w + k)));
        mean[r] = m; rstd[r] = rs;
    }
    return LM_OK;
}
LM_ONE_KERNEL(add_layernorm, lm_accepts_rows, lm_row_tiles, run);
