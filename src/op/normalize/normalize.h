/* normalize.h — y = x / (‖x‖ + eps), ‖·‖ over all elements (Frobenius): where Newton–Schulz starts. No gradient: it serves optimizers. */
#ifndef LM_OP_NORMALIZE_H
#define LM_OP_NORMALIZE_H
#include "op/op.h"
typedef struct { float eps; } lm_normalize_p;
extern const lm_op lm_op_normalize;
lm_value *lm_normalize(lm_graph *g, lm_value *x, float eps);
#endif
