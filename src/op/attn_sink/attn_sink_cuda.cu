/* attn_sink_cuda.cu — memory bound: read once, written once. */
#include "op/attn_sink/heads.cuh"
extern "C" {
#include "op/attn_sink/attn_sink.h"
}
struct args { lm_cv o, lse, y, all; const float *s; unsigned items, heads; int d, lanes; };
template <bool wide> static __global__ void __launch_bounds__(256) rows(const args a) {
    const unsigned at = blockIdx.x * (256u / a.lanes) + threadIdx.x / a.lanes;
    const int lane = static_cast<int>(threadIdx.x % a.lanes);
    if (at >= a.items) return;
    const int64_t r = at / a.heads, h = at - static_cast<unsigned>(r) * a.heads, x = r * a.o.rs + h * a.d, y = r * a.y.rs + h * a.d;
    float v[8];
    if (wide && lane * 8 < a.d) lm_ld8(a.o, x + lane * 8, v);
    const float lse = lm_ld1(a.lse, r * a.lse.rs + h), s = a.s[h];
    const lm_sink_w w = lm_sink_of(lse, s);
    if (lane == 0) lm_st1(a.all, r * a.all.rs + h, fmaxf(lse, s) + log1pf(w.e));
    if (!wide) { for (int k = lane; k < a.d; k += a.lanes) lm_st1(a.y, y + k, lm_ld1(a.o, x + k) * w.keep); return; }
    if (lane * 8 >= a.d) return;
#pragma unroll
    for (int e = 0; e < 8; e++) v[e] *= w.keep;
    lm_st8(a.y, y + lane * 8, v);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t H = c->in[2].dim[0], D = lm_cols(&c->in[0]) / H, items = c->in[0].dim[0] * H;
    if (!items || !D) return LM_OK;
    if (items > INT32_MAX || D > INT32_MAX) return LM_E_RANGE;
    const lm_cv v[2] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->out[0]) };
    const int lanes = lm_head_lanes(v, 2, D);
    const args a = { v[0], lm_cv_of(&c->in[1]), v[1], lm_cv_of(&c->out[1]), static_cast<const float *>(c->in[2].data), static_cast<unsigned>(items), static_cast<unsigned>(H),
                     static_cast<int>(D), lanes ? lanes : 32 };
    const unsigned grid = LM_CUDA_GRID(items, 256 / a.lanes);
    if (lanes) rows<true><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else rows<false><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 1); }
LM_CUDA_ONE(attn_sink, "attn_sink/cuda", accepts, run)
