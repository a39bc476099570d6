/* probe.h — what the cores and the memory of this machine reach, measured: the ceilings that plans and utilization are stated against.
 *
 * Each figure is the best of a few short passes by all threads of a context: what is there, not what a loaded machine happens to give.
 * Reading is a sum over a buffer, each thread its own stretch in order; arithmetic is twelve independent chains of multiply-add per
 * thread, in the widest vectors allowed.
 *
 * Lifetime: nothing is kept.  Threads: as lm_pool_run.
 * Errors:   0 where the buffer cannot be had. */
#ifndef LM_PROBE_H
#define LM_PROBE_H
#include "base/base.h"
double lm_probe_read(lm_ctx *ctx, size_t bytes_per_thread, double seconds);   /* bytes per second, all threads */
double lm_probe_fma(lm_ctx *ctx, double seconds);                             /* f32 operations per second (a multiply-add is two), all threads */
size_t lm_memory_total(void);                                                 /* bytes of the machine; 0 = unknown */
/* what a new program can have without swapping; a cgroup's limit counts */
size_t lm_memory_available(void);
#endif
