/* xent_core.h — what xent and xent_step share: chunks, the shape rule, the double truth, and the row work of each instruction set.
 *
 * Lifetime, Threads: pure.  Errors: as xent.h. */
#ifndef LM_XENT_CORE_H
#define LM_XENT_CORE_H
#include "op/matmul/gemm.h"
#include "op/xent/xent.h"
#include <math.h>
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

enum { LM_XENT_BLOCK = 512 };
typedef struct { float max, sum; } lm_xent_stat;           /* of a block: the maximum and sum exp(z - max) */
typedef struct { double max, sum; } lm_xent_sum;           /* of the blocks so far, in order */
#define LM_XENT_SUM { -INFINITY, 0 }
void lm_xent_add(lm_xent_sum *t, lm_xent_stat b);
float lm_xent_end(const lm_xent_sum *t);                  /* log sum exp */
typedef struct {                                          /* per instruction set, all with the same bits */
    void (*block)(float *z, int64_t step, int64_t n, bool keep, lm_xent_stat *out);
    double (*sum)(const float *z, int64_t step, int64_t n);
    /* z[v] = exp(z[v] - lse) * a - b, in place; of capped logits that times the cap's own slope, 1 - (z[v] / cap)² */
    void (*grad)(float *z, int64_t V, float lse, float a, float b, float cap);
    void (*cap)(float *z, int64_t n, float cap);          /* as op/softcap, in place; each set's own bits, those of its softcap */
} lm_xent_vec;
extern const lm_xent_vec lm_xent_vec_avx512, lm_xent_vec_avx2, lm_xent_vec_portable;
/* One row of the chunk: loss and lse; with grad the logits become d sum(loss) / d logits. */
float lm_xent_lse(const lm_xent_vec *f, float *z, int64_t V);
/* Loss of a row from its lse, the logit of the target and the mean logit (used with label smoothing alone); d loss / d z_v = exp(z_v - lse)
 * * slope - … */
float lm_xent_loss(const lm_xent_p *p, float weight, float lse, float zt, double mean);
float lm_xent_slope(const lm_xent_p *p, float weight, float lse);
lm_err lm_xent_row(const lm_call *c, const lm_xent_vec *f, int64_t row, float *z, bool grad);
#endif
