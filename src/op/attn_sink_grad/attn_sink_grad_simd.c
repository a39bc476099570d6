/* attn_sink_grad_simd.c — whole rows: a dot product of each head, then one pass; 12 bytes an element. */
#include "op/attn_sink/weights.h"
#include "op/attn_sink_grad/attn_sink_grad.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t H = c->in[3].dim[0], D = lm_cols(&c->in[0]) / H;
    const float *s = c->in[3].data;
    LM_ROW_FOR(c, tile, r) {
        const float *dy = lm_row(&c->in[0], r), *o = lm_row(&c->in[1], r), *lse = lm_row(&c->in[2], r), *dl = lm_has(c, 4) ? lm_row(&c->in[4], r) : NULL;
        float *dx = lm_row(&c->out[0], r), *dlse = lm_row(&c->out[1], r), *ds = lm_row(&c->out[2], r);
        for (int64_t h = 0; h < H; h += VN) {
            const int64_t m = lm_min64(VN, H - h);
            const sink_weights w = sink_of(vn_loadn(lse + h, m), vn_loadn(s + h, m));
            vn t = { 0 };
            for (int64_t i = 0; i < m; i++) {
                const float *g = dy + (h + i) * D, *x = o + (h + i) * D;
                float *to = dx + (h + i) * D, dot;
                LM_V_SUM(dot, D, k, LM_LD(g + k) * LM_LD(x + k));
                const vn keep = vn_set(w.keep[i]);
                LM_V_WALK(D, k, LM_ST(to + k, LM_LD(g + k) * keep));
                t[i] = dot;
            }
            const vn both = t * w.sink * w.keep, l = dl ? vn_loadn(dl + h, m) : (vn){ 0 };
            vn_storen(dlse + h, both + l * w.keep, m);
            vn_storen(ds + h, l * w.sink - both, m);
        }
    }
    return LM_OK;
}
LM_ONE_KERNEL(attn_sink_grad, lm_accepts_rows, lm_row_tiles, run);
