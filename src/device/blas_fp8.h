/* blas_fp8.h — products of e4m3 numbers with scales by tile, by the vendor's library (cuBLASLt 12.9 or later): for rows that need LM_CUDA_BLASLT.
 *
 * Row-major C (M,N) = A Bᵀ [+ add], f32 sums. A (M,K) and B (N,K) are contiguous bytes; sa (K/128, M) is a scale for 128 of a row of A; sb is the
 * same for B, or with b_blocks (N/128, K/128), K then a multiple of 512. `add` is laid out as C and may be C. Each problem keeps one algorithm, so
 * the same numbers give the same bits each time.
 *
 * Lifetime: the device's.  Threads: one driver.  Errors: LM_E_UNSUPPORTED: the library has no algorithm for this problem, or none for such. */
#ifndef LM_BLAS_FP8_H
#define LM_BLAS_FP8_H
#include "device/device.h"
typedef struct {
    int64_t M, N, K, ldc; const void *a, *b; const float *sa, *sb; bool b_blocks; const void *add; void *c; bool c_bf16;
} lm_dev_gemm_fp8;
lm_err lm_dev_matmul_fp8(lm_dev *d, const lm_dev_gemm_fp8 *g);
#endif
