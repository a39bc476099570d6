/* xent_core.h — what xent and xent_step share: chunks, the shape rule, the double truth, and the row work of each instruction set.
 *
 * Lifetime, Threads: pure.  Errors: as xent.h. */
#ifndef LM_XENT_CORE_H
#define LM_XENT_CORE_H
#include "op/matmul/gemm.h"
#include "op/xent/xent.h"
/* Rows of a chunk, a multiple of 32; depends on the dimensions alone, so that a runtime extent does not move it. */
int64_t lm_xent_rows(const lm_call *c);
int64_t lm_xent_repeat(const lm_call *c);                /* chunks; at least 1, so that outputs of no rows are still written */
int64_t lm_xent_stride(const lm_call *c);                /* floats from one row of logits to the next */
/* The chunk number c->iter: its first row and number of rows. */
int64_t lm_xent_chunk(const lm_call *c, int64_t *row0);
bool lm_xent_accepts_f32(const lm_call *c);
bool lm_xent_accepts_bf16(const lm_call *c);
size_t lm_xent_shared(const lm_call *c);                 /* the logits of a chunk */
/* logits = x W^T of the chunk into shared. */
lm_gemm lm_xent_logits(const lm_call *c);
lm_err lm_xent_shape(lm_ctx *ctx, const lm_call *c, lm_type *out);   /* out[0..1] */
void lm_xent_ref(const lm_call *c, double *loss, double *lse, double *dx, double *dw);   /* dx NULL: forward alone */

typedef struct {                                          /* per instruction set, all with the same bits */
    float (*lse)(const float *z, int64_t V);
    double (*sum)(const float *z, int64_t V);
    /* z[v] = exp(z[v] - lse) * a - b, in place */
    void (*grad)(float *z, int64_t V, float lse, float a, float b);
} lm_xent_vec;
extern const lm_xent_vec lm_xent_vec_avx512, lm_xent_vec_avx2, lm_xent_vec_portable;
/* One row of the chunk: loss and lse; with grad the logits become d sum(loss) / d logits. */
lm_err lm_xent_row(const lm_call *c, const lm_xent_vec *f, int64_t row, float *z, bool grad);
#endif
