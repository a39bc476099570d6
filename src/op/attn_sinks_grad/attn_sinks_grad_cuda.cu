/* attn_sinks_grad_cuda.cu — memory bound: two read. */
#include "op/attn_sinks/heads.cuh"
extern "C" {
#include "op/attn_sinks_grad/attn_sinks_grad.h"
}
struct args { lm_cv y, lse, dy, dl, ds; const float *s; unsigned items, heads; int d, lanes; };
template <bool wide> static __global__ void __launch_bounds__(256) dots(const args a) {
    const unsigned at = blockIdx.x * (256u / a.lanes) + threadIdx.x / a.lanes;
    const int lane = static_cast<int>(threadIdx.x % a.lanes);
    const bool on = at < a.items && a.dy.p;                              /* all lanes of a warp take part in its sums */
    const int64_t r = at < a.items ? at / a.heads : 0, h = at < a.items ? at - static_cast<unsigned>(r) * a.heads : 0, y = r * a.y.rs + h * a.d, g = r * a.dy.rs + h * a.d;
    float t = 0;
    if (wide && on && lane * 8 < a.d) {
        float u[8], v[8];
        lm_ld8(a.y, y + lane * 8, u); lm_ld8(a.dy, g + lane * 8, v);
#pragma unroll
        for (int e = 0; e < 8; e++) t += u[e] * v[e];
    }
    if (!wide && on) for (int k = lane; k < a.d; k += a.lanes) t += lm_ld1(a.dy, g + k) * lm_ld1(a.y, y + k);
    for (int i = a.lanes / 2; i; i /= 2) t += __shfl_xor_sync(0xffffffffu, t, i);
    if (lane || at >= a.items) return;
    const float dl = a.dl.p ? lm_ld1(a.dl, r * a.dl.rs + h) : 0.0f;
    lm_st1(a.ds, r * a.ds.rs + h, expf(a.s[h] - lm_ld1(a.lse, r * a.lse.rs + h)) * (dl - t));
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t H = c->in[2].dim[0], D = lm_cols(&c->in[0]) / H, items = c->in[0].dim[0] * H;
    if (!items) return LM_OK;
    if (items > INT32_MAX || D > INT32_MAX) return LM_E_RANGE;
    const lm_cv none = { NULL, 0, 0 }, v[2] = { lm_cv_of(&c->in[0]), lm_has(c, 3) ? lm_cv_of(&c->in[3]) : none };
    const int lanes = lm_head_lanes(v, 2, D);
    const args a = { v[0], lm_cv_of(&c->in[1]), v[1], lm_has(c, 4) ? lm_cv_of(&c->in[4]) : none, lm_cv_of(&c->out[0]), static_cast<const float *>(c->in[2].data), static_cast<unsigned>(items),
                     static_cast<unsigned>(H), static_cast<int>(D), lanes ? lanes : 32 };
    const unsigned grid = LM_CUDA_GRID(items, 256 / a.lanes);
    if (lanes) dots<true><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else dots<false><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1 | 8, 0); }
LM_CUDA_ONE(attn_sinks_grad, "attn_sinks_grad/cuda", accepts, run)
