/* add_rmsnorm.h — s = a + b (output 0, the residual stream), y = rmsnorm(s, w) (output 1), rstd (output 2), one pass. w as long as a row. */
#ifndef LM_OP_ADD_RMSNORM_H
#define LM_OP_ADD_RMSNORM_H
#include "op/rmsnorm/rmsnorm.h"
extern const lm_op lm_op_add_rmsnorm;
lm_value *lm_add_rmsnorm(lm_graph *g, lm_value *a, lm_value *b, lm_value *w, float eps);   /* s; lm_output(s, 1) is y */
#endif
