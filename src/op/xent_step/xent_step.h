/* xent_step.h — xent and the gradient of sum(loss) in one sweep over chunks of rows: loss (N), lse (N), dx (N,d), dW (V,d).
 *
 * Per chunk: logits; each row becomes loss, lse and d loss / d logits in place; then dx = dz W and dW += dzᵀ x. Only one chunk of logits
 * exists at a time. dx adds over the vocabulary in order, dW over tokens in order (each tile owns a part of it), so the chunk size changes
 * no bits. W is plain: a weight in panels has no gradient to add to. Emitted by xent's gradient.
 *
 * Lifetime, Threads, Errors: as xent.h. */
#ifndef LM_XENT_STEP_H
#define LM_XENT_STEP_H
#include "op/xent/xent.h"
extern const lm_op lm_op_xent_step;
typedef struct { lm_xent_p xent; bool refuse; } lm_xent_step_p;   /* refuse: shape() fails; how xent says that only a seed of ones has a gradient */
lm_value *lm_xent_step_of(lm_graph *g, const lm_xent_p *p, int n_in, lm_value *const *in, bool seed_is_ones);
#endif
