/* pool.c — the team.
 *
 * A call is published by bumping `call`; helpers see it by spinning, then by sleeping on it as a futex. Each wait is a `gate`: a word that
 * changes and a count of sleepers. The waker changes the word, then looks at the count; the sleeper raises the count, then the kernel looks at
 * the word: both sequentially consistent, so one of them sees the other. Spinning is for machines with a core per member; elsewhere it would
 * only keep the one awaited from running. */
#define _GNU_SOURCE 1
#include "base/internal.h"
#include "base/lot.h"
#include "base/numa.h"
#include "base/pool.h"
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN_IDLE 50e-6                   /* a helper waiting for the next call */
#define SPIN_INSIDE 200e-6                /* waiting for team mates, who are known to be at work */
#define SPIN_HARD 5e-6                    /* longest without offering the core to others */

typedef struct { _Alignas(64) _Atomic uint32_t word; _Atomic uint32_t sleepers; } gate;
typedef struct { pthread_t thread; struct lm_pool *pool; int ith; } helper;

struct lm_pool {
    gate call;                            /* number of calls published */
    gate left;                            /* helpers still at work; 0 = done */
    gate round;                           /* barrier generations */
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) lm_team_fn *fn;          /* NULL = leave; written before call is bumped */
    void *ud;
    lm_ctx *ctx;
    int n;
    bool spin;
    helper *helpers;                      /* n - 1 */
    lm_lot *lots;                         /* n */
};

int lm_usable_cores(void) {
    int cores = 0;
    for (int cap = 1024; cap <= 1 << 20 && !cores; cap *= 4) {       /* the kernel's mask may be larger than cpu_set_t */
        cpu_set_t *set = CPU_ALLOC(cap);
        if (!set) break;
        if (!sched_getaffinity(0, CPU_ALLOC_SIZE(cap), set)) cores = CPU_COUNT_S(CPU_ALLOC_SIZE(cap), set);
        else if (errno != EINVAL) cap = 1 << 20;
        CPU_FREE(set);
    }
    if (cores < 1) cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores;
}

static void futex(_Atomic uint32_t *word, int op, uint32_t v) { syscall(SYS_futex, (uint32_t *)word, op | FUTEX_PRIVATE_FLAG, v, NULL, NULL, 0); }

static void gate_wake(gate *g) { if (atomic_load(&g->sleepers)) futex(&g->word, FUTEX_WAKE, INT32_MAX); }

/* One look at the gate: has the word left `old` (or, for want_zero, become 0)? */
static bool passed(gate *g, uint32_t old, bool want_zero, uint32_t *seen) {
    *seen = atomic_load_explicit(&g->word, memory_order_acquire);
    return want_zero ? *seen == 0 : *seen != old;
}

static void gate_wait(gate *g, uint32_t old, bool want_zero, double spin) {
    uint32_t seen;
    if (passed(g, old, want_zero, &seen)) return;
    if (spin > 0)
        for (double t0 = lm_now(), t = t0; t < t0 + spin; t = lm_now()) {
            if (t > t0 + SPIN_HARD) sched_yield();       /* on a busy machine we may hold the very core that a team mate needs */
            for (int i = 0; i < 64; i++) {
                if (passed(g, old, want_zero, &seen)) return;
                lm_pause();
            }
        }
    atomic_fetch_add(&g->sleepers, 1);
    for (;;) {
        seen = atomic_load(&g->word);
        if (want_zero ? seen == 0 : seen != old) break;
        futex(&g->word, FUTEX_WAIT, seen);
    }
    atomic_fetch_sub(&g->sleepers, 1);
}

static void *helper_main(void *arg) {
    helper *h = arg;
    lm_pool *p = h->pool;
    for (uint32_t call = 0;;) {
        gate_wait(&p->call, call, false, p->spin ? SPIN_IDLE : 0);
        call++;                           /* the caller waits for all, so there is never more than one call ahead */
        if (!p->fn) return NULL;
        p->fn(p->ud, h->ith, p->n);
        if (atomic_fetch_sub(&p->left.word, 1) == 1) gate_wake(&p->left);
    }
}

static void publish(lm_pool *p, lm_team_fn *fn, void *ud) {
    p->fn = fn;
    p->ud = ud;
    atomic_store_explicit(&p->left.word, (uint32_t)p->n - 1, memory_order_relaxed);
    atomic_fetch_add(&p->call.word, 1);
    gate_wake(&p->call);
}

lm_err lm_pool_new(lm_pool **out, lm_ctx *ctx, int n_threads) { return lm_pool_new_on(out, ctx, n_threads, LM_NUMA_FOLDER); }
lm_err lm_pool_new_on(lm_pool **out, lm_ctx *ctx, int n_threads, const char *numa_folder) {
    if (n_threads < 1 || n_threads > 4096) return lm_fail(ctx, LM_E_RANGE, "a pool of %d threads: wanted 1 to 4096", n_threads);
    cpu_set_t node[LM_NUMA_MOST];
    const int nodes = n_threads > 1 ? lm_numa_nodes(numa_folder, node, LM_NUMA_MOST) : 0;
    lm_pool *p = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *p);
    helper *h = p ? lm_calloc(ctx, LM_MEM_MISC, (size_t)n_threads, sizeof *h) : NULL;
    lm_lot *lots = h ? lm_calloc(ctx, LM_MEM_MISC, (size_t)n_threads, sizeof *lots) : NULL;
    if (!lots) { lm_free(ctx, h); lm_free(ctx, p); return LM_E_NOMEM; }
    p->ctx = ctx;
    p->helpers = h; p->lots = lots;
    p->spin = n_threads <= lm_usable_cores();
    sigset_t all, old;                    /* signals are for the threads of the program, not for ours */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = 0;
    for (p->n = 1; p->n < n_threads; p->n++) {
        helper *me = &h[p->n - 1];
        *me = (helper){ .pool = p, .ith = p->n };
        if ((rc = pthread_create(&me->thread, NULL, helper_main, me))) break;
        char name[16];
        snprintf(name, sizeof name, "loam-%d", p->n);
        pthread_setname_np(me->thread, name);
        /* the caller stays where it likes: it is not ours */
        if (nodes > 1) pthread_setaffinity_np(me->thread, sizeof *node, &node[(int64_t)p->n * nodes / n_threads]);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        int made = p->n;
        lm_pool_free(p);
        return lm_fail(ctx, LM_E_NOMEM, "cannot start thread %d of %d: %s", made, n_threads - 1, strerror(rc));
    }
    *out = p;
    return LM_OK;
}

void lm_pool_free(lm_pool *p) {
    if (!p) return;
    if (p->n > 1) publish(p, NULL, NULL);
    for (int i = 0; i < p->n - 1; i++) pthread_join(p->helpers[i].thread, NULL);
    lm_free(p->ctx, p->helpers); lm_free(p->ctx, p->lots);
    lm_free(p->ctx, p);
}

int lm_pool_size(const lm_pool *p) { return p ? p->n : 1; }

void lm_pool_run(lm_pool *p, lm_team_fn *fn, void *ud) {
    if (!p || p->n == 1) { fn(ud, 0, 1); return; }
    publish(p, fn, ud);
    fn(ud, 0, p->n);
    gate_wait(&p->left, 0, true, p->spin ? SPIN_INSIDE : 0);
}

void lm_team_barrier(lm_pool *p) {
    if (!p || p->n == 1) return;
    uint32_t round = atomic_load_explicit(&p->round.word, memory_order_relaxed);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == (uint32_t)p->n) {
        atomic_store_explicit(&p->arrived, 0, memory_order_relaxed);
        atomic_fetch_add(&p->round.word, 1);
        gate_wake(&p->round);
    } else gate_wait(&p->round, round, false, p->spin ? SPIN_INSIDE : 0);
}

typedef struct { _Alignas(64) _Atomic int64_t next; _Alignas(64) int64_t n; lm_tile_fn *fn; void *ud; } tiles;

static void tiles_team(void *ud, int ith, int nth) {
    (void)nth;
    tiles *t = ud;
    for (int64_t i; (i = atomic_fetch_add_explicit(&t->next, 1, memory_order_relaxed)) < t->n;) t->fn(t->ud, i, ith);
}

void lm_pool_tiles(lm_pool *p, int64_t n, lm_tile_fn *fn, void *ud) {
    if (n == 1 || lm_pool_size(p) == 1) {
        for (int64_t i = 0; i < n; i++) fn(ud, i, 0);
        return;
    }
    if (n <= 0) return;
    tiles t = { .n = n, .fn = fn, .ud = ud };
    lm_pool_run(p, tiles_team, &t);
}

typedef struct { lm_pool *pool; const int64_t *bound; lm_tile_fn *fn; void *ud; } runs_job;
static void runs_team(void *ud, int ith, int nth) {
    const runs_job *j = ud;
    for (int k = 0; k < nth; k++) {
        const int m = (ith + k) % nth;
        const int64_t size = j->bound[m + 1] - j->bound[m];
        for (int64_t t; (t = lm_lot_take(&j->pool->lots[m], size, !k)) >= 0;) j->fn(j->ud, j->bound[m] + t, ith);
    }
}
void lm_pool_runs(lm_pool *p, const int64_t *bound, lm_tile_fn *fn, void *ud) {
    const int n = lm_pool_size(p);
    if (n == 1) {
        for (int64_t i = bound[0]; i < bound[1]; i++) fn(ud, i, 0);
        return;
    }
    for (int m = 0; m < n; m++) atomic_store_explicit(&p->lots[m].taken, 0, memory_order_relaxed);
    lm_pool_run(p, runs_team, &(runs_job){ p, bound, fn, ud });
}
