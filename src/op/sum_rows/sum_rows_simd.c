/* sum_rows_simd.c — a tile is LM_COL_TILE columns of all rows: one accumulator per column, rows in order. Rows ahead are asked for by
 * hand: their stride hides them from the hardware. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j), rs = lm_row_stride(&c->in[0]);
    const float *x = (const float *)c->in[0].data + j, *ahead; float *y = (float *)c->out[0].data + j; int64_t r;
    LM_COL_SUM(y, w, c->acc & 1, k, for (r = 0; r < n; r++, x += rs),
        __extension__({ if (k % 16 == 0) { ahead = r + 8 < n ? x + 8 * rs : x; __builtin_prefetch(ahead + k); } LM_LD(x + k); }));
    return LM_OK;
}
LM_ONE_KERNEL(sum_rows, lm_accepts_rows, lm_col_tiles, run);
