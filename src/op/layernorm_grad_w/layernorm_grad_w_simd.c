/* layernorm_grad_w_simd.c — a tile is LM_COL_TILE columns: one accumulator per column, rows in order. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    const float *mean = c->in[2].data, *rstd = c->in[3].data; float *y = (float *)c->out[0].data + j;
    v16 acc[4] = { { 0 } };
    if (c->acc & 1) LM_V_WALK(w, k, acc[k / 16] = LM_LD(y + k));
    v16 a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
    for (int64_t r = 0; r < n; r++) {
        const float *dy = lm_row(&c->in[0], r) + j, *x = lm_row(&c->in[1], r) + j; float m = mean[r], s = rstd[r];
        if (w == LM_COL_TILE) {
            a0 += (lm_v_load(x) - m) * s * lm_v_load(dy); a1 += (lm_v_load(x + 16) - m) * s * lm_v_load(dy + 16);
            a2 += (lm_v_load(x + 32) - m) * s * lm_v_load(dy + 32); a3 += (lm_v_load(x + 48) - m) * s * lm_v_load(dy + 48);
        } else LM_V_WALK(w, k, acc[k / 16] += (LM_LD(x + k) - m) * s * LM_LD(dy + k));
    }
    if (w == LM_COL_TILE) { lm_v_store(y, a0); lm_v_store(y + 16, a1); lm_v_store(y + 32, a2); lm_v_store(y + 48, a3); }
    else LM_V_WALK(w, k, LM_ST(y + k, acc[k / 16]));
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->in[2]) && lm_is_contig(&c->in[3]); }
LM_ONE_KERNEL(layernorm_grad_w, accepts, lm_col_tiles, run);
