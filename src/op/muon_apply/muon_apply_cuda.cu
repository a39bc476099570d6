/* muon_apply_cuda.cu — memory bound: 12 bytes per element. */
#include "op/cuda.cuh"
extern "C" {
#include "op/hyper.h"
#include "op/muon_apply/muon_apply.h"
}
static __global__ void __launch_bounds__(256) apply(float *p, const float *u, const float *h, float factor, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= n) return;
    const float keep = static_cast<float>(1.0 - static_cast<double>(h[LM_HYPER_LR]) * static_cast<double>(h[LM_HYPER_WD])), step = h[LM_HYPER_LR] * factor;
    p[i] = p[i] * keep - u[i] * step;
}
static bool accepts(const lm_call *c) { return lm_is_f32_vec(&c->in[0]) && lm_is_f32_vec(&c->in[1]) && lm_is_f32_vec(&c->in[2]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t n = lm_numel(&c->in[0]);
    if (n) apply<<<LM_CUDA_GRID(n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(static_cast<float *>(c->out[0].data), static_cast<const float *>(c->in[1].data), static_cast<const float *>(c->in[2].data),
                                                                            static_cast<const lm_muon_apply_p *>(c->p)->factor, n);
    return lm_cuda_launched();
}
LM_CUDA_ONE(muon_apply, "muon_apply/cuda", accepts, run)
