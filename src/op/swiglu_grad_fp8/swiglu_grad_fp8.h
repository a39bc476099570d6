/* swiglu_grad_fp8.h — swiglu_grad's da and db in e4m3 as quant_fp8 makes them: outputs 0 to 3 of da, 4 to 7 of db, 8 the counts; neither is kept as
 * it is. `beside`: 0 to 3 are of [da db] instead, the gradient of a product that is both a and b, and 4 to 7 absent. A device's plans have it by
 * unite.c. Params `of` are da's, then db's. */
#ifndef LM_SWIGLU_GRAD_FP8_H
#define LM_SWIGLU_GRAD_FP8_H
#include "op/quant_fp8/quant_fp8.h"
extern const lm_op lm_op_swiglu_grad_fp8;
typedef struct { lm_quant_fp8_p of[2]; bool beside; } lm_swiglu_grad_fp8_p;
#endif
