/* attn_sink_grad_cuda.cu — memory bound: two read, one written. */
#include "op/attn_sink/heads.cuh"
extern "C" {
#include "op/attn_sink_grad/attn_sink_grad.h"
}
struct args { lm_cv dy, o, lse, dl, dx, dlse, ds; const float *s; unsigned items, heads; int d, lanes; };
template <bool wide> static __global__ void __launch_bounds__(256) rows(const args a) {
    const unsigned at = blockIdx.x * (256u / a.lanes) + threadIdx.x / a.lanes;
    const int lane = static_cast<int>(threadIdx.x % a.lanes);
    const bool on = at < a.items, mine = on && lane * 8 < a.d;           /* all lanes of a warp take part in its sums */
    const int64_t r = on ? at / a.heads : 0, h = on ? at - static_cast<unsigned>(r) * a.heads : 0;
    const int64_t g = r * a.dy.rs + h * a.d, x = r * a.o.rs + h * a.d, to = r * a.dx.rs + h * a.d;
    float v[8], u[8], t = 0;
    if (wide && mine) {
        lm_ld8(a.dy, g + lane * 8, v); lm_ld8(a.o, x + lane * 8, u);
#pragma unroll
        for (int e = 0; e < 8; e++) t += v[e] * u[e];
    }
    if (!wide && on) for (int k = lane; k < a.d; k += a.lanes) t += lm_ld1(a.dy, g + k) * lm_ld1(a.o, x + k);
    t = lm_lanes_sum(t, a.lanes);
    if (!on) return;
    const lm_sink_w w = lm_sink_of(lm_ld1(a.lse, r * a.lse.rs + h), a.s[h]);
    if (lane == 0) {
        const float both = t * w.sink * w.keep, l = a.dl.p ? lm_ld1(a.dl, r * a.dl.rs + h) : 0.0f;
        lm_st1(a.dlse, r * a.dlse.rs + h, both + l * w.keep);
        lm_st1(a.ds, r * a.ds.rs + h, l * w.sink - both);
    }
    if (!wide) { for (int k = lane; k < a.d; k += a.lanes) lm_st1(a.dx, to + k, lm_ld1(a.dy, g + k) * w.keep); return; }
    if (!mine) return;
#pragma unroll
    for (int e = 0; e < 8; e++) v[e] *= w.keep;
    lm_st8(a.dx, to + lane * 8, v);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t H = c->in[3].dim[0], D = lm_cols(&c->in[0]) / H, items = c->in[0].dim[0] * H;
    if (!items || !D) return LM_OK;
    if (items > INT32_MAX || D > INT32_MAX) return LM_E_RANGE;
    const lm_cv v[3] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]) }, none = { NULL, 0, 0 };
    const int lanes = lm_head_lanes(v, 3, D);
    const args a = { v[0], v[1], lm_cv_of(&c->in[2]), lm_has(c, 4) ? lm_cv_of(&c->in[4]) : none, v[2], lm_cv_of(&c->out[1]), lm_cv_of(&c->out[2]),
                     static_cast<const float *>(c->in[3].data), static_cast<unsigned>(items), static_cast<unsigned>(H), static_cast<int>(D), lanes ? lanes : 32 };
    const unsigned grid = LM_CUDA_GRID(items, 256 / a.lanes);
    if (lanes) rows<true><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else rows<false><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 3, 1); }
LM_CUDA_ONE(attn_sink_grad, "attn_sink_grad/cuda", accepts, run)
