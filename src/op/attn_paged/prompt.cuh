/* prompt.cuh — what the two files of bf16 attention over pages have in common: the arguments, which keys a row sees, and the Hopper form of
 * prompts (prompt_hopper_cuda.cu). For *_cuda.cu files.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_RANGE where counts leave 32 bits; LM_E_DEVICE when a launch is refused. */
#ifndef LM_PAGED_PROMPT_CUH
#define LM_PAGED_PROMPT_CUH
#include "op/attn/attn.cuh"
/* choose: rows 128k … 128k+127 go to `few` if they are scattered, else to a form for prompts; split: blocks that share a row in `few` */
struct paged {
    lm_cv q, o; const __nv_bfloat16 *k, *v; const int32_t *table, *seq, *pos; int64_t n, per, pages, window, seqs; int heads, kv, choose, split; float scale; int32_t *fault; bool early;
};
enum { PAGED_RUNS = 6 };
__device__ __forceinline__ int64_t first_seen(const paged &a, int64_t pos) { return a.window > 0 && pos - a.window + 1 > 0 ? pos - a.window + 1 : 0; }
/* Are the rows around row n (its 128) of more than a few sequences? Asked by whole warps. */
__device__ __forceinline__ bool scattered(const paged &a, int64_t n) {
    const int64_t from = n / 128 * 128, to = from + 128 < a.n ? from + 128 : a.n;
    int runs = 0;
    for (int64_t i = from + threadIdx.x % 32 + 1; i < to; i += 32) runs += a.seq[i] != a.seq[i - 1];
#pragma unroll
    for (int h = 16; h; h /= 2) runs += __shfl_xor_sync(0xffffffffu, runs, h);
    return runs >= PAGED_RUNS;
}
/* Does the Hopper form take this call's heads? counter: 4 bytes of the device; units: its multiprocessors. */
bool lm_paged_prompt_takes(const lm_call *c, int d);
lm_err lm_paged_prompt(const paged &p, int d, int *counter, int units, cudaStream_t s);
#endif
