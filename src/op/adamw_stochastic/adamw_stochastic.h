/* adamw_stochastic.h — adamw for a parameter that is kept in bf16 alone: computed in f32 from it, the result rounded to one of its two neighbours
 * in bf16 by chance, up with the probability of its distance from the lower one, so that updates far below a bf16's step are not lost on average.
 *
 * param (bf16), grad, m, v are states, written; grad leaves as zeros where params.clear is set, else as it was. rng is I64 (2): seed, step. Number i
 * takes 16 bits of Philox (block i / 8, word i % 8 / 2, low half first) of (seed, stream ^ step·odd): bits depend on seed, step, stream (the
 * parameter's name) and i alone, not on threads, ranks or launches. The arithmetic has no fused multiply-add, so every kernel gives the same bits.
 *
 * Lifetime: row const.  Threads: pure.  Errors: builders return NULL when the graph is in error. */
#ifndef LM_OP_ADAMW_STOCHASTIC_H
#define LM_OP_ADAMW_STOCHASTIC_H
#include "op/op.h"
#include "op/hyper.h"
typedef struct { uint64_t stream; bool clear; } lm_adamw_stochastic_p;
extern const lm_op lm_op_adamw_stochastic;
/* Outputs 0..3: the next versions of param, grad, m, v. */
lm_value *lm_adamw_stochastic(lm_graph *g, lm_value *param, lm_value *grad, lm_value *m, lm_value *v, lm_value *hyper, lm_value *scale, lm_value *rng,
                              uint64_t stream, bool clear);
static inline lm_rng lm_adamw_stochastic_rng(uint64_t stream, const int64_t *rng) {
    return (lm_rng){ .seed = (uint64_t)rng[0], .stream = stream ^ (uint64_t)rng[1] * 0x9E3779B97F4A7C15u }; }
/* The bits of an f32 to a bf16: adding 16 random bits carries into the upper half with a probability of the lower half's 65536ths. What is exact
 * stays; infinities stay, no number becomes NaN, NaN stays one. */
static inline uint16_t lm_bf16_by_chance(uint32_t x, uint32_t random16) {
    return (x & 0x7fffffffu) > 0x7f800000u ? (uint16_t)(x >> 16 | 0x40u) : (uint16_t)((x + random16) >> 16); }
#endif
