/* matmul_gelu.h — h = x W [+ bias] (output 0, kept for the backward) and y = gelu(h) in its tanh form (output 1): what an epilogue of the product
 * can do. Made by unite.c; x is rows, W a matrix. y is of h before h is rounded where both are stored as bf16. */
#ifndef LM_OP_MATMUL_GELU_H
#define LM_OP_MATMUL_GELU_H
#include "op/matmul/matmul.h"
extern const lm_op lm_op_matmul_gelu;
typedef struct { lm_matmul_p mm; } lm_matmul_gelu_p;
#endif
