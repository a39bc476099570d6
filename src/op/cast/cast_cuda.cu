/* cast_cuda.cu — memory bound. */
#include "op/cast/cast.cuh"
static bool accepts(const lm_call *c) { return lm_cast_cuda_ok(&c->in[0]) && lm_cast_cuda_ok(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return lm_cast_cuda(&c->in[0], &c->out[0], LM_CUDA_STREAM(scratch)); }
LM_CUDA_ONE(cast, "cast", accepts, run)
