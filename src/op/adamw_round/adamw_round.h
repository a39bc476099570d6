/* adamw_round.h — adamw where gradients need not be cleared (lm_plan_fresh) and products read a rounded copy of the parameter: param, m, v and
 * copy (bf16, optional) are states, written; grad is only read, f32 or bf16. The arithmetic is adamw's. copy gets the new parameter, rounded.
 *
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_ADAMW_ROUND_H
#define LM_OP_ADAMW_ROUND_H
#include "op/op.h"
#include "op/hyper.h"
extern const lm_op lm_op_adamw_round;
/* Outputs 0..2: the next versions of param, m, v; 3 of copy, if that is not NULL. */
lm_value *lm_adamw_round(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale, lm_value *copy);
#endif
