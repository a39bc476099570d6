/* attn_back.h — attn_grad and what is done next to what it writes: dq and dk rotated back (rope), dq, dk, dv side by side (concat), the sums of their
 * columns (sum_rows: the gradients of the biases of q, k, v). A device's plans have it by unite.c; what is rotated or added up is not rounded before.
 *
 * Inputs as attn_grad's, then the table of the rotation (N, rotary). Outputs: 0 is [dq dk dv] if `joined`, else dq, 1 dk, 2 dv; 3 the sums, if wanted,
 * of joined ones alone. The sums can be added to.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_ATTN_BACK_H
#define LM_ATTN_BACK_H
#include "op/attn/attn.h"
#include "op/rope/rope.h"
typedef struct { lm_attn_p attn; lm_rope_p rope; bool joined, sums; } lm_attn_back_p;      /* rope.d_head 0: nothing turns */
extern const lm_op lm_op_attn_back;
#endif
