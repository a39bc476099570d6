/* attn_sinks_grad_simd.c — a dot product of each head: 8 bytes an element, read once. */
#include "op/attn_sinks_grad/attn_sinks_grad.h"
#include "op/elementwise.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t H = c->in[2].dim[0], D = lm_cols(&c->in[0]) / H;
    const float *s = c->in[2].data;
    LM_ROW_FOR(c, tile, r) {
        const float *y = lm_row(&c->in[0], r), *lse = lm_row(&c->in[1], r), *dy = lm_has(c, 3) ? lm_row(&c->in[3], r) : NULL, *dl = lm_has(c, 4) ? lm_row(&c->in[4], r) : NULL;
        float *ds = lm_row(&c->out[0], r);
        for (int64_t h = 0; h < H; h += VN) {
            const int64_t m = lm_min64(VN, H - h);
            vn t = { 0 };
            for (int64_t i = 0; dy && i < m; i++) {
                const float *a = dy + (h + i) * D, *b = y + (h + i) * D;
                float dot;
                LM_V_SUM(dot, D, k, LM_LD(a + k) * LM_LD(b + k));
                t[i] = dot;
            }
            const vn into = dl ? vn_loadn(dl + h, m) - t : -t;
            vn_storen(ds + h, vn_exp(vn_loadn(s + h, m) - vn_loadn(lse + h, m)) * into, m);
        }
    }
    return LM_OK;
}
LM_ONE_KERNEL(attn_sinks_grad, lm_accepts_rows, lm_row_tiles, run);
