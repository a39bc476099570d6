/* swiglu_grad_cuda.cu — memory bound: three read, two written. */
#include "op/cuda.cuh"
struct body {
    __device__ void operator()(const float *x, float *y) const { const float g = x[0], a = x[1], s = lm_cuda_sigmoid(a); y[0] = g * x[2] * (s * (1.0f + a * (1.0f - s))); y[1] = g * (a * s); }
};
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_ew_run<3, 2>(c, st, body()); }
LM_CUDA_ONE(swiglu_grad, "swiglu_grad/cuda", lm_cuda_accepts_any, run)
