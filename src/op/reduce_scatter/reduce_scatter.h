/* reduce_scatter.h — y = this rank's rows of the sum of x over all ranks: (rows, …) → (s, …), s = ceil(rows/size), zeros below the last
 * row. Can be added to. x is f32, or on a device bf16, which is added in f32; y is f32. One rank: y = x. */
#ifndef LM_OP_REDUCE_SCATTER_H
#define LM_OP_REDUCE_SCATTER_H
#include "op/op.h"
typedef struct { int32_t size; } lm_reduce_scatter_p;
extern const lm_op lm_op_reduce_scatter;
lm_value *lm_reduce_scatter(lm_graph *g, lm_value *x, int size);
#endif
