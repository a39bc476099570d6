/* probe.h — what the cores and the memory of this machine reach, measured: the ceilings that plans and utilization are stated against.
 *
 * Each figure is the best of a few short passes by all threads of a context: what is there, not what a loaded machine happens to give.
 * Reading is a sum over a buffer, each thread its own stretch in order; arithmetic is twelve independent chains of multiply-add per
 * thread, in the widest vectors allowed; integer arithmetic the same with the widest product of bytes there is (vpdpbusd, or vpmaddubsw
 * and an addition, or plain C).
 *
 * Lifetime: nothing is kept.  Threads: as lm_pool_run.
 * Errors:   0 where the buffer cannot be had. */
#ifndef LM_PROBE_H
#define LM_PROBE_H
#include "base/base.h"
double lm_probe_read(lm_ctx *ctx, size_t bytes_per_thread, double seconds);   /* bytes per second, all threads */
double lm_probe_read_small(lm_ctx *ctx, size_t bytes_per_thread, double seconds);     /* the same where the system may use no huge pages */
void lm_probe_walk(lm_ctx *ctx, const void *p, size_t bytes);                 /* read it once, by all threads: what was in the caches is then gone */
double lm_probe_fma(lm_ctx *ctx, double seconds);                             /* f32 operations per second (a multiply-add is two), all threads */
/* 8-bit products (unsigned by signed, summed in 32 bits; a product with its addition is two operations), all threads. */
double lm_probe_dot8(lm_ctx *ctx, double seconds);
size_t lm_memory_total(void);                                                 /* bytes of the machine; 0 = unknown */
/* what a new program can have without swapping; a cgroup's limit counts */
size_t lm_memory_available(void);
#endif
