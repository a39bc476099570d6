/* rope_simd.c — a tile is some whole rows; each row's cosines serve all its heads from L1. Bound by memory bandwidth.
 *
 * x1 c - x2 s could contract two ways; fma(x1, c, -(x2 s)) says which, in vectors and remainders alike. Both members of a pair are read
 * before either is written, so y may be x. */
#include "op/rope/rope.h"
#include "op/rule.h"
#include "op/simd.h"
#if defined(__FMA__)
#define FMA(a, b, c) __builtin_fmaf(a, b, c)
#define ORDER "rope/fma"
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#define ORDER "rope"
#endif

static int64_t per_tile(const lm_call *c) { return lm_max64(1, 16384 / lm_max64(1, c->in[0].dim[1])); }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], per_tile(c)); }
static void halves(const float *x, float *y, const float *cs, const float *sn, int64_t n, float sign) {
    for (int64_t i = 0; i < n; i += 16) {
        float u[16], v[16];
        const int64_t m = lm_min64(16, n - i);
        if (m == 16) {
            for (int k = 0; k < 16; k++) {
                float a = x[i + k], b = x[n + i + k], s = sn[i + k] * sign;
                u[k] = FMA(a, cs[i + k], -(b * s));
                v[k] = FMA(b, cs[i + k], a * s);
            }
            memcpy(y + i, u, 64); memcpy(y + n + i, v, 64);
        } else
            for (int64_t k = 0; k < m; k++) {
                float a = x[i + k], b = x[n + i + k], s = sn[i + k] * sign;
                y[i + k] = FMA(a, cs[i + k], -(b * s));
                y[n + i + k] = FMA(b, cs[i + k], a * s);
            }
    }
}
static void neighbours(const float *x, float *y, const float *cs, const float *sn, int64_t n, float sign) {
    for (int64_t i = 0; i < n; i++) {
        float a = x[2 * i], b = x[2 * i + 1], s = sn[i] * sign;
        y[2 * i] = FMA(a, cs[i], -(b * s)); y[2 * i + 1] = FMA(b, cs[i], a * s);
    }
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_rope_p *p = c->p;
    const int64_t W = c->in[0].dim[1], n = p->rotary / 2, end = lm_min64(c->in[0].dim[0], (tile + 1) * per_tile(c));
    (void)scratch;
    for (int64_t r = tile * per_tile(c); r < end; r++) {
        const float *x = (const float *)c->in[0].data + r * lm_row_stride(&c->in[0]),
                    *t = (const float *)c->in[1].data + r * lm_row_stride(&c->in[1]);
        float *y = (float *)c->out[0].data + r * lm_row_stride(&c->out[0]);
        for (int64_t h = 0; h < W; h += p->d_head) {
            if (p->interleaved) neighbours(x + h, y + h, t, t + n, n, p->inverse ? -1.0f : 1.0f);
            else halves(x + h, y + h, t, t + n, n, p->inverse ? -1.0f : 1.0f);
            if (x != y && p->rotary < p->d_head) memcpy(y + h + p->rotary, x + h + p->rotary, (size_t)(p->d_head - p->rotary) * 4);
        }
    }
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_rope)[];
const lm_kernel LM_ISA_NAME(lm_k_rope)[] = { { .name = "rope.f32." LM_ISA_STR,
                                               .needs = LM_ISA_NEEDS,
                                               .order = ORDER,
                                               .accepts = lm_accepts_rows,
                                               .n_phase = 1,
                                               .phase = { { tiles, run } } },
                                             { 0 } };
