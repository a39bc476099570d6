/* finish.cuh — what follows a product of rows, one pair of sums at a time: for the kernels behind skinny.cuh.
 *
 * Rounding points are the separate steps': a product is rounded to bf16 where it would be stored as that (mid_bf16), a turned key too.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: a slot outside is told in p.fault. */
#ifndef LM_SKINNY_FINISH_CUH
#define LM_SKINNY_FINISH_CUH
#include "op/matmul/skinny.cuh"
__device__ __forceinline__ float lm_kept(float x, int bf16) { return bf16 ? __bfloat162float(__float2bfloat16_rn(x)) : x; }
/* the product of row r of a part with its bias. Roundings are spelt out here: what is contracted must not depend on the kernel this is in. */
__device__ __forceinline__ float lm_with_bias(const lm_skinny_part &w, int64_t r, float v) {
    const lm_cv b = { const_cast<void *>(w.bias), 0, w.bias_bf16 };
    return lm_kept(w.bias ? __fadd_rn(v, lm_ld1(b, r)) : v, w.mid_bf16);
}
/* what a row's sums are multiplied by where its norm is half done; s: its eight sums of squares, added in order */
__device__ __forceinline__ float lm_norm_factor(const lm_skinny &p, float s) { return 1.0f / sqrtf(__fadd_rn(s / static_cast<float>(p.K), p.eps)); }
__device__ __forceinline__ float lm_silu_times(float u, float v) { return u / __fadd_rn(1.0f, expf(-u)) * v; }
/* silu(gate)·up, column j; then of row m, to its place */
__device__ __forceinline__ float lm_gated(const lm_skinny &p, int64_t j, float u, float v) { return lm_silu_times(lm_with_bias(p.part[0], j, u), lm_with_bias(p.part[1], j, v)); }
__device__ __forceinline__ void lm_finish_gated(const lm_skinny &p, int m, int64_t j, float u, float v) { lm_st1(p.out, m * p.out.rs + j, lm_gated(p, j, u, v)); }
/* q, k, v: 32 + 32 rows of one head, which turn together; u counts them through the three parts */
struct lm_unit { int part, head, a; };
__device__ __forceinline__ lm_unit lm_unit_of(const lm_skinny &p, int u) {
    int r = u * 64;
    lm_unit x; x.part = 0;
    while (x.part < 2 && r >= static_cast<int>(p.part[x.part].rows)) r -= static_cast<int>(p.part[x.part++].rows);
    x.head = r / p.d; x.a = r % p.d / 2;
    return x;
}
__device__ __forceinline__ int lm_units_of(const lm_skinny &p) { return static_cast<int>((p.part[0].rows + p.part[1].rows + p.part[2].rows) / 64); }
/* Dimensions a and b = a + d/2 of head h of part i (q, k, v): turned by cosine c and sine s where i < 2. */
template <bool bias = true> __device__ __forceinline__ void lm_turn(const lm_skinny &p, int i, int64_t h, int a, int b, float &u, float &v, float c, float s) {
    if (bias) { u = lm_with_bias(p.part[i], h * p.d + a, u); v = lm_with_bias(p.part[i], h * p.d + b, v); }
    else { u = lm_kept(u, p.part[i].mid_bf16); v = lm_kept(v, p.part[i].mid_bf16); }
    if (i < 2) { const float x = u, y = v; u = fmaf(x, c, -__fmul_rn(y, s)); v = fmaf(y, c, __fmul_rn(x, s)); }
    if (i == 1) { u = lm_kept(u, p.k_bf16); v = lm_kept(v, p.k_bf16); }
}
/* Where dimension a of key (i = 1) or value (2) head h goes: of the token at `slot`, which has a page. */
__device__ __forceinline__ int64_t lm_page_at(const lm_skinny &p, int i, int64_t slot, int h, int a) {
    const int64_t page = slot / LM_KV_PAGE, tok = slot % LM_KV_PAGE, base = (page * (static_cast<int>(p.part[1].rows) / p.d) + h) * LM_KV_PAGE * p.d;
    return base + (i == 1 ? ((tok >> 4) * p.d + a) * 16 + (tok & 15) : tok * p.d + a);
}
__device__ __forceinline__ bool lm_has_page(const lm_skinny &p, int64_t slot) {
    if (slot < 0) return false;
    if (slot / LM_KV_PAGE < p.pages) return true;
    if (p.fault) *p.fault = LM_E_RANGE;
    return false;
}
/* the same pair, row m, to where it goes */
__device__ __forceinline__ void lm_finish_qkv(const lm_skinny &p, int m, int i, int64_t h, int a, int b, float u, float v, float c, float s) {
    lm_turn(p, i, h, a, b, u, v, c, s);
    if (i == 0) { lm_st1(p.out, m * p.out.rs + h * p.d + a, u); lm_st1(p.out, m * p.out.rs + h * p.d + b, v); return; }
    const int64_t slot = p.slot[m];
    if (!lm_has_page(p, slot)) return;
    const lm_cv to = { i == 1 ? p.kp : p.vp, 0, p.kv_bf16 };
    lm_st1(to, lm_page_at(p, i, slot, static_cast<int>(h), a), u);
    lm_st1(to, lm_page_at(p, i, slot, static_cast<int>(h), b), v);
}
#endif
