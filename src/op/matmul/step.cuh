/* step.cuh — all layers of a decoder, its last norm and its logits for one row of bf16, as one kernel on Hopper: for step_join_cuda.cu.
 *
 * Sizes that it takes: d and heads × d_head 2048, d_head 64, 8 or 16 kv heads, d_ff a multiple of 1024 up to 8192, a vocabulary of 16 or more;
 * weights in bf16 without gaps between rows, norms in f32, pages in bf16, of a sequence at most LM_STEP_PAGES for each of the blocks that share a
 * kv head (2000 pages in all at 8 heads).
 * Rounding points are the separate steps': products are rounded to bf16 where they would be stored as that.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE; an index outside is told in `fault`. */
#ifndef LM_STEP_CUH
#define LM_STEP_CUH
#include "op/cuda.cuh"
enum { LM_STEP_LAYERS = 64, LM_STEP_PAGES = 128, LM_STEP_BLOCKS = 128 };
typedef struct {
    const void *q, *k, *v, *o, *gate, *up, *down;
    const float *norm1, *norm2;
    void *kp, *vp;
} lm_step_layer;
typedef struct {
    int layers, d, f, heads, kv, d_head;
    int64_t vocab;
    const float *x;
    lm_cv turn; /* the row; cosines and sines of its position */
    const float *norm;
    const void *head;
    float *logits;
    const int32_t *row; /* last norm; row: which row's logits, 0 */
    const int32_t *pos, *seq, *table, *slot;
    int64_t per, seqs, pages; /* as op/attn_paged and op/kv_write have them */
    float eps, offset, scale;
    int32_t *fault;
    void *records; /* lm_step_bytes() of them */
    lm_step_layer layer[LM_STEP_LAYERS];
} lm_step_args;
/* Are these sizes taken? (no address is looked at) */
bool lm_step_sizes(const lm_step_args *s);
size_t lm_step_bytes(const lm_step_args *s);
/* Are these addresses, and this device? */
bool lm_step_takes(const lm_dev *d, const lm_step_args *s);
lm_err lm_step_run(const lm_step_args *s, cudaStream_t stream);
#endif
