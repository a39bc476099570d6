/* normalize_cuda.cu — block sums of squares, one factor, one pass. */
#include "op/blocksum.cuh"
extern "C" {
#include "op/normalize/normalize.h"
}
struct square { __device__ float operator()(float x) const { return x * x; } };
static __global__ void __launch_bounds__(256) factor(double *part, int64_t n, float eps) {
    const double s = lm_cuda_sum_doubles(part + 1, n);
    if (threadIdx.x == 0) part[0] = 1 / (sqrt(s) + static_cast<double>(eps));
}
struct scaled { const double *f; __device__ void operator()(const float *x, float *y) const { y[0] = x[0] * static_cast<float>(*f); } };
static size_t shared(const lm_call *c) { return lm_cuda_sum_shared(c) + sizeof(double); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    double *part = static_cast<double *>(c->shared);
    const scaled f = { part };
    LM_TRY(lm_cuda_sum_begin(c, scratch, square(), part + 1));
    factor<<<1, 256, 0, LM_CUDA_STREAM(scratch)>>>(part, lm_cuda_sum_blocks(c), static_cast<const lm_normalize_p *>(c->p)->eps);
    return lm_ew_run<1, 1>(c, scratch, f);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts_any(c) && lm_is_contig(&c->in[0]) && lm_is_contig(&c->out[0]); }
LM_CUDA_ONE_SHARED(normalize, "normalize/cuda", accepts, run, shared)
