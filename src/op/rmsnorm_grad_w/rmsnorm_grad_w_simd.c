/* rmsnorm_grad_w_simd.c — a tile is LM_COL_TILE columns: one accumulator per column, rows (and groups in them) in order. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t d = lm_numel(&c->out[0]), groups = lm_cols(&c->in[0]) / d, n = lm_rows(&c->in[0]) * groups, j = tile * LM_COL_TILE,
                  w = lm_min64(LM_COL_TILE, d - j);
    /* from a row's last group to the next row */
    const int64_t gs = lm_row_stride(&c->in[0]) - (groups - 1) * d, xs = lm_row_stride(&c->in[1]) - (groups - 1) * d;
    const float *g = (const float *)c->in[0].data + j, *x = (const float *)c->in[1].data + j, *rs = c->in[2].data;
    float *y = (float *)c->out[0].data + j;
    int64_t r, q = 0;
    LM_COL_SUM(y, w, c->acc & 1, k, for (r = 0; r < n; r++, q = q + 1 == groups ? 0 : q + 1, g += q ? d : gs, x += q ? d : xs),
        LM_LD(x + k) * rs[r] * LM_LD(g + k));
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_accepts_rows(c) && lm_is_contig(&c->in[2]); }
LM_ONE_KERNEL(rmsnorm_grad_w, accepts, lm_col_tiles, run);
