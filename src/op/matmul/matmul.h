/* matmul.h — C = op(A) op(B) [+ bias]: the one matrix product.
 *
 * a is (M,K), or (K,M) with ta; b is (K,N), or (N,K) with tb; the result is (M,N) in f32. Leading dimensions of a are folded into M when b
 * is a matrix and ta is not set; when both have rank 3 the product is batched; with `fold` and ta, a (…,K,M) and b (…,K,N) have their
 * leading dimensions folded into K (a weight gradient over all tokens). mm says in what the products are taken: F32 as is; BF16: both
 * operands rounded to bf16, sums in f32; I8: b is Q8_0 and a is quantized to int8 per block of 32. Weights with tb may be stored in panels
 * or quantized in any format (f32 and bf16 then work on the dequantized values).
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_MATMUL_H
#define LM_MATMUL_H
#include "op/op.h"
extern const lm_op lm_op_matmul;
typedef struct { bool ta, tb, fold; lm_dtype mm; } lm_matmul_p;
enum { LM_MATMUL_EACH = 3 };                       /* weights of op/matmul_each, at most */
lm_value *lm_matmul(lm_graph *g, lm_value *a, lm_value *b, bool ta, bool tb);                       /* mm = F32 */
lm_value *lm_linear(lm_graph *g, lm_value *x, lm_value *w, lm_value *bias);                        /* x Wᵀ + b, W (N,K); bias may be NULL */
lm_value *lm_matmul_mm(lm_graph *g, lm_value *a, lm_value *b, lm_value *bias, bool ta, bool tb, lm_dtype mm);
#endif
