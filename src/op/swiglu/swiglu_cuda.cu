/* swiglu_cuda.cu — memory bound; rounds as mul(silu(a), b) does in f32. */
#include "op/cuda.cuh"
struct body { __device__ void operator()(const float *x, float *y) const { y[0] = x[0] / (1.0f + expf(-x[0])) * x[1]; } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_ew_run<2, 1>(c, st, body()); }
LM_CUDA_ALONE(swiglu, "swiglu/cuda", lm_cuda_accepts_any, run, NULL, NULL)
