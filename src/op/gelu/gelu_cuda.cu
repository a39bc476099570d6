/* gelu_cuda.cu — memory bound. The tanh form as x·σ(2u): nothing cancels. */
#include "op/cuda.cuh"
extern "C" {
#include "op/gelu/gelu.h"
}
struct by_tanh { __device__ void operator()(const float *x, float *y) const { const float v = x[0]; y[0] = v / (1.0f + expf(v * (v * v * -0.0713548162726f - 1.59576912161f))); } };
struct by_erf { __device__ void operator()(const float *x, float *y) const { y[0] = x[0] * normcdff(x[0]); } };
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    return static_cast<const lm_gelu_p *>(c->p)->tanh ? lm_ew_run<1, 1>(c, st, by_tanh()) : lm_ew_run<1, 1>(c, st, by_erf());
}
LM_CUDA_ALONE(gelu, "gelu/cuda", lm_cuda_accepts_any, run, NULL, NULL)
