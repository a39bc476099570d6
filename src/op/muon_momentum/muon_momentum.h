/* muon_momentum.h — Muon's momentum: g = grad·scale; buf += (1-µ)(g - buf); output 0 (fresh) = nesterov ? g + µ(buf - g) : buf.
 * Outputs 1, 2: the next versions of grad (left as zeros) and buf. hyper: op/hyper.h, µ is BETA1. scale: F32 (1). */
#ifndef LM_OP_MUON_MOMENTUM_H
#define LM_OP_MUON_MOMENTUM_H
#include "op/op.h"
#include "op/hyper.h"
typedef struct { bool nesterov; } lm_muon_momentum_p;
extern const lm_op lm_op_muon_momentum;
lm_value *lm_muon_momentum(lm_graph *g, lm_value *grad, lm_value *buf, lm_value *hyper, lm_value *scale, bool nesterov);
#endif
