/* adamw.h — one AdamW step in place (Loshchilov & Hutter 2019): param, grad, m, v are states, written; grad leaves as zeros.
 *
 * g = grad·scale; p *= 1 - lr·wd; m += (1-β1)(g - m); v = β2·v + (1-β2)·g²; p -= lr/bias1 · m / (√v/√bias2 + eps).
 * param may be in 16-row panels while the others are plain. hyper: op/hyper.h. scale: F32 (1), what clip_scale gives.
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_ADAMW_H
#define LM_OP_ADAMW_H
#include "op/op.h"
#include "op/hyper.h"
extern const lm_op lm_op_adamw;
/* Outputs 0..3: the next versions of param, grad, m, v. */
lm_value *lm_adamw(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale);
#endif
