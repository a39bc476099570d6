/* adamw_stochastic_simd.c — 14 bytes read and 14 written per parameter, and Philox for eight numbers at a time; adamw_simd.c's order of operations. */
#include "op/elementwise.h"
#include "op/adam.h"
#include "op/adamw_stochastic/adamw_stochastic.h"
#include "op/philox.h"
enum { PIECE = 8 * VN };                                                 /* numbers of one group of draws */
_Static_assert(LM_EW_TILE % PIECE == 0, "a tile starts at a group of draws");
static bool accepts(const lm_call *c) {
    for (int i = 1; i < 6; i++) if (!lm_is_f32_vec(&c->in[i])) return false;
    return c->in[0].dtype == LM_BF16 && c->in[0].layout == LM_PLAIN && lm_is_contig(&c->in[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const lm_adamw_stochastic_p *o = c->p;
    const float s = *(const float *)c->in[5].data; const lm_adam a = lm_adam_of(c->in[4].data);
    const lm_rng rng = lm_adamw_stochastic_rng(o->stream, c->in[6].data);
    float p[PIECE];
    uint32_t w[4 * VN], x[PIECE];
    for (int64_t i = tile * LM_EW_TILE, end = lm_min64(i + LM_EW_TILE, lm_numel(&c->out[0])); i < end; i += PIECE) {
        const int64_t n = lm_min64(PIECE, end - i);
        uint16_t *half = (uint16_t *)c->out[0].data + i;
        float *g = (float *)c->out[1].data + i, *m = (float *)c->out[2].data + i, *v = (float *)c->out[3].data + i;
        lm_convert(p, LM_F32, half, LM_BF16, n);
        LM_V_WALK(n, k, vn gr = LM_LD(g + k) * s; vn m0 = LM_LD(m + k); vn m1 = m0 + (gr - m0) * a.ob1; vn v1 = LM_LD(v + k) * a.b2 + gr * gr * a.ob2;
                  vn den = vn_sqrt(v1) / a.sb2 + a.eps; LM_ST(p + k, LM_LD(p + k) * a.keep - m1 / den * a.step); LM_ST(m + k, m1); LM_ST(v + k, v1));
        lm_philox(rng, (uint64_t)i / 8, w);
        memcpy(x, p, (size_t)n * sizeof *p);
        for (int64_t k = 0; k < n; k++) half[k] = lm_bf16_by_chance(x[k], w[k / 2] >> 16 * (k % 2) & 0xffff);
        if (o->clear) memset(g, 0, (size_t)n * sizeof *g);
    }
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_adamw_stochastic)[];
const lm_kernel LM_ISA_NAME(lm_k_adamw_stochastic)[] = { { .name = "adamw_stochastic." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = "adamw_stochastic",
    .accepts = accepts, .n_phase = 1, .phase = { { lm_ew_tiles, run } } }, { 0 } };
