/* reduce_scatter_in.h — this rank's rows of a state := their sum over all ranks, the others := 0, in place; only in the run that ends an
 * accumulation (lm_plan_hold). Rank r has rows [r s, r s + s), s = ceil(rows/size): the state's memory has room for size·s rows, zeros below
 * its last (lm_store_part). One rank: nothing. */
#ifndef LM_OP_REDUCE_SCATTER_IN_H
#define LM_OP_REDUCE_SCATTER_IN_H
#include "op/op.h"
typedef struct { int32_t size; } lm_reduce_scatter_in_p;
extern const lm_op lm_op_reduce_scatter_in;
lm_value *lm_reduce_scatter_in(lm_graph *g, lm_value *state, int size);
#endif
