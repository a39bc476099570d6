/* quant_fit.h — the search behind the formats that are written well: codes, scales and minima of least squared error, weighted by importance.
 *
 * A block is brought to largest magnitude 1 and its weights to largest 1, so no sum overflows or vanishes. A group of numbers is then fitted by
 * trying several ranges and, from the best of them, alternating between the two problems that are easy alone: codes for a given scale (rounding)
 * and the scale for given codes (least squares); Lloyd's method on a line. In a super-block the groups' scales are rounded too: the common scale is
 * fitted to the rounded ones by least squares, every group looks at its neighbouring scales again, and a round is kept only if the block's error
 * falls. The error counted is that of the numbers a reader gets, half-precision scales included.
 *
 * Lifetime: none.  Threads: pure.  Errors: a block with a number that is not finite gets NaN as scale and codes 0: it is seen, not hidden. */
#ifndef LM_QUANT_FIT_H
#define LM_QUANT_FIT_H
#include "quant/quant_int.h"

/* x ≈ d·s[g]·level: groups of len numbers; levels are lo..hi, or the table's sixteen, ascending (lo, hi its ends). s is in s_lo..s_hi;
 * s_hi = 0: one group, whose scale is d alone. */
typedef struct { int groups, len, lo, hi; const int8_t *table; int s_lo, s_hi; } lm_q_scaled;
typedef struct { uint16_t d; int8_t s[16]; int8_t level[LM_QK_K]; } lm_q_scaled_fit;
void lm_q_fit_scaled(const lm_q_scaled *f, const float *x, const float *weight, lm_q_scaled_fit *out);

/* x ≈ d·s[g]·code - dmin·m[g]: codes 0..top, s and m 0..s_top; s_top = 0: one group with x ≈ d·code + dmin, dmin of any sign. */
typedef struct { int groups, len, top, s_top; } lm_q_affine;
typedef struct { uint16_t d, dmin; uint8_t s[16], m[16], code[LM_QK_K]; } lm_q_affine_fit;
void lm_q_fit_affine(const lm_q_affine *f, const float *x, const float *weight, lm_q_affine_fit *out);
#endif
