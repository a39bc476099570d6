/* peak.h — what choosing a token wants to know of a row of logits when the row itself stays where it is: its largest, the sum of the
 * exponentials, and all that come near the largest, if they are few.
 *
 * how (P,2), P <= L, says for each of the first P rows t and gap: the sum is over exp((x - max) / t) (0 where t is 0), near is
 * x >= max - gap. Rows of the result, (P, LM_PEAK_COLS), have
 * LM_PEAK_COLS numbers: max, sum, how many are near, 1 if a logit is NaN or +inf (all else is 0 then), then LM_PEAK_MOST ids in order and
 * LM_PEAK_MOST logits, 0 where there are no more; both lists are 0 if more are near than they hold. Ids are exact up to 2^24.
 *
 * best (R >= L,4), a state, gets in its first L rows what a greedy choice is: the largest, the least id that has it, 1 if a logit is NaN or +inf (the first
 * two are 0 then), and 0. op/follow makes the next run's tokens of it. In a run with P = 0 that is all there is, and on a device the logits need not be
 * stored for it (matmul/joins_cuda.cu).
 *
 * Lifetime: values of a graph.  Threads: one builds a graph.  Errors: LM_E_SHAPE from the shape rule. */
#ifndef LM_PEAK_H
#define LM_PEAK_H
#include "op/op.h"
enum { LM_PEAK_MOST = 256, LM_PEAK_COLS = 4 + 2 * LM_PEAK_MOST, LM_PEAK_BEST = 4 };
extern const lm_op lm_op_peak;
/* Output 1 is best after it. */
lm_value *lm_peak(lm_graph *g, lm_value *logits, lm_value *how, lm_value *best);
/* A row of the result. */
typedef struct { float max, sum; int64_t n; bool bad; const float *id, *logit; } lm_peak_row;
static inline lm_peak_row lm_peak_of(const float *row) {
    const lm_peak_row r = { row[0], row[1], (int64_t)row[2], row[3] != 0.0f, row + 4, row + 4 + LM_PEAK_MOST };
    return r;
}
/* A row of best, as the greedy choice's only candidate. */
static inline lm_peak_row lm_peak_of_best(const float *row) {
    const lm_peak_row r = { row[0], 0.0f, row[2] == 0.0f, row[2] != 0.0f, row + 1, row };
    return r;
}
#endif
