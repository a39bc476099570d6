/* matmul_squares.h — a weight's gradient and what its norm takes: y = aᵀ b, and the sums of y's squares, one for each 16 rows × 256 columns, row
 * by row. As matmul with ta: a (K,M), b (K,N), or of higher rank with fold. y and the sums are states that are written; squares are of y as it
 * is stored. On a device the numbers are squared while they are in registers, so a clip by the norm need not read them again.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_OP_MATMUL_SQUARES_H
#define LM_OP_MATMUL_SQUARES_H
#include "op/matmul/matmul.h"
enum { LM_SQUARES_ROWS = 16, LM_SQUARES_COLS = 256 };
extern const lm_op lm_op_matmul_squares;
int64_t lm_squares_of(int64_t rows, int64_t cols);                         /* how many sums */
/* y, s: states; the result is y's next version. p: ta, not tb */
lm_value *lm_matmul_squares(lm_graph *g, lm_value *a, lm_value *b, lm_value *y, lm_value *s, const lm_matmul_p *p);
#endif
