/* heads.cuh — rows of heads on a CUDA device, for attn_sink and its gradient: a power of two of threads has a head of a row, eight numbers each (d_head up
 * to 256, rows that are aligned), else a warp walks it one number at a time. A head's bits depend on its length and alignment alone. */
#ifndef LM_ATTN_SINK_HEADS_CUH
#define LM_ATTN_SINK_HEADS_CUH
#include "op/cuda.cuh"
/* Lanes of a head of d numbers taken eight at a time; 0: that is not possible. */
static inline int lm_head_lanes(const lm_cv *v, int n, int64_t d) {
    if (d > 256 || !lm_cuda_vec8(v, n, d)) return 0;
    int lanes = 1;
    while (lanes * 8 < d) lanes *= 2;
    return lanes;
}
static __device__ __forceinline__ float lm_lanes_sum(float v, int lanes) {
    for (int h = lanes / 2; h; h /= 2) v += __shfl_xor_sync(0xffffffffu, v, h);
    return v;
}
/* Of d = s - lse: keep = 1/(1 + e^d), sink the rest of one without its rounding; e = e^-|d|. */
struct lm_sink_w { float keep, sink, e; };
static __device__ __forceinline__ lm_sink_w lm_sink_of(float lse, float s) {
    const float d = s - lse, e = expf(-fabsf(d)), z = 1.0f / (1.0f + e);
    return { d > 0.0f ? e * z : z, d > 0.0f ? z : e * z, e };
}
#endif
