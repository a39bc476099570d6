/* embed_grad_simd.c — a tile is LM_COL_TILE columns of all tokens in order: a row named twice gets its terms in token order, and no two tiles share an element. */
#include "op/elementwise.h"
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->out[0].dim[1], LM_COL_TILE); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t rows = c->out[0].dim[0], d = c->out[0].dim[1], j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, d - j), n = c->in[0].dim[0];
    const int32_t *ids = c->in[0].data; float *dw = (float *)c->out[0].data + j; lm_err err = LM_OK;
    if (!(c->acc & 1)) for (int64_t r = 0; r < rows; r++) memset(dw + r * d, 0, (size_t)w * 4);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= rows) { err = LM_E_RANGE; continue; }
        const float *g = lm_row(&c->in[1], i) + j; float *y = dw + ids[i] * d;
        LM_V_WALK(w, k, LM_ST(y + k, LM_LD(y + k) + LM_LD(g + k)));
    }
    return err;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->out[0]); }
extern const lm_kernel LM_ISA_NAME(lm_k_embed_grad)[];
const lm_kernel LM_ISA_NAME(lm_k_embed_grad)[] = { { .name = "rows_add.f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = "rows_add",
    .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 } };
