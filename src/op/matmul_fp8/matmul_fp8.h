/* matmul_fp8.h — C = A Bᵀ [+ h] of numbers that quant_fp8 made: e4m3 with scales by tile, sums of 128 products scaled and added in f32.
 *
 * a (M, K) e4m3 and sa (K/128, M') f32, M' at least M and a multiple of 128; b (N, K) e4m3 and sb: (K/128, N) f32, or with b_blocks (N/128, K/128).
 * K and N are multiples of 128. h is like C. Products of training, with x (T, I), W (O, I), dy (T, O):
 *   y = x Wᵀ       a, b = q of x, q of W       dx = dy W    a, b = q of dy, qt of W       dW = dyᵀ x    a, b = qt of dy, qt of x
 * The processor's row is a plain one, to be right: training there in this dtype is for tests.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_MATMUL_FP8_H
#define LM_MATMUL_FP8_H
#include "op/op.h"
extern const lm_op lm_op_matmul_fp8;
typedef struct { bool b_blocks; } lm_matmul_fp8_p;
lm_value *lm_matmul_fp8(lm_graph *g, lm_value *a, lm_value *sa, lm_value *b, lm_value *sb, bool b_blocks);
#endif
