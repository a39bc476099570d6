/* softcap.h — y = c tanh(x/c): near 0 the identity, never beyond ±c (Gemma 2's logits). */
#ifndef LM_OP_SOFTCAP_H
#define LM_OP_SOFTCAP_H
#include "op/op.h"
typedef struct { float cap; } lm_softcap_p;
extern const lm_op lm_op_softcap;
lm_value *lm_softcap(lm_graph *g, lm_value *x, float cap);
#endif
