/* all_gather_in.h — state := the rows of all ranks one below the other: (rows, …) and this rank's (s, …), s = ceil(rows/size), which may be
 * rows of the state's own memory. That has room for size·s rows (lm_store_part). One rank: state := part. */
#ifndef LM_OP_ALL_GATHER_IN_H
#define LM_OP_ALL_GATHER_IN_H
#include "op/op.h"
typedef struct { int32_t size; } lm_all_gather_in_p;
extern const lm_op lm_op_all_gather_in;
lm_value *lm_all_gather_in(lm_graph *g, lm_value *state, lm_value *part, int size);
#endif
