/* muon_apply_simd.c — memory bound: 12 bytes per element. */
#include "op/update.h"
#include "op/muon_apply/muon_apply.h"
static bool accepts(const lm_call *c) { return lm_upd_accepts(&c->in[0], 1, (const lm_tensor *const[]){ &c->in[1] }) && lm_is_f32_vec(&c->in[2]); }
static int64_t tiles(const lm_call *c) { return lm_upd_tiles(&c->in[0], &c->in[1]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const float *h = c->in[2].data;
    const float keep = (float)(1.0 - (double)h[LM_HYPER_LR] * (double)h[LM_HYPER_WD]),
                step = h[LM_HYPER_LR] * ((const lm_muon_apply_p *)c->p)->factor;
    LM_UPD_WALK(&c->out[0], &c->in[1], tile, p, i, n, const float *u = (const float *)c->in[1].data + i;
        LM_V_WALK(n, k, LM_ST(p + k, LM_LD(p + k) * keep - LM_LD(u + k) * step)));
    return LM_OK;
}
LM_ONE_KERNEL(muon_apply, accepts, tiles, run);
