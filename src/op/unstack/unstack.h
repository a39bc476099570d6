/* unstack.h — one of what stack has put one behind the other: y = x[i], a view. No gradient: it serves optimizers. */
#ifndef LM_OP_UNSTACK_H
#define LM_OP_UNSTACK_H
#include "op/op.h"
typedef struct { int64_t at; } lm_unstack_p;
extern const lm_op lm_op_unstack;
lm_value *lm_unstack(lm_graph *g, lm_value *x, int64_t at);
#endif
