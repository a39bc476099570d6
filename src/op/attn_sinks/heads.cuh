/* heads.cuh — rows of heads on a CUDA device, for attn_sinks and its gradient: a power of two of threads has a head of a row, eight numbers each (d_head up
 * to 256, rows that are aligned), else a warp walks it one number at a time. A head's bits depend on its length and alignment alone.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_ATTN_SINKS_HEADS_CUH
#define LM_ATTN_SINKS_HEADS_CUH
#include "op/cuda.cuh"
/* Lanes of a head of d numbers taken eight at a time; 0: that is not possible. */
static inline int lm_head_lanes(const lm_cv *v, int n, int64_t d) {
    if (d > 256 || !lm_cuda_vec8(v, n, d)) return 0;
    int lanes = 1;
    while (lanes * 8 < d) lanes *= 2;
    return lanes;
}
#endif
