/* muon_momentum_simd.c — memory bound: 20 bytes per element. */
#include "op/elementwise.h"
#include "op/muon_momentum/muon_momentum.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const float mu = ((const float *)c->in[2].data)[LM_HYPER_BETA1], om = 1.0f - mu, s = *(const float *)c->in[3].data;
    const bool nesterov = ((const lm_muon_momentum_p *)c->p)->nesterov;
    int64_t i = tile * LM_EW_TILE, n = lm_min64(LM_EW_TILE, lm_numel(&c->out[0]) - i);
    float *y = (float *)c->out[0].data + i, *gr = (float *)c->out[1].data + i, *b = (float *)c->out[2].data + i;
    LM_V_WALK(n, k, vn g = LM_LD(gr + k) * s; vn b0 = LM_LD(b + k); vn b1 = b0 + (g - b0) * om;
        LM_ST(y + k, nesterov ? b1 - (b1 - g) * om : b1); LM_ST(b + k, b1); LM_ST(gr + k, (vn){ 0 }));
    return LM_OK;
}
LM_ONE_KERNEL(muon_momentum, lm_accepts_flat, lm_ew_tiles, run);
