/* sumsq.h — y = Σ x², one number. Can be added to: the norm over many gradients. */
#ifndef LM_OP_SUMSQ_H
#define LM_OP_SUMSQ_H
#include "op/op.h"
extern const lm_op lm_op_sumsq;
lm_value *lm_sumsq(lm_graph *g, lm_value *x);
#endif
