/* join.h — several steps of a plan that one kernel does, where a device has it.
 *
 * A join is a pattern over ops, one statement per step, "y=rmsnorm(x,w); q=matmul(y,a)": names are values, matched by who made whom; the
 * steps must follow each other in the plan. It is not a row of the graph: the graph, its rounding points and the memory of the steps stay
 * as they are, and whether a join runs is decided before each run from the sizes then (a decode step is joined, a prefill of the same
 * plan is not); of several that begin with a step the first in the table that takes the sizes runs. Values that only steps of the join read need not be written. Statements whose outputs others may read are `keeps`. What a
 * join computes is its steps' meaning; where products are taken in bf16 the order of additions is its own.
 * A pattern "A | B" is A as often as it follows itself, each time with the last statement's value as the first's first input, then B, which begins with
 * that too. Names in capitals are the same value throughout, others are new each time. Such a join touches only what comes from outside and what is read outside: what
 * its steps hand to each other has its own place in `shared`, or none.
 *
 * Lifetime: rows are static const.  Threads: as op.h.  Errors: as run() of a kernel. */
#ifndef LM_JOIN_H
#define LM_JOIN_H
#include "op/op.h"
enum { LM_JOIN_STEPS = 20 };                               /* statements of a pattern */
typedef struct lm_join {
    const char *name, *pattern;
    lm_dev_kind device; uint64_t needs;
    uint32_t keeps;                                      /* bit k: outputs of statement k are written */
    bool (*accepts)(const lm_call *const *c);            /* calls in the pattern's order, with the sizes of this run */
    lm_err (*run)(const lm_call *const *c, void *scratch);
    /* patterns that repeat, in place of these two: A was found `times` times. shared: bytes of device memory, from sizes at their largest; 0 = these steps will never be taken */
    size_t (*shared)(const lm_call *const *c, int times);
    bool (*accepts_all)(const lm_call *const *c, int times);
    lm_err (*run_all)(const lm_call *const *c, int times, void *shared, void *scratch);
} lm_join;
extern const lm_join *const lm_joins[];                  /* NULL-terminated, tried in order */
#endif
