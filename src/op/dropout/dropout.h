/* dropout.h — y = x / (1-p) where a draw is >= p, else 0. The gradient draws the same mask again: nothing is stored.
 *
 * rng is I64 (2): seed, step — a run's input. The draw for element i is lm_rng_uniform of (seed, stream ^ step·odd, i): it depends on nothing else. */
#ifndef LM_OP_DROPOUT_H
#define LM_OP_DROPOUT_H
#include "op/op.h"
typedef struct { float p; uint64_t stream; } lm_dropout_p;
extern const lm_op lm_op_dropout;
lm_value *lm_dropout(lm_graph *g, lm_value *x, lm_value *rng, float p, uint64_t stream);
static inline lm_rng lm_dropout_rng(const lm_dropout_p *p, const int64_t *rng) {
    return (lm_rng){ .seed = (uint64_t)rng[0], .stream = p->stream ^ (uint64_t)rng[1] * 0x9E3779B97F4A7C15u }; }
#endif
