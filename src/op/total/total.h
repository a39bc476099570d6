/* total.h — the sum of up to twelve single numbers, in order: what the global norm is added up by.
 *
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_TOTAL_H
#define LM_OP_TOTAL_H
#include "op/op.h"
extern const lm_op lm_op_total;
/* x: n >= 1 values, F32 (1) each; more than twelve become totals of twelve, and so on, in an order that depends on n alone. n = 1: x[0] itself. */
lm_value *lm_total(lm_graph *g, lm_value *const *x, int n);
#endif
