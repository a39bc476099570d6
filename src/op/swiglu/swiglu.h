/* swiglu.h — y = silu(a)·b, one pass. */
#ifndef LM_OP_SWIGLU_H
#define LM_OP_SWIGLU_H
#include "op/op.h"
extern const lm_op lm_op_swiglu;
lm_value *lm_swiglu(lm_graph *g, lm_value *a, lm_value *b);
#endif
