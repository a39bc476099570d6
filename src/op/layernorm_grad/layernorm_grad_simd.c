/* layernorm_grad_simd.c — whole rows: two sums, then one pass; 12 bytes per element. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float sg, sgh; int64_t d = lm_cols(&c->in[0]);
    const float *w = c->in[2].data, *mean = c->in[3].data, *rstd = c->in[4].data;
    LM_ROW_FOR(c, tile, r) {
        const float *dy = lm_row(&c->in[0], r), *x = lm_row(&c->in[1], r); float *dx = lm_row(&c->out[0], r), m = mean[r], rs = rstd[r];
        LM_V_SUM(sg, d, k, LM_LD(dy + k) * LM_LD(w + k));
        LM_V_SUM(sgh, d, k, LM_LD(dy + k) * LM_LD(w + k) * ((LM_LD(x + k) - m) * rs));
        sg /= (float)d; sgh /= (float)d;
        LM_V_WALK(d, k, LM_ST(dx + k, (LM_LD(dy + k) * LM_LD(w + k) - sg - (LM_LD(x + k) - m) * rs * sgh) * rs));
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->in[3]) && lm_is_contig(&c->in[4]); }
LM_ONE_KERNEL(layernorm_grad, accepts, lm_row_tiles, run);
