/* all_reduce_in.h — state := its sum over all ranks, in place; only in the run that ends an accumulation (lm_plan_hold). One rank: nothing. */
#ifndef LM_OP_ALL_REDUCE_IN_H
#define LM_OP_ALL_REDUCE_IN_H
#include "op/op.h"
extern const lm_op lm_op_all_reduce_in;
lm_value *lm_all_reduce_in(lm_graph *g, lm_value *state);
#endif
