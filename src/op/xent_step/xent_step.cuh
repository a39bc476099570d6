/* xent_step.cuh — the two products behind a chunk's d loss / d logits: for the *_cuda.cu files of xent_step. */
#ifndef LM_XENT_STEP_CUH
#define LM_XENT_STEP_CUH
#include "op/xent/xent.cuh"
/* dx (rows, d) = dz (rows, N) W */
static inline lm_cuda_gemm lm_xent_dx(int64_t rows, int64_t d, int64_t N, const lm_cm &dz, const lm_cm &w, bool half, void *c, int64_t ldc, bool c_bf16) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = rows; g.N = d; g.K = N; g.a = dz; g.b = w; g.round = half; g.c = c; g.ldc = ldc; g.c_bf16 = c_bf16;
    return g;
}
/* dW (V, d) = [dW +] dzᵀ x */
static inline lm_cuda_gemm lm_xent_dw(int64_t rows, int64_t d, int64_t V, const lm_cm &dz, const lm_cm &x, bool half, float *dw, bool acc) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = V; g.N = d; g.K = rows; g.a = dz; g.ta = true; g.b = x; g.round = half; g.c = dw; g.ldc = d; g.acc = acc;
    return g;
}
#endif
