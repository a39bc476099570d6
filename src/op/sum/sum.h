/* sum.h — y = Σ x, one number. Can be added to. */
#ifndef LM_OP_SUM_H
#define LM_OP_SUM_H
#include "op/op.h"
extern const lm_op lm_op_sum;
lm_value *lm_sum(lm_graph *g, lm_value *x);
#endif
