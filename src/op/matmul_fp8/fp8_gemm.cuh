/* fp8_gemm.cuh — C = A Bᵀ of e4m3 on Hopper's matrix units, scales by tile, sums promoted to f32 every 128 of K: for matmul_fp8's rows.
 *
 * A (M,K) and B (N,K) are bytes with K contiguous. sa (K/128, ≥ M): a scale for 128 of K in a row of A. sb is the same for B, or one scale for
 * 128×128 of it, (N/128, K/128). N and K are multiples of 128, sa_ld (columns of sa) too; M is any.
 *
 *   CTA: 256×128 of C, four stages of 128 of K (48 KB and 1.5 KB of scales). One warpgroup brings, two multiply, each 128×128 as two halves of 64
 *   rows: four wgmma m64n128k32 into 64 registers, then acc += those · scales (64 or 128 instructions), which the other warpgroup's products hide.
 * With few tiles (gradients of narrow weights) K is cut into parts whose sums are added in order by a second kernel.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE; LM_E_SHAPE where a base is not a multiple of 16 bytes. */
#ifndef LM_FP8_GEMM_CUH
#define LM_FP8_GEMM_CUH
#include "op/cuda.cuh"
typedef struct {
    int64_t M, N, K; const void *a, *b; const float *sa, *sb; int64_t sa_ld, sb_ld; bool b_blocks;
    const void *add; int64_t ld_add; bool add_bf16;            /* NULL: nothing; may be c itself */
    void *c; int64_t ldc; bool c_bf16, acc;
} lm_fp8_gemm;
size_t lm_fp8_gemm_room(const lm_fp8_gemm *g);                 /* bytes for parts of K */
lm_err lm_fp8_gemm_run(const lm_fp8_gemm *g, int units, void *room, cudaStream_t s);      /* units: multiprocessors of the card */
#endif
