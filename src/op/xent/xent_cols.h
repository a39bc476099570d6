/* xent_cols.h — the logits of a chunk with its rows side by side, z[v][row]: shared by xent and xent_step for plain weights.
 *
 * z = W xᵀ instead of x Wᵀ: the same sums to the bit, but the large matrix is the operand that is read in place, once per chunk and in
 * long runs, and the small one, x, is packed once. A work item is LM_XENT_BLOCK rows of W for COLS_N rows of x; it takes the statistics of
 * its logits while they are in L2. A vector register is one logit of several rows, so the sixteen lanes of the row form are sixteen
 * registers here, added in the same order. In xent_step the items of dW find dz in L2 too (they make it there), and W in place serves dx.
 *
 * Lifetime: of a call.  Threads: items are independent.  Errors: as xent_core.h. */
#ifndef LM_XENT_COLS_H
#define LM_XENT_COLS_H
#include "op/xent/xent_core.h"
/* most rows of x in an item, and for a small vocabulary: multiples of the 48 of a micro-kernel */
enum { LM_XENT_COLS_N = 192, LM_XENT_COLS_FEW = 48 };
typedef struct {
    const lm_call *c; const lm_xent_p *p;
    /* first row, rows, rounded to 16; blocks of v, rows of a group, groups; floats from one v to the next */
    int64_t row0, N, Np, V, d, n_b, nr, n_g, zs;
    float *x, *xt;                                         /* PANEL16 of the chunk's rows, and of their transpose (xent_step) */
    float *top, *sum, *mean;                               /* [block][Np]: the statistics of a block, the sum of its logits */
    float *zt;                                             /* [Np]: logit of the target */
    float *lse, *slope, *less; int32_t *live;              /* [Np], from the second phase: dz = live ? exp(z - lse) slope - less : 0 */
    float *z;                                              /* the chunk's logits, or NULL: each item has its own */
    bool step;                                             /* xent_step's: there are xt and z, also where only sizes are known yet */
} lm_xent_cols;
/* Plain weights; f32 or rounded to bf16. */
bool lm_xent_cols_f32(const lm_call *c);
bool lm_xent_cols_bf16(const lm_call *c);
int64_t lm_xent_cols_rows(const lm_call *c);               /* of a chunk of xent_step, a multiple of 48 up to COLS_N */
/* Rows row0 … row0 + rows - 1; step: with the logits and the transpose of x. The size of what it places into c->shared is in *bytes if asked. */
lm_xent_cols lm_xent_cols_of(const lm_call *c, int64_t row0, int64_t rows, bool step, size_t *bytes);
/* d rows of W as the left operand, of the chunk's logits; M and c are the item's. */
lm_gemm lm_xent_cols_gemm(const lm_xent_cols *t, int64_t v0, int64_t cols, int64_t r0, int64_t rows, float *z, int64_t zs);
int64_t lm_xent_cols_packs(const lm_xent_cols *t);
void lm_xent_cols_pack(const lm_xent_cols *t, int64_t i);
size_t lm_xent_cols_scratch(const lm_xent_cols *t);        /* of an item */
int64_t lm_xent_cols_items(const lm_xent_cols *t);
lm_err lm_xent_cols_end(const lm_xent_cols *t, int64_t i);  /* 16 rows: lse and loss from the blocks' statistics */
/* Per instruction set, all with the same bits: an item's logits with statistics; dz in place of `n` rows of z. */
typedef void lm_xent_cols_logits_fn(const lm_xent_cols *t, int64_t item, float *scratch);
typedef void lm_xent_cols_grad_fn(const lm_xent_cols *t, int64_t v0, int64_t n);
lm_xent_cols_logits_fn lm_xent_cols_logits_avx512, lm_xent_cols_logits_avx2, lm_xent_cols_logits_portable;
lm_xent_cols_grad_fn lm_xent_cols_grad_avx512, lm_xent_cols_grad_avx2, lm_xent_cols_grad_portable;
#endif
