/* kv_write_cuda.cu — numbers move and round once. A warp has sixteen rows and sixteen dimensions of a head: rows of a prompt go to neighbouring
 * tokens, which lie side by side in the keys, so that a store of the warp fills whole sectors. Other shapes: a thread per element. */
#include <cuda_fp16.h>
#include "op/cuda.cuh"
extern "C" {
#include "op/kv_write/kv_write.h"
}
struct args { lm_cv k, v; void *kp, *vp; const int32_t *slot; int64_t n, hd, pages; int heads, d, bf16; int32_t *fault; };
/* F16: pages of half, known when this is compiled; else bf16 or f32. */
template <bool F16> __device__ __forceinline__ void put(void *p, int bf16, int64_t at, float x) {
    if (F16) static_cast<__half *>(p)[at] = __float2half_rn(x);
    else if (bf16) static_cast<__nv_bfloat16 *>(p)[at] = __float2bfloat16_rn(x); else static_cast<float *>(p)[at] = x;
}
template <bool F16> __global__ void __launch_bounds__(256) write(const args a) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= a.n * a.hd) return;
    const int64_t r = i / a.hd, q = i - r * a.hd, h = q / a.d, d = q - h * a.d, slot = a.slot[r];
    if (slot < 0) return;
    const int64_t page = slot / LM_KV_PAGE, t = slot % LM_KV_PAGE, base = (page * a.heads + h) * LM_KV_PAGE * a.d;
    if (page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; return; }
    put<F16>(a.kp, a.bf16, base + ((t >> 4) * a.d + d) * 16 + (t & 15), lm_ld1(a.k, r * a.k.rs + q));
    put<F16>(a.vp, a.bf16, base + t * a.d + d, lm_ld1(a.v, r * a.v.rs + q));
}
template <bool F16> __global__ void __launch_bounds__(256) write16(const args a) {
    const int lane = threadIdx.x % 32, per = static_cast<int>(a.hd / 16);
    const int64_t unit = static_cast<int64_t>(blockIdx.x) * 8 + threadIdx.x / 32, r = unit / per * 16 + lane % 16; const int q = static_cast<int>(unit % per) * 16 + lane / 16 * 8;
    if (r >= a.n) return;
    const int64_t slot = a.slot[r];
    if (slot < 0) return;
    const int h = q / a.d, d = q - h * a.d;
    const int64_t page = slot / LM_KV_PAGE, t = slot % LM_KV_PAGE, base = (page * a.heads + h) * LM_KV_PAGE * a.d;
    if (page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; return; }
    float k[8], v[8];
    lm_ld8(a.k, r * a.k.rs + q, k); lm_ld8(a.v, r * a.v.rs + q, v);
#pragma unroll
    for (int e = 0; e < 8; e++) put<F16>(a.kp, a.bf16, base + ((t >> 4) * a.d + d + e) * 16 + (t & 15), k[e]);
    if constexpr (F16) {
#pragma unroll
        for (int e = 0; e < 8; e++) put<F16>(a.vp, 0, base + t * a.d + d + e, v[e]);
    } else {
        const lm_cv to = { a.vp, 0, a.bf16 };
        lm_st8(to, base + t * a.d + d, v);
    }
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 2; i++) {
        const lm_tensor *pg = &c->in[i];
        if ((pg->dtype != LM_F32 && pg->dtype != LM_BF16 && pg->dtype != LM_F16) || pg->dtype != c->in[0].dtype || !lm_is_contig(pg) || !lm_cuda_float(&c->in[2 + i])) return false;
    }
    return lm_is_contig(&c->in[4]);
}
template <bool F16> static lm_err with(const args &a, cudaStream_t s) {
    const lm_cv x[2] = { a.k, a.v };
    if (a.d % 16 == 0 && lm_cuda_vec8(x, 2, a.hd)) write16<F16><<<LM_CUDA_GRID(lm_ceil_div(a.n, static_cast<int64_t>(16)) * (a.hd / 16), 8), 256, 0, s>>>(a);
    else write<F16><<<LM_CUDA_GRID(a.n * a.hd, 256), 256, 0, s>>>(a);
    return lm_cuda_launched();
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_kv_write_p *p = static_cast<const lm_kv_write_p *>(c->p);
    const args a = { lm_cv_of(&c->in[2]), lm_cv_of(&c->in[3]), c->out[0].data, c->out[1].data, static_cast<const int32_t *>(c->in[4].data), c->in[2].dim[0], static_cast<int64_t>(p->n_kv) * p->d_head,
                     c->out[0].dim[0], p->n_kv, p->d_head, c->out[0].dtype == LM_BF16, c->fault };
    if (!a.n) return LM_OK;
    return c->out[0].dtype == LM_F16 ? with<true>(a, LM_CUDA_STREAM(scratch)) : with<false>(a, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ALONE(kv_write, "kv_write", accepts, run, NULL, NULL)
