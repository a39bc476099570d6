/* rows.cuh — skinny.cuh's products on Hopper, up to 64 rows of bf16: for skinny_cuda.cu.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_ROWS_CUH
#define LM_ROWS_CUH
#include "op/matmul/skinny.cuh"
enum { LM_ROWS = 64, LM_ROWS_K = 512 };                                   /* rows at most; K at least */
/* Is this one (its norm already done)? */
bool lm_rows_takes(const lm_dev *d, const lm_skinny *p);
lm_err lm_rows_run(const lm_skinny *p, cudaStream_t s);
#endif
