/* attn_sinks_simd.c — attention's own kernel, then whole rows in place: the weights of a vector of heads at a time. */
#include "op/attn_sinks/attn_sinks.h"
#include "op/attn_sinks/weights.h"
extern const lm_kernel LM_ISA_NAME(lm_k_attn)[];
static const lm_kernel *attention(void) { return &LM_ISA_NAME(lm_k_attn)[0]; }
static int64_t tiles(const lm_call *c) { return attention()->phase[0].tiles(c); }
static lm_err attend(const lm_call *c, int64_t tile, void *scratch) { return attention()->phase[0].run(c, tile, scratch); }
static size_t thread_bytes(const lm_call *c) { return attention()->thread_bytes(c); }
static lm_err sink(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    const lm_attn_p *p = c->p;
    const float *s = c->in[4].data;
    LM_ROW_FOR(c, tile, r) {
        float *y = lm_row(&c->out[0], r), *lse = lm_row(&c->out[1], r);
        for (int64_t h = 0; h < p->n_head; h += VN) {
            const int64_t m = lm_min64(VN, p->n_head - h);
            const sink_weights w = sink_of(vn_loadn(lse + h, m), vn_loadn(s + h, m));
            for (int64_t i = 0; i < m; i++) {
                sink_keep(y + (h + i) * p->d_head, p->d_head, vn_set(w.keep[i]));
                lse[h + i] = (float)((double)fmaxf(lse[h + i], s[h + i]) + log(1 + (double)w.e[i]));
            }
        }
    }
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_attn_sinks)[];
const lm_kernel LM_ISA_NAME(lm_k_attn_sinks)[] = { { .name = "attn_sinks.f32." LM_ISA_STR,
                                                     .needs = LM_ISA_NEEDS,
                                                     .order = LM_ORDER("attn_sinks"),
                                                     .accepts = lm_accepts_rows,
                                                     .thread_bytes = thread_bytes,
                                                     .n_phase = 2,
                                                     .phase = { { tiles, attend }, { lm_row_tiles, sink } } },
                                                   { 0 } };
