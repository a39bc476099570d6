/* softmax_simd.c — a tile is some whole rows; a row is read for its maximum, then for the sum (exponentials stored), then scaled: one pass
 * over memory as long as a row stays in cache. */
#include "op/elementwise.h"
#include "op/softmax/softmax.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; float s = ((const lm_softmax_p *)c->p)->scale; int64_t d = lm_cols(&c->in[0]);
    LM_ROW_FOR(c, tile, r) {
        const float *x = lm_row(&c->in[0], r); float *y = lm_row(&c->out[0], r), m = lm_v_maxof(x, d), sum;
        LM_V_SUM(sum, d, k, __extension__({ vn e = vn_exp((LM_LD(x + k) - m) * s); LM_ST(y + k, e); vn_first(e, m_); }));
        float inv = 1.0f / sum;
        LM_V_WALK(d, k, LM_ST(y + k, LM_LD(y + k) * inv));
    }
    return LM_OK;
}
LM_ONE_KERNEL(softmax, lm_accepts_rows, lm_row_tiles, run);
