/* skinny.cuh — few rows of activations against bf16 weights (N,K), with what comes before and after in a decoder: for *_cuda.cu files.
 *
 * One kernel reads the weights once and does the rest around it: before, the norm of the rows; after, the bias and one of: nothing; the sum
 * with the residual; silu(gate)·up; rotation of queries and keys and the writing of keys and values to pages. There are two: rows.cuh's for up
 * to 64 rows of bf16 on Hopper (in deterministic mode any number), K at least 512, and skinny_cuda.cu's for up to 32 of f32 or bf16.
 * Products take bf16 operands and add in f32. A row's bits do not depend on the other rows; the order of additions belongs to the weights'
 * shape, in skinny_cuda.cu also to the class of M (up to 8 rows, up to 16, up to 32).
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_SKINNY_CUH
#define LM_SKINNY_CUH
#include "op/cuda.cuh"
enum { LM_SKINNY_ROWS = 32, LM_SKINNY_NORM = 8192 };
enum { LM_SKINNY_PLAIN, LM_SKINNY_ADD, LM_SKINNY_GATED, LM_SKINNY_QKV };
typedef struct { const void *w, *bias; int64_t ld, rows; int bias_bf16, mid_bf16; } lm_skinny_part;      /* mid_bf16: the product is stored as bf16 where it is stored */
typedef struct {
    int kind, M; int64_t K;
    lm_cv x, norm; float eps, offset;                                   /* norm.p NULL: rows as they are; else K at most LM_SKINNY_NORM */
    int n_part; lm_skinny_part part[3];                                 /* PLAIN, ADD: one; GATED: gate, up; QKV: q, k, v */
    lm_cv out, res;                                                     /* QKV: out is the turned queries */
    lm_cv turn; int d, kv_bf16, k_bf16; void *kp, *vp; const int32_t *slot; int64_t pages; int32_t *fault;
    void *room;                                                         /* (M,K) bf16 for the rows after the norm, where M > 1 */
    /* a norm between two products that only lm_rows_run does, halves of it in each: an ADD gives `next` its sums times `norm_next`, rounded to bf16, and `squares`
     * (8 to each 128 columns, M) sums of their squares; a product of these rows has `parts` and divides its sums by the root of mean square */
    lm_cv norm_next; float offset_next; void *next; float *squares; const float *parts;
    /* PLAIN that lm_rows_run does, W of many rows: nothing is stored but (M, each 128 rows of W) the largest, NaN where one is NaN or +inf, and the
     * bits of the least row that has it */
    float2 *tops;
    bool fixed;                                                         /* no step of the plan writes the weights */
} lm_skinny;
/* Can these weights and rows be taken (bf16, aligned, at most LM_SKINNY_ROWS rows, a card that has what the kernel needs)? */
bool lm_skinny_takes(const lm_dev *d, const lm_cv *x, int64_t M, int64_t K, const lm_cv *w);
lm_err lm_skinny_run(const lm_dev *d, const lm_skinny *s, cudaStream_t stream);
#endif
