/* layernorm_grad_w_simd.c — a tile is LM_COL_TILE columns: one accumulator per column, rows in order. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j);
    const float *mean = c->in[2].data, *rstd = c->in[3].data; float *y = (float *)c->out[0].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc & 1, k, for (r = 0; r < n; r++),
        (LM_LD(lm_row(&c->in[1], r) + j + k) - mean[r]) * rstd[r] * LM_LD(lm_row(&c->in[0], r) + j + k));
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->in[2]) && lm_is_contig(&c->in[3]); }
LM_ONE_KERNEL(layernorm_grad_w, accepts, lm_col_tiles, run);
