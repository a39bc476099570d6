/* dropout_cuda.cu — Philox 4x32-10, a block of four draws per thread; the words are those of lm_rng_block. */
#include "op/cuda.cuh"
#include "op/philox.cuh"
extern "C" {
#include "op/dropout/dropout.h"
}
static __global__ void __launch_bounds__(256) drop(const lm_cv x, const lm_cv y, const int64_t *rng, uint64_t stream, float p, float up, int64_t n) {
    const int64_t b = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (b * 4 >= n) return;
    uint32_t w[4];
    lm_philox(static_cast<uint64_t>(rng[0]), stream ^ static_cast<uint64_t>(rng[1]) * 0x9E3779B97F4A7C15u, static_cast<uint64_t>(b), w);
#pragma unroll
    for (int e = 0; e < 4; e++) if (b * 4 + e < n) lm_st1(y, b * 4 + e, static_cast<float>(w[e] >> 8) * 0x1p-24f >= p ? lm_ld1(x, b * 4 + e) * up : 0.0f);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 1) && lm_is_contig(&c->in[0]) && lm_is_contig(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_dropout_p *p = static_cast<const lm_dropout_p *>(c->p); const int64_t n = lm_numel(&c->in[0]);
    if (n) drop<<<LM_CUDA_GRID(n, 1024), 256, 0, LM_CUDA_STREAM(scratch)>>>(lm_cv_of(&c->in[0]), lm_cv_of(&c->out[0]), static_cast<const int64_t *>(c->in[1].data), p->stream, p->p, 1.0f / (1.0f - p->p), n);
    return lm_cuda_launched();
}
LM_CUDA_ONE(dropout, "dropout/cuda", accepts, run)
