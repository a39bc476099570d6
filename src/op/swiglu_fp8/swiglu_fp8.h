/* swiglu_fp8.h — y = silu(a) b in e4m3 as quant_fp8 makes it (outputs and counts are its); y is not kept. A device's plans have it by unite.c. */
#ifndef LM_SWIGLU_FP8_H
#define LM_SWIGLU_FP8_H
#include "op/quant_fp8/quant_fp8.h"
extern const lm_op lm_op_swiglu_fp8;
#endif
