/* scale_cuda.cu — memory bound. */
#include "op/cuda.cuh"
extern "C" {
#include "op/scale/scale.h"
}
struct body { float s; __device__ void operator()(const float *x, float *y) const { y[0] = x[0] * s; } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; const body f = { static_cast<const lm_scale_p *>(c->p)->s }; return lm_ew_run<1, 1>(c, st, f); }
LM_CUDA_ALONE(scale, "scale/cuda", lm_cuda_accepts_any, run, NULL, NULL)
