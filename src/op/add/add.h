/* add.h — y = a + b, where b is like a, or a vector of a's columns, or one number. NULL when the graph is in error. */
#ifndef LM_OP_ADD_H
#define LM_OP_ADD_H
#include "op/op.h"
extern const lm_op lm_op_add;
lm_value *lm_add(lm_graph *g, lm_value *a, lm_value *b);
#endif
