/* follow_cuda.cu — a few numbers. */
#include "op/overlap.cuh"
extern "C" {
#include "op/peak/peak.h"
}
struct args { const int32_t *token, *from; const float *best; int32_t *y; int64_t n, rows; int32_t *fault; };
static __global__ void __launch_bounds__(256) follow(const __grid_constant__ args a) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    lm_let_next_begin();
    lm_wait_before();
    if (i >= a.n) return;
    const int from = a.from[i];
    if (from >= a.rows && a.fault) *a.fault = LM_E_RANGE;
    a.y[i] = from < 0 || from >= a.rows ? a.token[i] : static_cast<int32_t>(a.best[static_cast<int64_t>(from) * LM_PEAK_BEST + 1]);
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 3; i++) if (!lm_is_contig(&c->in[i])) return false;
    return c->in[2].dtype == LM_F32 && lm_is_contig(&c->out[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { static_cast<const int32_t *>(c->in[0].data), static_cast<const int32_t *>(c->in[1].data),
                     static_cast<const float *>(c->in[2].data),   static_cast<int32_t *>(c->out[0].data),
                     c->in[0].dim[0], c->in[2].dim[0], c->fault };
    if (!a.n) return LM_OK;
    const bool early = c->dev && c->dev->features & LM_CUDA_SM90;
    return lm_launch_early(follow, a, dim3(LM_CUDA_GRID(a.n, 256)), 256, 0, 1, early, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ALONE(follow, "follow/cuda", accepts, run, NULL, NULL)
