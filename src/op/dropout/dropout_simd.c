/* dropout_simd.c — compute bound: Philox (op/philox.h), about 10 × 8 vector operations per 4 VN elements. Tiles start at multiples of 4 VN
 * elements, so a tile needs no draw of its neighbour. */
#include "op/elementwise.h"
#include "op/dropout/dropout.h"
#include "op/philox.h"
_Static_assert(LM_EW_TILE % (4 * VN) == 0, "a tile starts at a draw block");
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const lm_dropout_p *p = c->p; const lm_rng rng = lm_dropout_rng(p, c->in[1].data);
    const float up = 1.0f / (1.0f - p->p); uint32_t w[4 * VN];
    for (int64_t i = tile * LM_EW_TILE, end = lm_min64(i + LM_EW_TILE, lm_numel(&c->out[0])); i < end; i += 4 * VN) {
        const float *x = (const float *)c->in[0].data + i; float *y = (float *)c->out[0].data + i;
        lm_philox(rng, (uint64_t)i / 4, w);
        LM_V_WALK(lm_min64(4 * VN, end - i), k, vni u; memcpy(&u, w + k, sizeof u);
            vn f = __builtin_convertvector((vni)((u >> 8) & 0xffffff), vn) * 0x1p-24f;
            LM_ST(y + k, vn_sel(f >= p->p, LM_LD(x + k) * up, (vn){ 0 })));
    }
    return LM_OK;
}
LM_ONE_KERNEL(dropout, lm_accepts_flat, lm_ew_tiles, run);
