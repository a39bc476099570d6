/* clip_scale.h — from the squared norm of accumulated gradients to what each is multiplied by.
 *
 * hyper2 is F32 (2): max_norm (0: no clipping), 1/tokens. norm = √gnorm2 / tokens (output 1); scale = 1/tokens · min(1, max_norm / (norm +
 * 1e-6)) (output 0). */
#ifndef LM_OP_CLIP_SCALE_H
#define LM_OP_CLIP_SCALE_H
#include "op/op.h"
extern const lm_op lm_op_clip_scale;
lm_value *lm_clip_scale(lm_graph *g, lm_value *gnorm2, lm_value *hyper2);
#endif
