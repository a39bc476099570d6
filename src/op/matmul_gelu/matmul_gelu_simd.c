/* matmul_gelu_simd.c — a plain row, one chain of additions over k: plans of a processor keep the two apart, where each has a fast one. */
#include "op/elementwise.h"
#include "op/matmul_gelu/matmul_gelu.h"
static int64_t rows(const lm_call *c) { return lm_rows(&c->out[0]); }
static float rounded(float x, bool half) { return half ? lm_bf16_to_f32(lm_f32_to_bf16(x)) : x; }
static lm_err run(const lm_call *c, int64_t r, void *scratch) {
    (void)scratch;
    const lm_matmul_p *p = &((const lm_matmul_gelu_p *)c->p)->mm;
    const lm_tensor *w = &c->in[1];
    const int64_t N = lm_cols(&c->out[0]), K = lm_cols(&c->in[0]), ld = lm_row_stride(w), step = p->tb ? 1 : ld;
    const float *x = lm_row(&c->in[0], r), *b = lm_has(c, 2) ? c->in[2].data : NULL;
    float *h = lm_row(&c->out[0], r), *y = lm_row(&c->out[1], r);
    for (int64_t n = 0; n < N; n++) {
        const float *q = (const float *)w->data + n * (p->tb ? ld : 1);
        float s = 0;
        for (int64_t k = 0; k < K; k++) s += rounded(x[k], p->mm == LM_BF16) * rounded(q[k * step], p->mm == LM_BF16);
        h[n] = b ? s + b[n] : s;
    }
    LM_V_WALK(N, k, vn v = LM_LD(h + k); LM_ST(y + k, v / (1.0f + vn_exp(v * (v * v * -0.0713548162726f - 1.59576912161f)))));
    return LM_OK;
}
LM_ONE_KERNEL(matmul_gelu, lm_accepts_rows, rows, run);
