/* copy.h — y = x, contiguous: makes a view (split) into storage of its own. Any unquantized dtype. */
#ifndef LM_OP_COPY_H
#define LM_OP_COPY_H
#include "op/op.h"
extern const lm_op lm_op_copy;
lm_value *lm_copy(lm_graph *g, lm_value *x);
#endif
