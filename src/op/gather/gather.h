/* gather.h — y[i] = x[idx[i]]: chosen rows of an activation (the last token of each sequence). An index outside makes run() return LM_E_RANGE. */
#ifndef LM_OP_GATHER_H
#define LM_OP_GATHER_H
#include "op/op.h"
extern const lm_op lm_op_gather;
lm_value *lm_gather(lm_graph *g, lm_value *x, lm_value *idx);
#endif
