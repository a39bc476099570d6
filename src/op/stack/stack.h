/* stack.h — tensors of one type one behind the other: y[i] = x_i, one rank more. Steps that make them on a device make them there.
 * No gradient: it serves optimizers. */
#ifndef LM_OP_STACK_H
#define LM_OP_STACK_H
#include "op/op.h"
enum { LM_MAX_STACK = LM_MAX_IN };
extern const lm_op lm_op_stack;
lm_value *lm_stack(lm_graph *g, int n, lm_value *const *x);
#endif
