/* peak.cuh — the CUDA row of peak, for who has made the logits and already knows the largest of each LM_PEAK_TILE columns of a row.
 *
 * Where t is 0 only tiles that hold something near are then read, none where gap is negative; else the row is read as ever.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_PEAK_CUH
#define LM_PEAK_CUH
#include "op/cuda.cuh"
enum { LM_PEAK_TILE = 128 };
/* tops (rows, columns / LM_PEAK_TILE rounded up): the largest, NaN where a tile has a NaN or +inf, and the bits of the least column that has it; NULL: not
 * known. The row's scratch (c->shared) is as large as that. */
lm_err lm_peak_run(const lm_call *c, const float2 *tops, cudaStream_t s);
bool lm_peak_accepts(const lm_call *c);
#endif
