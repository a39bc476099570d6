/* matmul_squares_cuda.cu — own tiles square what they store (op/matmul/shared_hopper_cuda.cu); any other product's result is read once more. */
#include "op/matmul/matmul.cuh"
extern "C" {
#include "op/matmul_squares/matmul_squares.h"
}
static __global__ void __launch_bounds__(LM_SQUARES_COLS) squares(const lm_cv y, int64_t M, int64_t N, int64_t across, float *s) {
    const int64_t r0 = blockIdx.x / across * LM_SQUARES_ROWS, n = blockIdx.x % across * LM_SQUARES_COLS + threadIdx.x;
    float sum = 0;
#pragma unroll
    for (int e = 0; e < LM_SQUARES_ROWS; e++) if (n < N && r0 + e < M) { const float v = lm_ld1(y, (r0 + e) * y.rs + n); sum = fmaf(v, v, sum); }
    sum = lm_cuda_block_sum<LM_SQUARES_COLS>(sum);
    if (threadIdx.x == 0) s[blockIdx.x] = sum;
}
static lm_call product(const lm_call *c) { lm_call p = *c; p.n_in = 2; p.n_out = 1; p.acc = 0; return p; }
static bool accepts(const lm_call *c) {
    const lm_call p = product(c);
    return lm_matmul_cuda_accepts(&p) && c->out[1].dtype == LM_F32 && lm_is_contig(&c->out[1]);
}
static size_t shared(const lm_call *c) {
    const lm_call p = product(c);
    const lm_cuda_gemm g = lm_matmul_cuda_problem(&p);
    return lm_cuda_gemm_shares(c->dev, &g) ? lm_cuda_gemm_share_room(c->dev) : lm_cuda_gemm_room(&g);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_call p = product(c);
    const lm_cuda_gemm g = lm_matmul_cuda_problem(&p);
    const cudaStream_t st = LM_CUDA_STREAM(scratch);
    float *s = static_cast<float *>(c->out[1].data);
    const int64_t n = lm_numel(&c->out[1]);
    if (c->shared && lm_cuda_gemm_shares(c->dev, &g)) return lm_cuda_gemm_share(c->dev, &g, s, c->shared, st);
    LM_TRY(lm_cuda_gemm_run(c->dev, &g, c->shared, st));
    if (n > INT32_MAX) return LM_E_RANGE;
    if (n) squares<<<static_cast<unsigned>(n), LM_SQUARES_COLS, 0, st>>>(lm_cv_of(&c->out[0]), g.M, g.N, lm_ceil_div(g.N, LM_SQUARES_COLS), s);
    return lm_cuda_launched();
}
LM_CUDA_ONE_SHARED(matmul_squares, "matmul_squares/cuda", accepts, run, shared)
