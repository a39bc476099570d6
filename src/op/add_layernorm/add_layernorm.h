/* add_layernorm.h — s = a + b (output 0, the residual stream), y = layernorm(s, w, bias) (output 1), mean and rstd (outputs 2, 3), one pass. */
#ifndef LM_OP_ADD_LAYERNORM_H
#define LM_OP_ADD_LAYERNORM_H
#include "op/layernorm/layernorm.h"
extern const lm_op lm_op_add_layernorm;
#endif
