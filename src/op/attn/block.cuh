/* block.cuh — what the Hopper forwards over rows (attn) and over pages (attn_paged) do alike with a block of scores in a warpgroup's accumulator:
 * 64 queries × BN keys, laid out as device/hopper.cuh says. For *_hopper_cuda.cu files. */
#ifndef LM_ATTN_BLOCK_CUH
#define LM_ATTN_BLOCK_CUH
#include "op/attn/attn.cuh"
#ifdef LM_HOPPER_CODE
/* Softmax of one block in place: s becomes exp2(scale2·(s - most)); keep: by what older sums shrink. */
template <int BN> __device__ __forceinline__ void lm_block_softmax(float *s, float *top, float *sum, float *keep, float s2) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
        float most = top[e];
#pragma unroll
        for (int x = 0; x < BN / 8; x++) most = fmaxf(most, fmaxf(s[4 * x + 2 * e], s[4 * x + 2 * e + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1)); most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        const float base = most == -INFINITY ? 0.0f : most * s2;
        keep[e] = lm_exp2(fmaf(top[e], s2, -base));
        top[e] = most;
        float add = 0;
#pragma unroll
        for (int x = 0; x < BN / 8; x++)
#pragma unroll
            for (int c = 0; c < 2; c++) { float &v = s[4 * x + 2 * e + c]; v = lm_exp2(fmaf(v, s2, -base)); add += v; }
        sum[e] = fmaf(sum[e], keep[e], add);
    }
}
template <int BN> __device__ __forceinline__ void lm_block_pack(uint32_t (*p)[4], const float *s) {
#pragma unroll
    for (int k = 0; k < BN / 16; k++) lm_frag_of(p[k], s + 8 * k, s + 8 * k + 4);
}
#endif
#endif
