/* assign.h — state := x, converted to the state's dtype and layout: how a compute copy (bf16 panels) of a master weight is written. Output
 * 0 is the state's next version. */
#ifndef LM_OP_ASSIGN_H
#define LM_OP_ASSIGN_H
#include "op/op.h"
extern const lm_op lm_op_assign;
lm_value *lm_assign(lm_graph *g, lm_value *state, lm_value *x);
#endif
