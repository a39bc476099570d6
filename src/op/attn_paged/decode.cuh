/* decode.cuh — attention of few rows over bf16 pages on Hopper (decode_hopper_cuda.cu): for attn_paged_cuda.cu.
 *
 * Takes what paged_cuda.cuh's `few` takes, heads of 64 and 128; p.split blocks (1, 2, 4 or 8) have a row and kv head.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_RANGE where counts leave 32 bits; LM_E_DEVICE when a launch is refused. */
#ifndef LM_PAGED_DECODE_CUH
#define LM_PAGED_DECODE_CUH
#include "op/attn_paged/prompt.cuh"
bool lm_paged_decode_takes(const lm_dev *dev, int d);
lm_err lm_paged_decode(const paged &p, int d, cudaStream_t s);
/* The same rows with the same bits, where p.split > 1: of prompts, which share the reading of their pages (alone_hopper_cuda.cu). With p.choose, those alone whose
 * neighbours are of few sequences. */
lm_err lm_paged_alone(const paged &p, int d, cudaStream_t s);
#endif
