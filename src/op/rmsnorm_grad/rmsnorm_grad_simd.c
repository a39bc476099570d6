/* rmsnorm_grad_simd.c — whole rows: a dot product, then one pass; 12 bytes per element. */
#include "op/elementwise.h"
#include "op/rmsnorm_grad/rmsnorm_grad.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float offset = ((const lm_rmsnorm_grad_p *)c->p)->offset, dot;
    int64_t d = c->in[2].dim[0], groups = lm_cols(&c->in[0]) / d;
    const float *w = c->in[2].data, *stat = c->in[3].data;
    LM_ROW_FOR(c, tile, r)
        for (int64_t q = 0; q < groups; q++) {
            const float *dy = lm_row(&c->in[0], r) + q * d, *x = lm_row(&c->in[1], r) + q * d; float *dx = lm_row(&c->out[0], r) + q * d;
            LM_V_SUM(dot, d, k, LM_LD(dy + k) * (LM_LD(w + k) + offset) * LM_LD(x + k));
            float rs = stat[r * groups + q], m = rs * rs * rs * (dot / (float)d);
            LM_V_WALK(d, k, LM_ST(dx + k, LM_LD(dy + k) * (LM_LD(w + k) + offset) * rs - LM_LD(x + k) * m));
        }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->in[3]); }
LM_ONE_KERNEL(rmsnorm_grad, accepts, lm_row_tiles, run);
