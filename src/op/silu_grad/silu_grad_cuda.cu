/* silu_grad_cuda.cu — memory bound. */
#include "op/cuda.cuh"
struct body { __device__ void operator()(const float *x, float *y) const { const float s = lm_cuda_sigmoid(x[1]); y[0] = x[0] * (s * (1.0f + x[1] * (1.0f - s))); } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_ew_run<2, 1>(c, st, body()); }
LM_CUDA_ONE(silu_grad, "silu_grad/cuda", lm_cuda_accepts_any, run)
