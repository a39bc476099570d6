/* finish.cuh — what follows a product of few rows, one pair of sums at a time: for the kernels behind skinny.cuh.
 *
 * Rounding points are the separate steps': a product is rounded to bf16 where it would be stored as that (mid_bf16), a turned key too.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: a slot outside is told in p.fault. */
#ifndef LM_SKINNY_FINISH_CUH
#define LM_SKINNY_FINISH_CUH
#include "op/matmul/skinny.cuh"
__device__ __forceinline__ float lm_kept(float x, int bf16) { return bf16 ? __bfloat162float(__float2bfloat16_rn(x)) : x; }
/* the product of row r of a part with its bias */
__device__ __forceinline__ float lm_with_bias(const lm_skinny_part &w, int64_t r, float v) {
    const lm_cv b = { const_cast<void *>(w.bias), 0, w.bias_bf16 };
    return lm_kept(w.bias ? v + lm_ld1(b, r) : v, w.mid_bf16);
}
/* silu(gate)·up, column j */
__device__ __forceinline__ float lm_gated(const lm_skinny &p, int64_t j, float u, float v) {
    u = lm_with_bias(p.part[0], j, u); v = lm_with_bias(p.part[1], j, v);
    return u / (1.0f + expf(-u)) * v;
}
/* of row m, to its place */
__device__ __forceinline__ void lm_finish_gated(const lm_skinny &p, int m, int64_t j, float u, float v) { lm_st1(p.out, m * p.out.rs + j, lm_gated(p, j, u, v)); }
/* Dimensions a and b of head h of part i (q, k, v), row m: turned by cosine c and sine s where i < 2 (then b = a + d/2), and to where they go. */
__device__ __forceinline__ void lm_finish_qkv(const lm_skinny &p, int m, int i, int64_t h, int a, int b, float u, float v, float c, float s) {
    u = lm_with_bias(p.part[i], h * p.d + a, u); v = lm_with_bias(p.part[i], h * p.d + b, v);
    if (i < 2) { const float x = u, y = v; u = fmaf(x, c, -(y * s)); v = fmaf(y, c, x * s); }
    if (i == 0) { lm_st1(p.out, m * p.out.rs + h * p.d + a, u); lm_st1(p.out, m * p.out.rs + h * p.d + b, v); return; }
    if (i == 1) { u = lm_kept(u, p.k_bf16); v = lm_kept(v, p.k_bf16); }
    const int64_t slot = p.slot[m];
    if (slot < 0) return;
    const int64_t page = slot / LM_KV_PAGE, tok = slot % LM_KV_PAGE, base = (page * (p.part[1].rows / p.d) + h) * LM_KV_PAGE * p.d;
    if (page >= p.pages) { if (p.fault) *p.fault = LM_E_RANGE; return; }
    const lm_cv to = { i == 1 ? p.kp : p.vp, 0, p.kv_bf16 };
    lm_st1(to, base + (i == 1 ? ((tok >> 4) * p.d + a) * 16 + (tok & 15) : tok * p.d + a), u);
    lm_st1(to, base + (i == 1 ? ((tok >> 4) * p.d + b) * 16 + (tok & 15) : tok * p.d + b), v);
}
#endif
