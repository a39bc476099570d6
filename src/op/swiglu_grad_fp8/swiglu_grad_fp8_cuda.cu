/* swiglu_grad_fp8_cuda.cu — memory bound: six bytes read, four written, where swiglu_grad and two quant_fp8 move eighteen: 3.50 TB/s on an H200.
 * Rounds where they do. */
#include "op/quant_fp8/quant_fp8.cuh"
extern "C" {
#include "op/swiglu_grad_fp8/swiglu_grad_fp8.h"
}
struct source {
    enum { N = 2 };
    static constexpr int blocks(lm_fp8_form) { return 2; }
    lm_cv x[3];
    static __device__ __forceinline__ void both(const float *g, const float *a, const float *b, uint32_t *da, uint32_t *db) {
        float x[8], y[8];
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float s = lm_cuda_sigmoid_quick(a[e]);
            x[e] = g[e] * b[e] * (s * (1.0f + a[e] * (1.0f - s))); y[e] = g[e] * (a[e] * s);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) { da[i] = lm_pack2(x[2 * i], x[2 * i + 1]); db[i] = lm_pack2(y[2 * i], y[2 * i + 1]); }
    }
    __device__ __forceinline__ void load(uint32_t (*v)[8][4], int64_t r, int64_t c, int64_t rows) const {
        float g[8] = {}, a[8] = {}, b[8] = {};
        if (x[0].bf16 && x[1].bf16 && x[2].bf16) {                      /* twelve loads in flight */
#pragma unroll
            for (int h = 0; h < 8; h += 4) {
                uint32_t w[3][4][4];
#pragma unroll
                for (int k = 0; k < 3; k++) lm_fp8_rows4(w[k], x[k], r + h, c, rows);
#pragma unroll
                for (int p = 0; p < 4; p++) {
                    lm_unpack8(make_uint4(w[0][p][0], w[0][p][1], w[0][p][2], w[0][p][3]), g);
                    lm_unpack8(make_uint4(w[1][p][0], w[1][p][1], w[1][p][2], w[1][p][3]), a);
                    lm_unpack8(make_uint4(w[2][p][0], w[2][p][1], w[2][p][2], w[2][p][3]), b);
                    both(g, a, b, v[0][h + p], v[1][h + p]);
                }
            }
            return;
        }
#pragma unroll
        for (int p = 0; p < 8; p++) {
            if (r + p < rows) {
                lm_ld8(x[0], (r + p) * x[0].rs + c, g);
                lm_ld8(x[1], (r + p) * x[1].rs + c, a);
                lm_ld8(x[2], (r + p) * x[2].rs + c, b);
            } else for (int e = 0; e < 8; e++) g[e] = a[e] = b[e] = 0;
            both(g, a, b, v[0][p], v[1][p]);
        }
    }
};
static bool accepts(const lm_call *c) {
    const lm_swiglu_grad_fp8_p *p = static_cast<const lm_swiglu_grad_fp8_p *>(c->p);
    if (p->of[0].square || p->of[1].square) return false;
    return lm_fp8_writes(c) && lm_fp8_reads(&c->in[0]) && lm_fp8_reads(&c->in[1]) && lm_fp8_reads(&c->in[2]);
}
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    const lm_swiglu_grad_fp8_p *p = static_cast<const lm_swiglu_grad_fp8_p *>(c->p);
    const source src = { { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]) } };
    if (!lm_fp8_aligned(src.x, 3)) return LM_E_SHAPE;
    const int64_t rows = c->in[0].dim[0], cols = c->in[0].dim[1];
    lm_fp8_tos<2> o;
    if (p->beside) {
        o.t[0] = lm_fp8_to_of(&p->of[0], rows, 2 * cols, c->out, &c->out[8]);
        o.t[1] = lm_fp8_from(o.t[0], cols);
    } else for (int i = 0; i < 2; i++) o.t[i] = lm_fp8_to_of(&p->of[i], rows, cols, c->out + 4 * i, &c->out[8]);
    return lm_fp8_run<LM_FP8_TILES>(src, o, cols, LM_CUDA_STREAM(st));
}
LM_CUDA_ONE(swiglu_grad_fp8, "swiglu_grad_fp8/cuda", accepts, run)
