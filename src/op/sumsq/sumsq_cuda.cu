/* sumsq_cuda.cu — memory bound: the input read once. */
#include "op/blocksum.cuh"
struct body { __device__ float operator()(float x) const { return x * x; } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_cuda_sum_run(c, st, body()); }
static lm_err run_many(const lm_call *const *c, int n, void *st) { return lm_cuda_sum_many(c, n, st, body()); }
LM_CUDA_MANY(sumsq, "sumsq/cuda", lm_cuda_sum_accepts, run, lm_cuda_sum_shared, run_many)
