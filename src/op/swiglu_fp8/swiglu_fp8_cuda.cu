/* swiglu_fp8_cuda.cu — memory bound: four bytes read, two written, where swiglu and quant_fp8 apart move ten: 3.84 TB/s on an H200. Rounds where they
 * do: y to bf16. */
#include "op/quant_fp8/quant_fp8.cuh"
struct source {
    enum { N = 1 };
    static constexpr int blocks(lm_fp8_form) { return 3; }
    lm_cv x[2];
    __device__ __forceinline__ void load(uint32_t (*v)[8][4], int64_t r, int64_t c, int64_t rows) const {
#pragma unroll
        for (int h = 0; h < 8; h += 4) {
            float a[8], b[8];
            uint32_t wa[4][4], wb[4][4];
            if (x[0].bf16 && x[1].bf16) { lm_fp8_rows4(wa, x[0], r + h, c, rows); lm_fp8_rows4(wb, x[1], r + h, c, rows); }
#pragma unroll
            for (int p = 0; p < 4; p++) {
                if (x[0].bf16 && x[1].bf16) {
                    lm_unpack8(make_uint4(wa[p][0], wa[p][1], wa[p][2], wa[p][3]), a);
                    lm_unpack8(make_uint4(wb[p][0], wb[p][1], wb[p][2], wb[p][3]), b);
                } else if (r + h + p < rows) { lm_ld8(x[0], (r + h + p) * x[0].rs + c, a); lm_ld8(x[1], (r + h + p) * x[1].rs + c, b); }
                else for (int e = 0; e < 8; e++) a[e] = b[e] = 0;
#pragma unroll
                for (int e = 0; e < 8; e++) a[e] = a[e] * lm_cuda_sigmoid_quick(a[e]) * b[e];
#pragma unroll
                for (int i = 0; i < 4; i++) v[0][h + p][i] = lm_pack2(a[2 * i], a[2 * i + 1]);
            }
        }
    }
};
static bool accepts(const lm_call *c) {
    return !static_cast<const lm_quant_fp8_p *>(c->p)->blocks && lm_fp8_writes(c) && lm_fp8_reads(&c->in[0]) && lm_fp8_reads(&c->in[1]);
}
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    const source src = { { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]) } };
    if (!lm_fp8_aligned(src.x, 2)) return LM_E_SHAPE;
    const lm_quant_fp8_p *p = static_cast<const lm_quant_fp8_p *>(c->p);
    const int64_t cols = c->in[0].dim[1];
    const lm_fp8_tos<1> o = { { lm_fp8_to_of(p, c->in[0].dim[0], cols, c->out, &c->out[4]) } };
    return p->square ? lm_fp8_run<LM_FP8_SQUARE>(src, o, cols, LM_CUDA_STREAM(st)) : lm_fp8_run<LM_FP8_TILES>(src, o, cols, LM_CUDA_STREAM(st));
}
LM_CUDA_ONE(swiglu_fp8, "swiglu_fp8/cuda", accepts, run)
