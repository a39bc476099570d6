/* attn_sink_simd.c — whole rows, one pass; 8 bytes an element. The weights of a vector of heads at a time. */
#include "op/attn_sink/attn_sink.h"
#include "op/attn_sink/weights.h"
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const int64_t H = c->in[2].dim[0], D = lm_cols(&c->in[0]) / H;
    const float *s = c->in[2].data;
    LM_ROW_FOR(c, tile, r) {
        const float *o = lm_row(&c->in[0], r), *lse = lm_row(&c->in[1], r);
        float *y = lm_row(&c->out[0], r), *all = lm_row(&c->out[1], r);
        for (int64_t h = 0; h < H; h += VN) {
            const int64_t m = lm_min64(VN, H - h);
            const sink_weights w = sink_of(vn_loadn(lse + h, m), vn_loadn(s + h, m));
            for (int64_t i = 0; i < m; i++) {
                const float *x = o + (h + i) * D;
                float *to = y + (h + i) * D;
                const vn keep = vn_set(w.keep[i]);
                LM_V_WALK(D, k, LM_ST(to + k, LM_LD(x + k) * keep));
                all[h + i] = (float)((double)fmaxf(lse[h + i], s[h + i]) + log(1 + (double)w.e[i]));
            }
        }
    }
    return LM_OK;
}
LM_ONE_KERNEL(attn_sink, lm_accepts_rows, lm_row_tiles, run);
