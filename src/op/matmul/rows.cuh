/* rows.cuh — skinny.cuh's products on Hopper, up to 64 rows of bf16: for skinny_cuda.cu. In deterministic mode (LM_CUDA_ROW_ALONE) any number of rows, with
 * the bits that each has alone (many_hopper_cuda.cu).
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_ROWS_CUH
#define LM_ROWS_CUH
#include "op/matmul/skinny.cuh"
enum { LM_ROWS = 64, LM_ROWS_K = 512, LM_ROWS_PARTS = 8 };                /* rows of the kernel of few; K at least; parts of K, where it is cut */
/* Is this one (its norm already done)? */
bool lm_rows_takes(const lm_dev *d, const lm_skinny *p);
lm_err lm_rows_run(const lm_dev *d, const lm_skinny *p, cudaStream_t s);
/* For rows_hopper_cuda.cu: more than LM_ROWS rows, K in parts if `split`. */
lm_err lm_rows_many(const lm_dev *d, const lm_skinny *p, bool split, cudaStream_t s);
#endif
