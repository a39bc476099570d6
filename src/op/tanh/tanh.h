/* tanh.h — y = tanh x. */
#ifndef LM_OP_TANH_H
#define LM_OP_TANH_H
#include "op/op.h"
extern const lm_op lm_op_tanh;
lm_value *lm_tanh(lm_graph *g, lm_value *x);
#endif
