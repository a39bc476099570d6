/* add_rmsnorm_simd.c — whole rows: 16 bytes per element, where add and rmsnorm apart move 20. */
#include "op/elementwise.h"
#include "op/rmsnorm/rmsnorm.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_rmsnorm_p *p = c->p; int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[2].data; float *stat = c->out[2].data;
    LM_ROW_FOR(c, tile, r) {
        const float *a = lm_row(&c->in[0], r), *b = lm_row(&c->in[1], r); float *s = lm_row(&c->out[0], r), *y = lm_row(&c->out[1], r), q;
        LM_V_SUM(q, d, k, __extension__({ vn v = LM_LD(a + k) + LM_LD(b + k); LM_ST(s + k, v); v * v; }));
        float rstd = 1.0f / sqrtf(q / (float)d + p->eps);
        if (p->offset != 0) LM_V_WALK(d, k, LM_ST(y + k, LM_LD(s + k) * rstd * (LM_LD(w + k) + p->offset)));
        else LM_V_WALK(d, k, LM_ST(y + k, LM_LD(s + k) * rstd * LM_LD(w + k)));
        stat[r] = rstd;
    }
    return LM_OK;
}
LM_ONE_KERNEL(add_rmsnorm, lm_accepts_rows, lm_row_tiles, run);
