/* embed_grad_simd.c — first zeros (unless adding), in flat tiles; then tile t adds the tokens whose id is t mod 64, in token order, whole
 * rows at a time: memory is walked in rows, a row named twice gets its terms in order, and no two tiles share a row. Each tile reads all
 * ids, which are few beside dy. */
#include "op/elementwise.h"
enum { CLASSES = 64 };
static int64_t zero_tiles(const lm_call *c) { return c->acc & 1 ? 0 : lm_ew_tiles(c); }
static lm_err zero(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; int64_t i = tile * LM_EW_TILE;
    memset((float *)c->out[0].data + i, 0, (size_t)lm_min64(LM_EW_TILE, lm_numel(&c->out[0]) - i) * 4);
    return LM_OK;
}
static int64_t tiles(const lm_call *c) { return lm_min64(CLASSES, lm_max64(c->out[0].dim[0], 1)); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t rows = c->out[0].dim[0], d = c->out[0].dim[1], n = c->in[0].dim[0];
    const int32_t *ids = c->in[0].data; float *dw = c->out[0].data; lm_err err = LM_OK;
    for (int64_t i = 0; i < n; i++) {
        if ((uint32_t)ids[i] % CLASSES != (uint32_t)tile && ids[i] >= 0 && ids[i] < rows) continue;
        if (ids[i] < 0 || ids[i] >= rows) { err = LM_E_RANGE; continue; }
        const float *g = lm_row(&c->in[1], i); float *y = dw + ids[i] * d;
        LM_V_WALK(d, k, LM_ST(y + k, LM_LD(y + k) + LM_LD(g + k)));
    }
    return err;
}
static bool accepts(const lm_call *c) {          /* input 2, where there is one, only lends its shape */
    return c->in[0].dtype == LM_I32 && lm_is_contig(&c->in[0]) && c->in[1].dtype == LM_F32 && c->in[1].layout == LM_PLAIN &&
           lm_rows_fold(&c->in[1]) && lm_is_f32_vec(&c->out[0]);
}
extern const lm_kernel LM_ISA_NAME(lm_k_embed_grad)[];
const lm_kernel LM_ISA_NAME(lm_k_embed_grad)[] = { { .name = "rows_add.f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = "rows_add",
    .accepts = accepts, .n_phase = 2, .phase = { { zero_tiles, zero }, { tiles, run } } }, { 0 } };
