/* rope_fp8.h — [rope(x) v] in e4m3 as quant_fp8 makes it (outputs and counts are its): the gradient of a product that is q, k and v, where that of
 * q and k is rotated back first. What is rotated is not kept. A device's plans have it by unite.c.
 *
 * x (N, heads × d_head), table (N, d_head), v (N, C), both of widths in multiples of 128. Whole heads turn, by halves; d_head divides 128.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_ROPE_FP8_H
#define LM_ROPE_FP8_H
#include "op/quant_fp8/quant_fp8.h"
#include "op/rope/rope.h"
extern const lm_op lm_op_rope_fp8;
typedef struct { lm_rope_p rope; lm_quant_fp8_p to; } lm_rope_fp8_p;
#endif
