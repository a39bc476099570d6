/* matmul_each.h — y_i = a W_iᵀ [+ b_i]: one input times each of two or three weights, as q, k, v and gate, up of a decoder. What a product makes of its
 * input first (codes in int8) is made once, and the weights are one walk through memory. Weights are quantized, each in a format of its own, all with blocks
 * of one length; the bits are matmul's. Made by the pass that unites (graph/passes/unite.c). */
#ifndef LM_OP_MATMUL_EACH_H
#define LM_OP_MATMUL_EACH_H
#include "op/matmul/matmul.h"
extern const lm_op lm_op_matmul_each;
/* w and bias: n of them, n 2 or 3; bias NULL, or NULL where there is none. mm = I8. */
lm_value *lm_matmul_each(lm_graph *g, lm_value *a, int n, lm_value *const *w, lm_value *const *bias);
#endif
