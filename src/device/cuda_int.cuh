/* cuda_int.cuh — what dev_cuda.cu and blas_cuda.cu share.  Lifetime, Threads, Errors: as device.h. */
#ifndef LM_CUDA_INT_CUH
#define LM_CUDA_INT_CUH
#include <cuda_runtime.h>
extern "C" {
#include "device/device.h"
}
typedef struct { void *p; size_t bytes; } lm_cuda_block;
typedef struct { lm_cuda_block *block; int n_block, cap_block; cudaEvent_t mark[LM_DEV_MARKS], fence[LM_DEV_MARKS]; cudaStream_t lane[LM_DEV_LANES]; int ordinal; void *blas; } lm_cuda;
lm_err lm_cuda_blas_open(lm_dev *d);      /* sets LM_CUDA_BLASLT where the library is found; d->libs says what was found */
void lm_cuda_blas_close(lm_dev *d);
void lm_cuda_peer_open(lm_dev *d);         /* fills in share() to meet() */
/* *word = v when the stream gets there, by the card's front end; LM_E_UNSUPPORTED: the driver cannot */
lm_err lm_cuda_set_word(lm_dev *d, void *word, uint32_t v);
#endif
