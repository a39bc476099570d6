/* adamw_simd.c — memory bound: 16 bytes read and 16 written per parameter. The order of operations is that of the common single-tensor
 * implementation, scalars prepared in double, so that trajectories of a few dozen f32 steps agree to the last digits. */
#include "op/update.h"
#include "op/hyper.h"
static bool accepts(const lm_call *c) {
    return lm_upd_accepts(&c->in[0], 3, (const lm_tensor *const[]){ &c->in[1], &c->in[2], &c->in[3] }) && lm_is_f32_vec(&c->in[4]) &&
           lm_is_f32_vec(&c->in[5]);
}
static int64_t tiles(const lm_call *c) { return lm_upd_tiles(&c->in[0], &c->in[1]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const float *h = c->in[4].data, s = *(const float *)c->in[5].data;
    const float b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob1 = 1.0f - b1,
                ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1.0f - b2;
    const float keep = (float)(1.0 - (double)h[LM_HYPER_LR] * (double)h[LM_HYPER_WD]),
                step = (float)((double)h[LM_HYPER_LR] / (double)h[LM_HYPER_BIAS1]);
    const float sb2 = (float)sqrt((double)h[LM_HYPER_BIAS2]), eps = h[LM_HYPER_EPS];
    LM_UPD_WALK(&c->out[0], &c->out[1], tile, p, i, n, float *g = (float *)c->out[1].data + i; float *m = (float *)c->out[2].data + i;
                float *v = (float *)c->out[3].data + i; LM_V_WALK(
                    n, k, vn gr = LM_LD(g + k) * s; vn m0 = LM_LD(m + k); vn m1 = m0 + (gr - m0) * ob1;
                    vn v1 = LM_LD(v + k) * b2 + gr * gr * ob2; vn den = vn_sqrt(v1) / sb2 + eps;
                    LM_ST(p + k, LM_LD(p + k) * keep - m1 / den * step); LM_ST(g + k, (vn){ 0 }); LM_ST(m + k, m1); LM_ST(v + k, v1)));
    return LM_OK;
}
LM_ONE_KERNEL(adamw, accepts, tiles, run);
