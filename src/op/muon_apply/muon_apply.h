/* muon_apply.h — param = param·(1 - lr·wd) - lr·factor·update, in place; param may be in 16-row panels. hyper: op/hyper.h. */
#ifndef LM_OP_MUON_APPLY_H
#define LM_OP_MUON_APPLY_H
#include "op/op.h"
#include "op/hyper.h"
typedef struct { float factor; } lm_muon_apply_p;
extern const lm_op lm_op_muon_apply;
lm_value *lm_muon_apply(lm_graph *g, lm_value *param, lm_value *update, lm_value *hyper, float factor);
#endif
