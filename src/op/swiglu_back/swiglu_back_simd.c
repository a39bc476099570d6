/* swiglu_back_simd.c — 24 bytes, one exp, one division per element. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; int64_t seg = lm_ew_seg(c, 3);
    LM_EW_FOR(c, tile, seg, i, n) {
        const float *dy = lm_ew_at(&c->in[0], i, seg), *a = lm_ew_at(&c->in[1], i, seg), *b = lm_ew_at(&c->in[2], i, seg);
        float *da = lm_ew_at(&c->out[0], i, seg), *db = lm_ew_at(&c->out[1], i, seg), *y = lm_ew_at(&c->out[2], i, seg);
        LM_V_WALK(n, k, vn g = LM_LD(dy + k); vn x = LM_LD(a + k); vn w = LM_LD(b + k); vn s = vn_sigmoid(x); vn u = (x * s);
                  LM_ST(da + k, g * w * (s * (1.0f + x * (1.0f - s)))); LM_ST(db + k, g * u); LM_ST(y + k, u * w));
    }
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_swiglu_back)[];
const lm_kernel LM_ISA_NAME(lm_k_swiglu_back)[] = { { .name = "swiglu_back.f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = LM_ORDER("swiglu_back"),
    .accepts = lm_accepts_rows, .n_phase = 1, .phase = { { lm_ew_tiles, run } } }, { 0 } };
