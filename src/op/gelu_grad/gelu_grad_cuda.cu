/* gelu_grad_cuda.cu — memory bound. */
#include "op/cuda.cuh"
extern "C" {
#include "op/gelu/gelu.h"
}
struct by_tanh {
    __device__ void operator()(const float *x, float *y) const {
        const float v = x[1], z = v * v, s = lm_cuda_sigmoid(v * (z * 0.0713548162726f + 1.59576912161f));
        y[0] = x[0] * (s + s * (1.0f - s) * v * (z * 0.2140644488178f + 1.59576912161f));
    }
};
struct by_erf { __device__ void operator()(const float *x, float *y) const { const float v = x[1]; y[0] = x[0] * (normcdff(v) + v * expf(v * v * -0.5f) * 0.398942280401432678f); } };
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    return static_cast<const lm_gelu_p *>(c->p)->tanh ? lm_ew_run<2, 1>(c, st, by_tanh()) : lm_ew_run<2, 1>(c, st, by_erf());
}
LM_CUDA_ONE(gelu_grad, "gelu_grad/cuda", lm_cuda_accepts_any, run)
