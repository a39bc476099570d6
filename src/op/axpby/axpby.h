/* axpby.h — y = α·a + β·b, α and β fixed in the graph. */
#ifndef LM_OP_AXPBY_H
#define LM_OP_AXPBY_H
#include "op/op.h"
typedef struct { float alpha, beta; } lm_axpby_p;
extern const lm_op lm_op_axpby;
lm_value *lm_axpby(lm_graph *g, lm_value *a, lm_value *b, float alpha, float beta);
#endif
