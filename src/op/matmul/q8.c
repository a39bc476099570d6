/* q8.c — what the integer kernels share: the problem, the quantized rows of A, the division of C. */
#include <math.h>
#include <string.h>
#include "op/matmul/matmul.h"
#include "op/matmul/q8.h"
#include "op/rule.h"

bool lm_q8_accepts(const lm_call *c) {
    const lm_matmul_p *p = c->p;
    const lm_tensor *w = &c->in[1];
    return p->mm == LM_I8 && w->dtype == LM_QUANT && w->quant && (w->quant->gguf_id == 8 || w->quant->gguf_id == 2) && w->quant->panels && !p->ta &&
           lm_gemm_accepts(c);
}
lm_q8 lm_q8_of(const lm_call *c) {
    lm_q8 t;
    lm_gemm_of(c, &t.g);
    t.M = t.g.M; t.N = t.g.N; t.K = t.g.K; t.nb = t.K / 32;
    t.w = c->in[1].data; t.nibbles = c->in[1].quant->gguf_id == 2; t.panels = c->in[1].layout == LM_PANEL16; t.block = c->in[1].quant->comp[0].block_bytes;
    const int64_t blocks = lm_round_up(t.M, LM_Q8_ROWS) * t.nb;
    t.q = c->shared; t.d = (float *)(t.q + blocks * 32); t.start = (int32_t *)(t.d + blocks);
    t.c = t.g.c; t.c_rs = t.g.c_rs; t.acc = t.g.acc;
    return t;
}
size_t lm_q8_shared(const lm_call *c) { const lm_q8 t = lm_q8_of(c); return (size_t)(lm_round_up(t.M, LM_Q8_ROWS) * t.nb * 40); }
size_t lm_q8_scratch(const lm_call *c) { (void)c; return (size_t)LM_Q8_KB * 2 * 640; }
int64_t lm_q8_row_tiles(const lm_call *c) { const lm_q8 t = lm_q8_of(c); return lm_ceil_div(t.M, 2 * LM_Q8_ROWS); }
lm_err lm_q8_row_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_q8 t = lm_q8_of(c);
    (void)scratch;
    for (int64_t m = 2 * i * LM_Q8_ROWS; m < lm_min64(2 * (i + 1) * LM_Q8_ROWS, t.M); m++)
        for (int64_t b = 0; b < t.nb; b++) {
            float x[32], top = 0;
            const int64_t at = m * t.g.a.os + b * 32;
            if (t.g.a.dtype == LM_BF16) for (int k = 0; k < 32; k++) x[k] = lm_bf16_to_f32(((const uint16_t *)t.g.a.p)[at + k]);
            else memcpy(x, (const float *)t.g.a.p + at, sizeof x);
            bool finite = true;
            for (int k = 0; k < 32; k++) { const float v = fabsf(x[k]); finite &= v < INFINITY; top = v > top ? v : top; }
            const float scale = top > 0 ? 127.0f / top : 0;
            const int64_t to = lm_q8_at(&t, m, b);
            int8_t *q = t.q + to * 32;
            int32_t sum = 0;
            t.d[to] = finite ? top / 127.0f : NAN;
            /* adding and taking 1.5 * 2^23 rounds to the nearest integer, ties to even */
            for (int k = 0; k < 32; k++) { q[k] = finite ? (int8_t)(int32_t)((x[k] * scale + 12582912.0f) - 12582912.0f) : 0; sum += q[k]; }
            t.start[to] = (t.nibbles ? -8 : -128) * sum;
        }
    return LM_OK;
}
int64_t lm_q8_tiles(const lm_call *c) { const lm_q8 t = lm_q8_of(c); return lm_ceil_div(t.N, 16 * LM_Q8_P) * lm_ceil_div(t.M, LM_Q8_MB); }
void lm_q8_tile(const lm_q8 *t, int64_t i, int64_t *m0, int64_t *m1, int64_t *n0, int64_t *n1) {
    const int64_t n_m = lm_ceil_div(t->M, LM_Q8_MB);
    *m0 = i % n_m * LM_Q8_MB; *m1 = lm_min64(*m0 + LM_Q8_MB, t->M);
    *n0 = i / n_m * 16 * LM_Q8_P; *n1 = lm_min64(*n0 + 16 * LM_Q8_P, t->N);
}
float lm_q8_bias(const lm_q8 *t, int64_t n) {
    return !t->g.bias ? 0 : t->g.bias_dtype == LM_BF16 ? lm_bf16_to_f32(((const uint16_t *)t->g.bias)[n]) : ((const float *)t->g.bias)[n];
}
