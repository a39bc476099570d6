/* gelu_back.h — what the backward has to do around one gelu, reading its rows once: dx = dy·gelu'(x) (output 0), sum_rows dx (1, if wanted: the
 * gradient of the bias before it), y = gelu(x) once more (2, if wanted). Made by unite.c. The sum can be added to. */
#ifndef LM_OP_GELU_BACK_H
#define LM_OP_GELU_BACK_H
#include "op/op.h"
enum { LM_GELU_BACK_DB = 1 << 1, LM_GELU_BACK_Y = 1 << 2 };
typedef struct { bool tanh; uint32_t outs; } lm_gelu_back_p;      /* outs: a bit per output there is */
extern const lm_op lm_op_gelu_back;
#endif
