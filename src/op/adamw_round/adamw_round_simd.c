/* adamw_round_simd.c — memory bound: 16 bytes read and 12 to 14 written per parameter; adamw_simd.c's order of operations. */
#include "op/elementwise.h"
#include "op/adam.h"
static bool half(const lm_tensor *t) { return t->dtype == LM_BF16 && t->layout == LM_PLAIN && lm_is_contig(t); }
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 6; i++) if (!lm_is_f32_vec(&c->in[i]) && !(i == 1 && half(&c->in[1]))) return false;
    return !lm_has(c, 6) || half(&c->in[6]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const float s = *(const float *)c->in[5].data; const lm_adam o = lm_adam_of(c->in[4].data);
    const int64_t i = tile * LM_EW_TILE, n = lm_min64(LM_EW_TILE, lm_numel(&c->out[0]) - i);
    float wide[LM_EW_TILE];
    const float *g = (const float *)c->in[1].data + i;
    if (c->in[1].dtype == LM_BF16) { lm_convert(wide, LM_F32, (const uint16_t *)c->in[1].data + i, LM_BF16, n); g = wide; }
    float *p = (float *)c->out[0].data + i, *m = (float *)c->out[1].data + i, *v = (float *)c->out[2].data + i;
    LM_V_WALK(n, k, vn gr = LM_LD(g + k) * s; vn m0 = LM_LD(m + k); vn m1 = m0 + (gr - m0) * o.ob1; vn v1 = LM_LD(v + k) * o.b2 + gr * gr * o.ob2;
              vn den = vn_sqrt(v1) / o.sb2 + o.eps; LM_ST(p + k, LM_LD(p + k) * o.keep - m1 / den * o.step); LM_ST(m + k, m1); LM_ST(v + k, v1));
    if (lm_has(c, 6)) lm_convert((uint16_t *)c->out[3].data + i, LM_BF16, p, LM_F32, n);
    return LM_OK;
}
LM_ONE_KERNEL(adamw_round, accepts, lm_ew_tiles, run);
