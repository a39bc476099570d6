/* scatter_add.h — y[idx[i]] += dy[i], i in order; (rows, d): the gradient of gather. Can be added to. */
#ifndef LM_OP_SCATTER_ADD_H
#define LM_OP_SCATTER_ADD_H
#include "op/op.h"
extern const lm_op lm_op_scatter_add;
lm_value *lm_scatter_add(lm_graph *g, lm_value *idx, lm_value *dy, int64_t rows);
#endif
