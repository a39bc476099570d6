/* xent.h — the loss of a language model's head, from hidden states: logits are made in chunks of rows and never kept whole.
 *
 *   z = x Wᵀ, or c tanh(x Wᵀ / c) with a cap c;  lse_i = log sum_v exp z_iv;  t = target_i
 *   loss_i = weight_i [ (1 - ls) (lse_i - z_it) + ls (lse_i - mean_v z_iv) + zl lse_i² ],  0 where t < 0
 * The logits have the bits that matmul gives (same kernel level, same mm), and lse is lm_row_lse() of the row, so that a log-probability taken from
 * decoded logits equals the trainer's to the bit.
 * A gradient is taken of sum(loss): grad() replaces the node by xent_step, which makes loss, lse, dx and dW in one sweep.
 * A mean over tokens is a weight input of 1/n.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE; LM_E_RANGE where a target is not below V (its loss is then NaN). */
#ifndef LM_XENT_H
#define LM_XENT_H
#include "op/op.h"
extern const lm_op lm_op_xent;
typedef struct {
    float label_smoothing, z_loss;
    lm_dtype mm;                 /* as matmul's */
    int32_t chunk;               /* rows at a time; 0: as many as make so many bytes of logits: */
    float cap;                   /* of the logits, as op/softcap; 0: none */
} lm_xent_p;
enum { LM_XENT_COLS_BYTES = 40 << 20, LM_XENT_CHUNK_BYTES = 64 << 20 /* kernels that pack W in every chunk */ };
/* x (N,d), W (V,d), target I32 (N), weight (N) or NULL -> loss (N); lm_output(loss, 1) is lse (N). mm = F32; a pass sets it later. */
lm_value *lm_xent(lm_graph *g, lm_value *x, lm_value *w, lm_value *target, lm_value *weight, float label_smoothing, float z_loss);
/* The same, of logits with a cap (0: none). */
lm_value *lm_xent_capped(lm_graph *g, lm_value *x, lm_value *w, lm_value *target, lm_value *weight, float label_smoothing, float z_loss, float cap);
/* log sum exp of a row, in one order on every machine: blocks of 512, in each the maximum, then exp(z - max) in 16 lanes (lane v % 16, in
 * order) without contraction, lanes added by halves; blocks joined in order in double. Rows of -inf give -inf, +inf gives +inf, NaN gives
 * NaN. */
float lm_row_lse(const float *logits, int64_t V);
#endif
