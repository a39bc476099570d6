/* all_reduce.h — y = the sum of x over all ranks, rank 0 first; every rank gets the same bits. One rank: y = x. */
#ifndef LM_OP_ALL_REDUCE_H
#define LM_OP_ALL_REDUCE_H
#include "op/op.h"
extern const lm_op lm_op_all_reduce;
lm_value *lm_all_reduce(lm_graph *g, lm_value *x);
#endif
