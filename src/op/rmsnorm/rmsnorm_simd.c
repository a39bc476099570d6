/* rmsnorm_simd.c — whole rows, two passes over a row in cache: memory bound, 8 bytes per element. */
#include "op/elementwise.h"
#include "op/rmsnorm/rmsnorm.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_rmsnorm_p *p = c->p;
    int64_t d = c->in[1].dim[0], groups = lm_cols(&c->in[0]) / d;
    const float *w = c->in[1].data; float *stat = c->out[1].data;
    LM_ROW_FOR(c, tile, r)
        for (int64_t q = 0; q < groups; q++) {
            const float *x = lm_row(&c->in[0], r) + q * d; float *y = lm_row(&c->out[0], r) + q * d, s;
            LM_V_SUM(s, d, k, __extension__({ vn v = LM_LD(x + k); v * v; }));
            float rstd = 1.0f / sqrtf(s / (float)d + p->eps);
            if (p->offset != 0) LM_V_WALK(d, k, LM_ST(y + k, LM_LD(x + k) * rstd * (LM_LD(w + k) + p->offset)));
            else LM_V_WALK(d, k, LM_ST(y + k, LM_LD(x + k) * rstd * LM_LD(w + k)));
            stat[r * groups + q] = rstd;
        }
    return LM_OK;
}
LM_ONE_KERNEL(rmsnorm, lm_accepts_rows, lm_row_tiles, run);
