/* sum_rows.h — y[j] = Σ over rows x[r, j], rows in order: the gradient of anything broadcast along tokens. Can be added to. */
#ifndef LM_OP_SUM_ROWS_H
#define LM_OP_SUM_ROWS_H
#include "op/op.h"
extern const lm_op lm_op_sum_rows;
lm_value *lm_sum_rows(lm_graph *g, lm_value *x);
#endif
