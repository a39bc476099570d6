/* attn_sinks_cuda.cu — attention's own kernels. The Hopper one knows sinks (attn_hopper_cuda.cu); behind the others its rows are taken once more in place: memory bound,
 * read once, written once. Results in bf16 are rounded twice so, which only products in bf16 allow. */
#include "op/attn_sinks/heads.cuh"
#include "op/attn_sinks/sink.cuh"
extern "C" {
#include "op/attn_sinks/attn_sinks.h"
extern const lm_kernel lm_k_attn_hopper_cuda[], lm_k_attn_cuda[];
}
struct args { lm_cv y; float *lse; const float *s; unsigned items, heads; int d, lanes; };
template <bool wide> static __global__ void __launch_bounds__(256) sunk(const args a) {
    const unsigned at = blockIdx.x * (256u / a.lanes) + threadIdx.x / a.lanes;
    const int lane = static_cast<int>(threadIdx.x % a.lanes);
    const bool on = at < a.items;
    const int64_t r = on ? at / a.heads : 0, h = on ? at - static_cast<unsigned>(r) * a.heads : 0, y = r * a.y.rs + h * a.d;
    float v[8];
    if (wide && on && lane * 8 < a.d) lm_ld8(a.y, y + lane * 8, v);
    const lm_sunk w = on ? lm_sink(a.lse[at], a.s[h]) : lm_sunk{ 0.0f, 0.0f };
    __syncwarp();                                                         /* lse is overwritten */
    if (!on) return;
    if (lane == 0) a.lse[at] = w.lse;
    if (!wide) { for (int k = lane; k < a.d; k += a.lanes) lm_st1(a.y, y + k, lm_ld1(a.y, y + k) * w.keep); return; }
    if (lane * 8 >= a.d) return;
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= w.keep;
    lm_st8(a.y, y + lane * 8, v);
}
static lm_call plain(const lm_call *c) { lm_call a = *c; a.op = &lm_op_attn; a.n_in = 4; return a; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    const lm_call plainly = plain(c);
    const int64_t items = c->in[0].dim[0] * p->n_head;
    if (!items) return LM_OK;
    if (items > INT32_MAX) return LM_E_RANGE;
    LM_TRY(lm_k_attn_cuda->phase[0].run(&plainly, tile, scratch));
    const lm_cv y = lm_cv_of(&c->out[0]);
    const int lanes = lm_head_lanes(&y, 1, p->d_head);
    const args a = { y, static_cast<float *>(c->out[1].data), static_cast<const float *>(c->in[4].data), static_cast<unsigned>(items), static_cast<unsigned>(p->n_head), p->d_head, lanes ? lanes : 32 };
    const unsigned grid = LM_CUDA_GRID(items, 256 / a.lanes);
    if (lanes) sunk<true><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else sunk<false><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool accepts(const lm_call *c) {
    const lm_call plainly = plain(c);
    const bool once = c->in[0].dtype == LM_F32 && c->out[0].dtype == LM_F32;
    return lm_is_f32_vec(&c->in[4]) && (once || static_cast<const lm_attn_p *>(c->p)->mm == LM_BF16) && c->out[1].dtype == LM_F32 && lm_is_contig(&c->out[1]) && lm_k_attn_cuda->accepts(&plainly);
}
static size_t shared(const lm_call *c) { const lm_call plainly = plain(c); return lm_k_attn_cuda->shared_bytes ? lm_k_attn_cuda->shared_bytes(&plainly) : 0; }
static lm_err run_hopper(const lm_call *c, int64_t tile, void *scratch) { return lm_k_attn_hopper_cuda->phase[0].run(c, tile, scratch); }
static bool accepts_hopper(const lm_call *c) { return lm_is_f32_vec(&c->in[4]) && lm_k_attn_hopper_cuda->accepts(c); }
static size_t shared_hopper(const lm_call *c) { return lm_k_attn_hopper_cuda->shared_bytes(c); }
extern "C" {
extern const lm_kernel lm_k_attn_sinks_cuda[];
const lm_kernel lm_k_attn_sinks_cuda[] = {
    { "attn_sinks.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "attn_sinks/hopper", accepts_hopper, shared_hopper, NULL, 1, { { lm_cuda_one, run_hopper } }, NULL },
    { "attn_sinks.cuda", LM_DEV_CUDA, LM_CUDA_SM80, "attn_sinks/cuda", accepts, shared, NULL, 1, { { lm_cuda_one, run } }, NULL }, {}
};
}
