/* xent_simd.c — rows of logits per instruction set, and the kernels of xent for weights in panels and in quantized blocks (plain ones:
 * xent_cols_simd.c).
 *
 * Cost: two sweeps of a block that lies in L1, about 20 operations per 16 logits; the logits themselves cost 2 d flops each. */
#include "op/xent/xent_vec.h"
#include "op/lanes.h"

/* A block of at most LM_XENT_BLOCK logits in runs of 16, `step` apart: its maximum, sum exp(z - max), and the plain sum if wanted. Lane v
 * % 16 adds in order, lanes are added by halves. keep: exp(z - max) is left in place of z (0 beyond n). */
static void block(float *z, int64_t step, int64_t n, bool keep, lm_xent_stat *out) {
    vec top[NV], s[NV];
    const vec low = all(-INFINITY);
    const int64_t whole = n / 16, rest = n % 16;
    float edge[16], t[16];
    for (int j = 0; j < NV; j++) { top[j] = low; s[j] = all(0.0f); }
    for (int64_t i = 0; i < whole; i++) for (int j = 0; j < NV; j++) { const vec x = LD(z + i * step + j * W); top[j] = sel(x > top[j], x, top[j]); }
    if (rest) {
        for (int i = 0; i < 16; i++) edge[i] = i < rest ? z[whole * step + i] : -INFINITY;
        for (int j = 0; j < NV; j++) { const vec x = LD(edge + j * W); top[j] = sel(x > top[j], x, top[j]); }
    }
    float m = -INFINITY;
    for (int j = 0; j < NV; j++) for (int i = 0; i < W; i++) m = top[j][i] > m ? top[j][i] : m;
    const float base = m == -INFINITY || m == INFINITY ? 0 : m;                      /* rows of infinities: see combine */
    const vec mv = all(base);
    for (int64_t i = 0; i < whole; i++)
        for (int j = 0; j < NV; j++) {
            float *p = z + i * step + j * W;
            const vec e = exp_neg(LD(p) - mv);
            s[j] += e;
            if (keep) ST(p, e);
        }
    if (rest) {
        for (int j = 0; j < NV; j++) { const vec e = exp_neg(LD(edge + j * W) - mv); s[j] += e; ST(t + j * W, e); }
        if (keep) memcpy(z + whole * step, t, sizeof t);
    }
    for (int j = 0; j < NV; j++) ST(t + j * W, s[j]);
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) t[i] += t[i + h];
    out->max = m; out->sum = t[0];
}
static double plain_sum(const float *z, int64_t step, int64_t n) {
    vec s[NV];
    for (int j = 0; j < NV; j++) s[j] = all(0.0f);
    for (int64_t i = 0; i < n / 16; i++) for (int j = 0; j < NV; j++) s[j] += LD(z + i * step + j * W);
    float t[16];
    for (int j = 0; j < NV; j++) ST(t + j * W, s[j]);
    for (int64_t i = 0; i < n % 16; i++) t[i] += z[n / 16 * step + i];
    for (int h = 8; h; h /= 2) for (int i = 0; i < h; i++) t[i] += t[i + h];
    return t[0];
}
INL vec row_dz(vec z, vec L, vec A, vec B, float cap) {
    vec x = z - L;
    x = sel(x > all(0.0f), all(0.0f), x);
    x = exp_neg(x) * A - B;
    if (cap > 0) { const vec y = z * all(1.0f / cap); x *= 1.0f - y * y; }
    return x;
}
static void row_grad(float *z, int64_t V, float lse, float a, float b, float cap) {
    const vec L = all(lse), A = all(a), B = all(b);
    int64_t v = 0;
    for (; v + W <= V; v += W) ST(z + v, row_dz(LD(z + v), L, A, B, cap));
    if (v < V) {
        float t[W];
        for (int i = 0; i < W; i++) t[i] = v + i < V ? z[v + i] : 0;
        ST(t, row_dz(LD(t), L, A, B, cap));
        memcpy(z + v, t, (size_t)(V - v) * 4);
    }
}
static void row_cap(float *z, int64_t n, float cap) {
    for (int64_t v = 0; v < n; v += VN) {
        const int64_t m = n - v < VN ? n - v : VN;
        vn_storen(z + v, vn_softcap(vn_loadn(z + v, m), cap), m);
    }
}
const lm_xent_vec LM_ISA_NAME(lm_xent_vec) = { block, plain_sum, row_grad, row_cap };

/* ---- kernels ------------------------------------------------------------------------------------------------------------------ */
static int64_t logit_tiles(const lm_call *c) { lm_gemm g = lm_xent_logits(c); return lm_gemm_f32_grid(&g).tiles; }
static lm_err logit_run(const lm_call *c, int64_t tile, void *scratch) {
    lm_gemm g = lm_xent_logits(c);
    LM_ISA_NAME(lm_gemm_f32_tile)(&g, tile, scratch);
    return LM_OK;
}
static int64_t row_tiles(const lm_call *c) { int64_t r0; return lm_xent_chunk(c, &r0); }
static lm_err row_run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    int64_t r0; lm_xent_chunk(c, &r0);
    return lm_xent_row(c, &LM_ISA_NAME(lm_xent_vec), r0 + tile, (float *)c->shared + tile * lm_xent_stride(c), false);
}
static size_t bytes(const lm_call *c) { lm_gemm g = lm_xent_logits(c); return lm_gemm_f32_scratch(&g); }
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define ORDER "fma.k"
#else
#define ORDER "mad.k"
#endif
#define ROW(mm, order_, accepts_) { .name = "xent." mm ".rows." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = order_, .accepts = accepts_, .shared_bytes = lm_xent_shared, \
    .thread_bytes = bytes, .n_phase = 2, .phase = { { logit_tiles, logit_run }, { row_tiles, row_run } }, .repeat = lm_xent_repeat }
const lm_kernel LM_ISA_NAME(lm_k_xent_rows)[] = { ROW("f32", ORDER, lm_xent_accepts_f32), ROW("bf16", "bf16." ORDER, lm_xent_accepts_bf16), { 0 } };
