/* layernorm.h — y = (x - mean)·rstd·w + b over the last dimension; b may be absent. Outputs 1, 2: mean, rstd (rows); no gradient flows
 * through them. */
#ifndef LM_OP_LAYERNORM_H
#define LM_OP_LAYERNORM_H
#include "op/op.h"
typedef struct { float eps; } lm_layernorm_p;
extern const lm_op lm_op_layernorm;
lm_value *lm_layernorm(lm_graph *g, lm_value *x, lm_value *w, lm_value *b, float eps);   /* b may be NULL: no bias */
#endif
