/* matmul_add.h — y = h + x W, the product added to what is there already: gradients of a value that several products read. Inputs h, x, W; made by
 * unite.c. On a device y is rounded once, where product and sum apart are rounded twice. */
#ifndef LM_OP_MATMUL_ADD_H
#define LM_OP_MATMUL_ADD_H
#include "op/matmul/matmul.h"
extern const lm_op lm_op_matmul_add;
#endif
