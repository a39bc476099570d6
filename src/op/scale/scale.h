/* scale.h — y = s·x, s fixed in the graph. */
#ifndef LM_OP_SCALE_H
#define LM_OP_SCALE_H
#include "op/op.h"
typedef struct { float s; } lm_scale_p;
extern const lm_op lm_op_scale;
lm_value *lm_scale(lm_graph *g, lm_value *x, float s);
#endif
