/* attn_sinks_cuda.cu — attention's own kernels, then its rows once more in place: memory bound, read once, written once. */
#include "op/attn_sinks/heads.cuh"
extern "C" {
#include "op/attn_sinks/attn_sinks.h"
extern const lm_kernel lm_k_attn_hopper_cuda[], lm_k_attn_cuda[];
}
struct args { lm_cv y; float *lse; const float *s; unsigned items, heads; int d, lanes; };
template <bool wide> static __global__ void __launch_bounds__(256) rows(const args a) {
    const unsigned at = blockIdx.x * (256u / a.lanes) + threadIdx.x / a.lanes;
    const int lane = static_cast<int>(threadIdx.x % a.lanes);
    const bool on = at < a.items;
    const int64_t r = on ? at / a.heads : 0, h = on ? at - static_cast<unsigned>(r) * a.heads : 0, y = r * a.y.rs + h * a.d;
    float v[8];
    if (wide && on && lane * 8 < a.d) lm_ld8(a.y, y + lane * 8, v);
    const float lse = on ? a.lse[at] : 0.0f, s = on ? a.s[h] : 0.0f, e = expf(-fabsf(s - lse)), z = 1.0f / (1.0f + e), keep = s > lse ? e * z : z;
    __syncwarp();                                                         /* lse is overwritten */
    if (!on) return;
    if (lane == 0) a.lse[at] = fmaxf(lse, s) + log1pf(e);
    if (!wide) { for (int k = lane; k < a.d; k += a.lanes) lm_st1(a.y, y + k, lm_ld1(a.y, y + k) * keep); return; }
    if (lane * 8 >= a.d) return;
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] *= keep;
    lm_st8(a.y, y + lane * 8, v);
}
static lm_call plain(const lm_call *c) { lm_call a = *c; a.op = &lm_op_attn; a.n_in = 4; return a; }
static lm_err with(const lm_kernel *attention, const lm_call *c, void *scratch) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    const lm_call plainly = plain(c);
    const int64_t items = c->in[0].dim[0] * p->n_head;
    if (!items) return LM_OK;
    if (items > INT32_MAX) return LM_E_RANGE;
    LM_TRY(attention->phase[0].run(&plainly, 0, scratch));
    const lm_cv y = lm_cv_of(&c->out[0]);
    const int lanes = lm_head_lanes(&y, 1, p->d_head);
    const args a = { y, static_cast<float *>(c->out[1].data), static_cast<const float *>(c->in[4].data), static_cast<unsigned>(items), static_cast<unsigned>(p->n_head), p->d_head, lanes ? lanes : 32 };
    const unsigned grid = LM_CUDA_GRID(items, 256 / a.lanes);
    if (lanes) rows<true><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else rows<false><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static bool takes(const lm_kernel *attention, const lm_call *c) {
    const lm_call plainly = plain(c);
    return attention->accepts(&plainly) && c->in[4].dtype == LM_F32 && c->in[4].layout == LM_PLAIN && lm_is_contig(&c->in[4]) && c->out[1].dtype == LM_F32 && lm_is_contig(&c->out[1]);
}
static bool accepts(const lm_call *c) { return takes(lm_k_attn_cuda, c); }
static bool accepts_hopper(const lm_call *c) { return takes(lm_k_attn_hopper_cuda, c); }
static size_t shared(const lm_call *c) { const lm_call a = plain(c); return lm_k_attn_cuda->shared_bytes ? lm_k_attn_cuda->shared_bytes(&a) : 0; }
static size_t shared_hopper(const lm_call *c) { const lm_call a = plain(c); return lm_k_attn_hopper_cuda->shared_bytes ? lm_k_attn_hopper_cuda->shared_bytes(&a) : 0; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return with(lm_k_attn_cuda, c, scratch); }
static lm_err run_hopper(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return with(lm_k_attn_hopper_cuda, c, scratch); }
extern "C" {
extern const lm_kernel lm_k_attn_sinks_cuda[];
const lm_kernel lm_k_attn_sinks_cuda[] = {
    { "attn_sinks.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "attn_sinks/hopper", accepts_hopper, shared_hopper, NULL, 1, { { lm_cuda_one, run_hopper } }, NULL },
    { "attn_sinks.cuda", LM_DEV_CUDA, LM_CUDA_SM80, "attn_sinks/cuda", accepts, shared, NULL, 1, { { lm_cuda_one, run } }, NULL }, {}
};
}
