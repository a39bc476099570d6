/* shard.h — y = this rank's rows of x, which every rank has: (rows, …) → (s, …), s = ceil(rows/size), zeros below the last row. Moves no
 * bytes between ranks. One rank: y = x. */
#ifndef LM_OP_SHARD_H
#define LM_OP_SHARD_H
#include "op/op.h"
typedef struct { int32_t size; } lm_shard_p;
extern const lm_op lm_op_shard;
lm_value *lm_shard(lm_graph *g, lm_value *x, int size);
#endif
