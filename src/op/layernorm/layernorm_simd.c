/* layernorm_simd.c — whole rows, three passes over a row in cache: memory bound, 8 bytes per element. The variance is of x - mean, so
 * nothing cancels. */
#include "op/elementwise.h"
#include "op/layernorm/layernorm.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float eps = ((const lm_layernorm_p *)c->p)->eps, s, q; int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[1].data, *b = lm_has(c, 2) ? c->in[2].data : NULL; float *mean = c->out[1].data, *rstd = c->out[2].data;
    LM_ROW_FOR(c, tile, r) {
        const float *x = lm_row(&c->in[0], r); float *y = lm_row(&c->out[0], r);
        LM_V_SUM(s, d, k, LM_LD(x + k));
        float m = s / (float)d;
        LM_V_SUM(q, d, k, __extension__({ vn v = vn_first(LM_LD(x + k) - m, m_); v * v; }));
        float rs = 1.0f / sqrtf(q / (float)d + eps);
        if (b) LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(x + k) - m) * rs * LM_LD(w + k) + LM_LD(b + k)));
        else LM_V_WALK(d, k, LM_ST(y + k, (LM_LD(x + k) - m) * rs * LM_LD(w + k)));
        mean[r] = m; rstd[r] = rs;
    }
    return LM_OK;
}
LM_ONE_KERNEL(layernorm, lm_accepts_rows, lm_row_tiles, run);
