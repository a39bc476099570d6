/* swiglu_back.h — what the backward has to do around one swiglu, reading its rows once: da and db (outputs 0, 1) as swiglu_grad has them, and
 * y = swiglu(a, b) once more (2). Inputs dy, a, b. Made by unite.c. */
#ifndef LM_OP_SWIGLU_BACK_H
#define LM_OP_SWIGLU_BACK_H
#include "op/op.h"
extern const lm_op lm_op_swiglu_back;
#endif
