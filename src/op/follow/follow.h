/* follow.h — tokens of a run that the run before it chose: y_i is token_i, or where from_i is not negative what `best` (op/peak) has as the
 * choice of row from_i. So a step of a greedy decode can begin before anybody has seen what the step before it chose.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.
 * Errors:   LM_E_SHAPE from the shape rule; LM_E_RANGE when running if a row is outside of best. */
#ifndef LM_FOLLOW_H
#define LM_FOLLOW_H
#include "op/op.h"
extern const lm_op lm_op_follow;
/* token and from I32 (N), best f32 (R, LM_PEAK_BEST) */
lm_value *lm_follow(lm_graph *g, lm_value *token, lm_value *from, lm_value *best);
#endif
