/* matmul.cuh — the matrix product on a CUDA device, for the rows that contain one: for *_cuda.cu files.
 *
 * C (M,N) = op(A) op(B) [+ bias] [+ C, or `add`, laid out as C], row-major with any row strides, f32 or bf16. With `round`, f32 operands are rounded to bf16 first,
 * into `room`. Which code runs depends on the problem:
 *   up to 64 rows against bf16 W (N,K), rounded: the kernels of skinny.cuh, weights read once at bandwidth (b_fixed: nothing in the plan
 *     writes them, so they are read early);
 *   one to four rows against any W (N,K): own kernel, a warp per output column;
 *   operands of one dtype, and cuBLASLt is there: cuBLASLt;
 *   else: own tiled f32 kernel (64×64 tiles, no tensor cores), which takes everything and adds over k in order.
 * With `aux`, that gets the product and C its gelu (tanh form): cuBLASLt's alone, LM_E_UNSUPPORTED before anything is done where it does not.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_MATMUL_CUH
#define LM_MATMUL_CUH
#include "op/cuda.cuh"
/* an operand as stored: rows × columns with a leading dimension; bs between batches */
typedef struct { const void *p; int64_t ld, bs; bool bf16; } lm_cm;
typedef struct {
    int64_t batch, M, N, K; lm_cm a, b; bool ta, tb, acc, round; const void *bias, *add; bool bias_bf16;
    void *c, *aux; int64_t ldc, sc, ldaux; bool c_bf16, b_fixed;
} lm_cuda_gemm;
size_t lm_cuda_gemm_room(const lm_cuda_gemm *g);                           /* bytes that lm_cuda_gemm_run wants as room, 256-byte aligned */
/* matmul's call as a problem, and whether it is one: of any row that has its inputs, output 0 and lm_matmul_p in front */
lm_cuda_gemm lm_matmul_cuda_problem(const lm_call *c);
bool lm_matmul_cuda_accepts(const lm_call *c);
/* Can `add` be elsewhere than C for this one? Where the library takes it and has an algorithm. */
bool lm_cuda_gemm_adds(lm_dev *d, const lm_cuda_gemm *g);
lm_err lm_cuda_gemm_run(lm_dev *d, const lm_cuda_gemm *g, void *room, cudaStream_t s);
/* Gradients of weights whose last round of tiles all multiprocessors share (shared_hopper_cuda.cu): is it one, whatever acc is; bytes of room; and the
 * product, not added to what is there, with its squares as matmul_squares has them (NULL: without). */
bool lm_cuda_gemm_shares(const lm_dev *d, const lm_cuda_gemm *g);
size_t lm_cuda_gemm_share_room(const lm_dev *d);
lm_err lm_cuda_gemm_share(const lm_dev *d, const lm_cuda_gemm *g, float *squares, void *room, cudaStream_t s);
#endif
