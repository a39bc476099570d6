/* swiglu_grad_simd.c — 20 bytes, one exp, one division per element. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; int64_t seg = lm_ew_seg(c, 3);
    LM_EW_FOR(c, tile, seg, i, n) {
        const float *dy = lm_ew_at(&c->in[0], i, seg), *a = lm_ew_at(&c->in[1], i, seg), *b = lm_ew_at(&c->in[2], i, seg);
        float *da = lm_ew_at(&c->out[0], i, seg), *db = lm_ew_at(&c->out[1], i, seg);
        LM_V_WALK(n, k, vn g = LM_LD(dy + k); vn x = LM_LD(a + k); vn w = LM_LD(b + k); vn s = vn_sigmoid(x);
                  LM_ST(da + k, g * w * (s * (1.0f + x * (1.0f - s)))); LM_ST(db + k, g * (x * s)));
    }
    return LM_OK;
}
LM_ONE_KERNEL(swiglu_grad, lm_accepts_rows, lm_ew_tiles, run);
