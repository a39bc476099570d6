/* silu.h — y = x·σ(x). */
#ifndef LM_OP_SILU_H
#define LM_OP_SILU_H
#include "op/op.h"
extern const lm_op lm_op_silu;
lm_value *lm_silu(lm_graph *g, lm_value *x);
#endif
