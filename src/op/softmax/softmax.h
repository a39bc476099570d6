/* softmax.h — y = softmax(s·x) over the last dimension, s > 0. */
#ifndef LM_OP_SOFTMAX_H
#define LM_OP_SOFTMAX_H
#include "op/op.h"
typedef struct { float scale; } lm_softmax_p;
extern const lm_op lm_op_softmax;
lm_value *lm_softmax(lm_graph *g, lm_value *x, float scale);
#endif
