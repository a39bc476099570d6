/* axpby_cuda.cu — memory bound. */
#include "op/cuda.cuh"
extern "C" {
#include "op/axpby/axpby.h"
}
struct body { float a, b; __device__ void operator()(const float *x, float *y) const { y[0] = a * x[0] + b * x[1]; } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; const lm_axpby_p *p = static_cast<const lm_axpby_p *>(c->p); const body f = { p->alpha, p->beta }; return lm_ew_run<2, 1>(c, st, f); }
LM_CUDA_ONE(axpby, "axpby/cuda", lm_cuda_accepts_any, run)
