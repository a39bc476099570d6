/* concat.h — two to four tensors side by side along the last dimension. */
#ifndef LM_OP_CONCAT_H
#define LM_OP_CONCAT_H
#include "op/op.h"
extern const lm_op lm_op_concat;
lm_value *lm_concat(lm_graph *g, int n, lm_value *const *x);
#endif
