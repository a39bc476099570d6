/* embed.h — y[i] = W[ids[i]]: rows of a (V, d) matrix in any dtype, layout or quantized format, as f32.
 * Errors: an id outside [0, V) makes run() return LM_E_RANGE; nothing outside W is read. */
#ifndef LM_OP_EMBED_H
#define LM_OP_EMBED_H
#include "op/op.h"
extern const lm_op lm_op_embed;
extern const lm_kernel *const lm_k_rows[];      /* rows of input 0 by the ids of input 1; gather has the same kernel */
lm_value *lm_embed(lm_graph *g, lm_value *w, lm_value *ids);
#endif
