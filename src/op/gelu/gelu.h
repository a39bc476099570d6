/* gelu.h — y = x·Φ(x), or its tanh approximation (GPT-2's). */
#ifndef LM_OP_GELU_H
#define LM_OP_GELU_H
#include "op/op.h"
typedef struct { bool tanh; } lm_gelu_p;
extern const lm_op lm_op_gelu;
lm_value *lm_gelu(lm_graph *g, lm_value *x, bool tanh_form);
#endif
