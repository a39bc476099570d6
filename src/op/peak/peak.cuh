/* peak.cuh — peak's best alone (P = 0), for who makes the logits and so knows the largest of each LM_PEAK_TILE columns of a row: no logit is read.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_PEAK_CUH
#define LM_PEAK_CUH
#include "op/cuda.cuh"
enum { LM_PEAK_TILE = 128 };
/* tops (rows, columns / LM_PEAK_TILE rounded up): the largest, NaN where a tile has a NaN or +inf, and the bits of the least column that has it. The
 * row's scratch (c->shared) is as large as that. */
lm_err lm_peak_best(const lm_call *c, const float2 *tops, cudaStream_t s);
bool lm_peak_accepts(const lm_call *c);
#endif
