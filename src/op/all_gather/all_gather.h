/* all_gather.h — y = the rows of all ranks one below the other: (s, …) → (rows, …), where s = ceil(rows/size) and the last ranks' shards
 * are padded. One rank: y = x. */
#ifndef LM_OP_ALL_GATHER_H
#define LM_OP_ALL_GATHER_H
#include "op/op.h"
typedef struct { int64_t rows; int32_t size; } lm_all_gather_p;      /* rows of the whole; ranks */
extern const lm_op lm_op_all_gather;
lm_value *lm_all_gather(lm_graph *g, lm_value *x, int64_t rows, int size);
#endif
