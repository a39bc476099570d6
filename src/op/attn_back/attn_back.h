/* attn_back.h — attn_grad and what stands behind it where q, k and v are one matrix with a bias: dq, dk, dv side by side (concat) and the sums of
 * their columns, the gradient of that bias (sum_rows). A device's plans have it by unite.c; what is added up is not rounded before.
 *
 * Inputs and params as attn_grad's. Outputs: 0 is [dq dk dv], 1 the sums, which can be added to.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_ATTN_BACK_H
#define LM_ATTN_BACK_H
#include "op/attn/attn.h"
extern const lm_op lm_op_attn_back;
#endif
