/* rope.h — rotate pairs of dimensions of every head by the angles of a table (op/rope_table).
 *
 * Of each head's d_head dimensions the first `rotary` turn, the rest are copied. Pairs are (i, i + rotary/2), as Hugging Face lays out weights, or
 * neighbours (2i, 2i+1) if interleaved, as GGUF files of some models do. The gradient is the rotation back: inverse = true.
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_ROPE_H
#define LM_ROPE_H
#include "op/op.h"
typedef struct lm_rope_p { int d_head, rotary; bool interleaved, inverse; } lm_rope_p;
extern const lm_op lm_op_rope;
/* x (N, heads*d_head), table (N, rotary) -> like x */
lm_value *lm_rope(lm_graph *g, lm_value *x, lm_value *table, const lm_rope_p *p);
#endif
