/* sum_rows_simd.c — a tile is LM_COL_TILE columns of all rows: one accumulator per column, rows in order. */
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    int64_t n = lm_rows(&c->in[0]), j = tile * LM_COL_TILE, w = lm_min64(LM_COL_TILE, lm_cols(&c->in[0]) - j), rs = lm_row_stride(&c->in[0]);
    const float *x = (const float *)c->in[0].data + j; float *y = (float *)c->out[0].data + j;
    v16 acc[4] = { { 0 } };
    if (c->acc & 1) LM_V_WALK(w, k, acc[k / 16] = LM_LD(y + k));
    if (w == LM_COL_TILE) {
        v16 a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
        for (int64_t r = 0; r < n; r++, x += rs) {
            __builtin_prefetch(x + 8 * rs); __builtin_prefetch(x + 8 * rs + 16); __builtin_prefetch(x + 8 * rs + 32); __builtin_prefetch(x + 8 * rs + 48);
            a0 += lm_v_load(x); a1 += lm_v_load(x + 16); a2 += lm_v_load(x + 32); a3 += lm_v_load(x + 48);
        }
        lm_v_store(y, a0); lm_v_store(y + 16, a1); lm_v_store(y + 32, a2); lm_v_store(y + 48, a3);
        return LM_OK;
    }
    for (int64_t r = 0; r < n; r++, x += rs) LM_V_WALK(w, k, acc[k / 16] += LM_LD(x + k));
    LM_V_WALK(w, k, LM_ST(y + k, acc[k / 16]));
    return LM_OK;
}
LM_ONE_KERNEL(sum_rows, lm_accepts_rows, lm_col_tiles, run);
