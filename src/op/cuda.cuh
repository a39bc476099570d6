/* cuda.cuh — for *_cuda.cu files: how a kernel row runs on a CUDA device.
 *
 * A row of LM_DEV_CUDA has tensors in device memory and one phase of one tile. run() enqueues on the stream given as `scratch` (a cudaStream_t) and returns;
 * nothing waits. So the executor of a partial device needs no second kind of row. Launch shapes depend on the problem alone, sums have a fixed tree and no atomics:
 * bits depend on neither timing nor the number of rows.
 * Files are compiled only with LM_CUDA; the row lists them by LM_SIMD_CUDA_KERNELS, which without it is LM_SIMD_KERNELS.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE when a launch is refused. */
#ifndef LM_OP_CUDA_H
#define LM_OP_CUDA_H
#include <cuda_runtime.h>
extern "C" {
#include "op/rule.h"
}
static inline int64_t lm_cuda_one(const lm_call *c) { (void)c; return 1; }
static inline lm_err lm_cuda_launched(void) { return cudaGetLastError() == cudaSuccess ? LM_OK : LM_E_DEVICE; }
#define LM_CUDA_STREAM(scratch) static_cast<cudaStream_t>(scratch)
/* The sum of v over a block of `threads` (a multiple of 32): lanes by halves, then warps by halves. Every thread gets it. */
template <int threads> __device__ inline float lm_cuda_block_sum(float v) {
    __shared__ float part[threads / 32];
    for (int h = 16; h; h /= 2) v += __shfl_xor_sync(0xffffffffu, v, h);
    if (threads == 32) return v;
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[threadIdx.x % (threads / 32)];
    for (int h = threads / 64; h; h /= 2) v += __shfl_xor_sync(0xffffffffu, v, h);
    return v;
}
#endif
