/* assign_cuda.cu — cast's kernel, writing into input 0. */
#include "op/cast/cast.cuh"
static bool accepts(const lm_call *c) { return lm_cast_cuda_ok(&c->in[1]) && lm_cast_cuda_ok(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return lm_cast_cuda(&c->in[1], &c->out[0], LM_CUDA_STREAM(scratch)); }
LM_CUDA_ONE(assign, "cast", accepts, run)
