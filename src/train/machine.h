/* machine.h — this machine in a dozen numbers, measured once: what plans are priced with and utilization is stated against.
 *
 * Lifetime: a value.  Threads: one caller; the measuring uses the context's pool.
 * Errors:   LM_E_NOMEM. */
#ifndef LM_MACHINE_H
#define LM_MACHINE_H
#include "graph/plan.h"
typedef struct {
    int threads;
    double fma_f32;                          /* flop/s of independent multiply-adds, all threads */
    double mm_f32, mm_bf16;                  /* flop/s that the matrix product rows reach at a size that suits them, all threads */
    double read_1, read_n;                   /* bytes/s from memory by one thread and by all */
    double cache_n;                          /* bytes/s by all threads from half a megabyte each */
    double mid_n;                            /* the same from eight megabytes each: the last cache, where it is that large */
} lm_machine;
/* About a second and a half; `ctx` has the threads meant. */
lm_err lm_machine_measure(lm_ctx *ctx, lm_machine *m);
/* flop/s of one product C (m,n) = A (m,k) W (n,k)ᵀ in dtype mm (F32, BF16); best of the runs that fit into the time. panels: W as inference keeps it. */
lm_err lm_machine_matmul(lm_ctx *ctx, lm_dtype mm, int64_t m, int64_t n, int64_t k, bool panels, double seconds, double *flops);
#endif
