/* muon_momentum_cuda.cu — memory bound: 20 bytes per element. */
#include "op/cuda.cuh"
extern "C" {
#include "op/hyper.h"
#include "op/muon_momentum/muon_momentum.h"
}
static __global__ void __launch_bounds__(256) momentum(float *y, float *gr, float *b, const float *h, const float *scale, int nesterov, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= n) return;
    const float om = 1.0f - h[LM_HYPER_BETA1], g = __fmul_rn(gr[i], *scale), b0 = b[i], b1 = b0 + (g - b0) * om;
    y[i] = nesterov ? b1 - (b1 - g) * om : b1;
    b[i] = b1; gr[i] = 0;
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 4; i++) if (!lm_is_f32_vec(&c->in[i])) return false;
    return lm_is_f32_vec(&c->out[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t n = lm_numel(&c->in[0]);
    if (n) momentum<<<LM_CUDA_GRID(n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(static_cast<float *>(c->out[0].data), static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data),
                                                                               static_cast<const float *>(c->in[2].data), static_cast<const float *>(c->in[3].data),
                                                                               static_cast<const lm_muon_momentum_p *>(c->p)->nesterov, n);
    return lm_cuda_launched();
}
LM_CUDA_ONE(muon_momentum, "muon_momentum/cuda", accepts, run)
