/* scatter_add.h — y[idx[i]] += dy[i], i in order; (rows, d): the gradient of gather. Can be added to.
 * `like`, if not NULL, gives y its rows and their runtime extent; its numbers are not read. */
#ifndef LM_OP_SCATTER_ADD_H
#define LM_OP_SCATTER_ADD_H
#include "op/op.h"
extern const lm_op lm_op_scatter_add;
lm_value *lm_scatter_add(lm_graph *g, lm_value *idx, lm_value *dy, int64_t rows, lm_value *like);
#endif
