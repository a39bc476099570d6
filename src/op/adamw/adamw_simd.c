/* adamw_simd.c — memory bound: 16 bytes read and 16 written per parameter. The order of operations is that of the common single-tensor
 * implementation, scalars prepared in double, so that trajectories of a few dozen f32 steps agree to the last digits. */
#include "op/update.h"
#include "op/adam.h"
static bool accepts(const lm_call *c) {
    return lm_upd_accepts(&c->in[0], 3, (const lm_tensor *const[]){ &c->in[1], &c->in[2], &c->in[3] }) && lm_is_f32_vec(&c->in[4]) &&
           lm_is_f32_vec(&c->in[5]);
}
static int64_t tiles(const lm_call *c) { return lm_upd_tiles(&c->in[0], &c->in[1]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const float s = *(const float *)c->in[5].data; const lm_adam o = lm_adam_of(c->in[4].data);
    LM_UPD_WALK(&c->out[0], &c->out[1], tile, p, i, n, float *g = (float *)c->out[1].data + i; float *m = (float *)c->out[2].data + i;
                float *v = (float *)c->out[3].data + i; LM_V_WALK(
                    n, k, vn gr = LM_LD(g + k) * s; vn m0 = LM_LD(m + k); vn m1 = m0 + (gr - m0) * o.ob1;
                    vn v1 = LM_LD(v + k) * o.b2 + gr * gr * o.ob2; vn den = vn_sqrt(v1) / o.sb2 + o.eps;
                    LM_ST(p + k, LM_LD(p + k) * o.keep - m1 / den * o.step); LM_ST(g + k, (vn){ 0 }); LM_ST(m + k, m1); LM_ST(v + k, v1)));
    return LM_OK;
}
LM_ONE_KERNEL(adamw, accepts, tiles, run);
