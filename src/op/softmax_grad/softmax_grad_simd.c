/* softmax_grad_simd.c — whole rows: a dot product, then one pass. */
#include "op/elementwise.h"
#include "op/softmax/softmax.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float s = ((const lm_softmax_p *)c->p)->scale, dot; int64_t d = lm_cols(&c->in[0]);
    LM_ROW_FOR(c, tile, r) {
        const float *dy = lm_row(&c->in[0], r), *y = lm_row(&c->in[1], r); float *dx = lm_row(&c->out[0], r);
        LM_V_SUM(dot, d, k, LM_LD(dy + k) * LM_LD(y + k));
        LM_V_WALK(d, k, LM_ST(dx + k, LM_LD(y + k) * s * (LM_LD(dy + k) - dot)));
    }
    return LM_OK;
}
LM_ONE_KERNEL(softmax_grad, lm_accepts_rows, lm_row_tiles, run);
