/* pool.h — one team of threads, owned by the context.
 *
 * Work is a function called once by each member with (ith, nth); the caller is member 0 and returns when all are done.
 * Between calls the helpers spin for a few microseconds, then sleep on a futex, so that a decode loop pays no wake-up and an idle program no
 * power. Inside a call members meet by atomics of their own or by lm_team_barrier(). What is computed must not depend on nth: split work
 * into tiles whose bounds depend on the problem alone and hand them out.
 *
 * Lifetime: made and freed with the context.
 * Threads:  lm_pool_run may be called by one thread at a time, and not from inside itself.
 * Errors:   creation only; run cannot fail. */
#ifndef LM_POOL_H
#define LM_POOL_H
#include "base/base.h"
typedef struct lm_pool lm_pool;
typedef void lm_team_fn(void *ud, int ith, int nth);
lm_err lm_pool_new(lm_pool **out, lm_ctx *ctx, int n_threads);    /* n_threads counts the caller; 1 creates no thread */
/* The same with another description of the machine's nodes (numa.h): where there are several, each helper stays on one, neighbours on the same. */
lm_err lm_pool_new_on(lm_pool **out, lm_ctx *ctx, int n_threads, const char *numa_folder);
void lm_pool_free(lm_pool *p);
int lm_pool_size(const lm_pool *p);
int lm_usable_cores(void);                                        /* cores this process may run on: its affinity mask */
void lm_pool_run(lm_pool *p, lm_team_fn *fn, void *ud);
void lm_team_barrier(lm_pool *p);                                 /* from inside a call, by every member */
/* Tiles 0..n-1 handed out by an atomic counter: fn(ud, tile, ith). */
typedef void lm_tile_fn(void *ud, int64_t tile, int ith);
void lm_pool_tiles(lm_pool *p, int64_t n, lm_tile_fn *fn, void *ud);
/* Tiles bound[m] … bound[m + 1] - 1 are member m's, which takes them in order; who has none left takes others', from their ends. For what should be done
 * by one member rather than another: memory lies near to who writes it first. bound: size + 1 numbers, ascending from 0, a run below 2^31. */
void lm_pool_runs(lm_pool *p, const int64_t *bound, lm_tile_fn *fn, void *ud);
static inline void lm_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}
#endif
