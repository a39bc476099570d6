/* mul_cuda.cu — memory bound. */
#include "op/broadcast.cuh"
struct body { __device__ float operator()(float a, float b) const { return a * b; } };
static lm_err run(const lm_call *c, int64_t t, void *st) { (void)t; return lm_bc_run(c, st, body()); }
LM_CUDA_ALONE(mul, "mul/cuda", lm_cuda_accepts_any, run, NULL, NULL)
