/* matmul_gelu_cuda.cu — cuBLASLt's epilogue where both outputs are bf16, else the product and then a pass over it. */
#include "op/matmul/matmul.cuh"
extern "C" {
#include "op/matmul_gelu/matmul_gelu.h"
}
struct gelu {
    __device__ void operator()(const float *x, float *y) const {
        const float v = x[0];
        y[0] = v / (1.0f + expf(v * (v * v * -0.0713548162726f - 1.59576912161f)));
    }
};
static bool accepts(const lm_call *c) { return lm_matmul_cuda_accepts(c) && lm_cuda_float(&c->out[1]); }
static size_t shared(const lm_call *c) { const lm_cuda_gemm g = lm_matmul_cuda_problem(c); return lm_cuda_gemm_room(&g); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_cuda_gemm plain = lm_matmul_cuda_problem(c);
    lm_cuda_gemm both = plain;
    both.c = c->out[1].data; both.ldc = lm_row_stride(&c->out[1]); both.aux = plain.c; both.ldaux = plain.ldc;
    const lm_err e =
        plain.c_bf16 && c->out[1].dtype == LM_BF16 ? lm_cuda_gemm_run(c->dev, &both, c->shared, LM_CUDA_STREAM(scratch)) : LM_E_UNSUPPORTED;
    if (e != LM_E_UNSUPPORTED) return e;
    LM_TRY(lm_cuda_gemm_run(c->dev, &plain, c->shared, LM_CUDA_STREAM(scratch)));
    lm_call x = *c;
    x.in[0] = c->out[0]; x.out[0] = c->out[1];
    return lm_ew_run<1, 1>(&x, scratch, gelu());
}
LM_CUDA_ONE_SHARED(matmul_gelu, "matmul_gelu/cuda", accepts, run, shared)
