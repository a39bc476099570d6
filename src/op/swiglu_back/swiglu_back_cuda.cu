/* swiglu_back_cuda.cu — memory bound: three read, three written, where apart eight move. */
#include "op/cuda.cuh"
struct body {
    __device__ void operator()(const float *x, float *y) const {
        const float g = x[0], a = x[1], s = lm_cuda_sigmoid(a);
        y[0] = g * x[2] * (s * (1.0f + a * (1.0f - s))); y[1] = g * (a * s); y[2] = a * s * x[2];
    }
};
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_ew_run<3, 3>(c, st, body()); }
LM_CUDA_ONE(swiglu_back, "swiglu_back/cuda", lm_cuda_accepts_any, run)
