/* The team: every member runs once per call, what was written is seen, barriers meet, tiles are handed out once. Meant for TSan too. */
#define _GNU_SOURCE 1
#include "test.h"
#include "base/file.h"
#include "base/numa.h"
#include "base/pool.h"
#include <stdatomic.h>
#include <time.h>

enum { MAX = 8 };
typedef struct { lm_pool *p; int ran[MAX]; long sum[MAX]; const long *in; long n; long total; } job;

static void nap(long us) { struct timespec t = { 0, us * 1000 }; nanosleep(&t, NULL); }

static void add_up(void *ud, int ith, int nth) {
    job *j = ud;
    j->ran[ith]++;
    long s = 0;
    for (long i = ith; i < j->n; i += nth) s += j->in[i];
    j->sum[ith] = s;
    lm_team_barrier(j->p);
    if (ith == nth - 1) { j->total = 0; for (int i = 0; i < nth; i++) j->total += j->sum[i]; }
    lm_team_barrier(j->p);
    if (j->total < 0) j->ran[ith] = -1000;                         /* all read what one wrote */
    lm_team_barrier(j->p);
}

static void tile(void *ud, int64_t i, int ith) { (void)ith; ((unsigned char *)ud)[i]++; }

typedef struct { lm_pool *p; int by[MAX]; } met;
static void meet(void *ud, int64_t i, int ith) { met *m = ud; m->by[i] = ith; lm_team_barrier(m->p); }

static void sleepy(void *ud, int ith, int nth) { (void)ud; (void)nth; if (ith % 2) nap(300); }

static void with(int n_threads) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = n_threads }));
    lm_pool *p = lm_ctx_pool(ctx);
    LM_CHECK(lm_ctx_threads(ctx) == n_threads && lm_pool_size(p) == n_threads);
    static long in[1000];
    job j = { .p = p, .in = in, .n = 1000 };
    int rounds = 400, bad = 0;
    for (int r = 0; r < rounds; r++) {
        long want = 0;
        for (int i = 0; i < 1000; i++) want += in[i] = (i * 37L + r) % 101;
        lm_pool_run(p, add_up, &j);
        if (j.total != want) bad++;
        if (r % 40 == 0) nap(200);                                 /* long enough that helpers fall asleep */
    }
    LM_CHECK(!bad);
    for (int i = 0; i < n_threads; i++) LM_CHECK(j.ran[i] == rounds);
    static unsigned char hit[5000];
    for (int64_t n = 0; n <= 5000; n = n * 3 + 1) {
        memset(hit, 0, sizeof hit);
        lm_pool_tiles(p, n, tile, hit);
        for (int64_t i = 0; i < 5000; i++) if (hit[i] != (i < n)) { LM_CHECK(!"each tile once"); break; }
    }
    for (int r = 0; r < 60; r++) {                                  /* runs of any length, none among them */
        int64_t bound[MAX + 1] = { 0 };
        for (int m = 0; m < n_threads; m++) bound[m + 1] = bound[m] + (r * 31 + m * 17) % (r % 3 == 0 ? 1 : r % 3 == 1 ? 7 : 600);
        memset(hit, 0, sizeof hit);
        lm_pool_runs(p, bound, tile, hit);
        for (int64_t i = 0; i < 5000; i++) if (hit[i] != (i < bound[n_threads])) { LM_CHECK(!"each tile once"); break; }
    }
    {   /* a member begins with its own: nobody is through before all have begun */
        int64_t bound[MAX + 1];
        for (int m = 0; m <= n_threads; m++) bound[m] = m;
        met who = { .p = p };
        lm_pool_runs(p, bound, meet, &who);
        for (int m = 0; m < n_threads; m++) LM_CHECK(who.by[m] == m);
    }
    for (int r = 0; r < 20; r++) lm_pool_run(p, sleepy, NULL);
    lm_ctx_free(ctx);
}

static char folder[] = "/tmp/loam-numa-XXXXXX";
static void node(lm_ctx *ctx, int i, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/node%d", folder, i);
    LM_CHECK_OK(ctx, lm_dir_make(ctx, path));
    snprintf(path, sizeof path, "%s/node%d/cpulist", folder, i);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, path, text, strlen(text)));
}
static void online(lm_ctx *ctx, const char *text) {
    char path[128];
    snprintf(path, sizeof path, "%s/online", folder);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, path, text, strlen(text)));
}
typedef struct { cpu_set_t of[MAX]; } seats;
static void where(void *ud, int ith, int nth) { (void)nth; sched_getaffinity(0, sizeof(cpu_set_t), &((seats *)ud)->of[ith]); }
/* Descriptions of other machines; helpers stay on the node that is theirs, the caller where it was. */
static void test_nodes(void) {
    lm_ctx *ctx;
    lm_pool *p;
    cpu_set_t own, set[4];
    seats s;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    if (!mkdtemp(folder)) LM_SKIP("no folder in /tmp");
    sched_getaffinity(0, sizeof own, &own);
    int core[2], n = 0;
    for (int i = 0; i < CPU_SETSIZE && n < 2; i++) if (CPU_ISSET(i, &own)) core[n++] = i;
    LM_CHECK(lm_numa_nodes("/nowhere", set, 4) == 0);
    LM_CHECK(lm_numa_nodes(folder, set, 4) == 0);
    char text[64];
    snprintf(text, sizeof text, "%d\n", core[0]);
    node(ctx, 1, text);
    node(ctx, 3, "1000-1023\n");                                    /* not ours, or not there */
    LM_CHECK(lm_numa_nodes(folder, set, 4) == 0);
    online(ctx, "1,3\n");
    LM_CHECK(lm_numa_nodes(folder, set, 4) == 1 && CPU_COUNT(&set[0]) == 1 && CPU_ISSET(core[0], &set[0]));
    if (n == 2) {
        snprintf(text, sizeof text, "900-950,%d,960\n", core[1]);
        node(ctx, 4, text);
        LM_CHECK(lm_numa_nodes(folder, set, 4) == 1);
        online(ctx, "1,3-4\n");
        LM_CHECK(lm_numa_nodes(folder, set, 4) == 2 && CPU_COUNT(&set[1]) == 1 && CPU_ISSET(core[1], &set[1]));
        LM_CHECK(lm_numa_nodes(folder, set, 1) == 1);
        LM_NEED_OK(ctx, lm_pool_new_on(&p, ctx, 5, folder));
        lm_pool_run(p, where, &s);
        LM_CHECK(CPU_EQUAL(&s.of[0], &own));
        for (int i = 1; i < 5; i++) LM_CHECK(CPU_EQUAL(&s.of[i], &set[i * 2 / 5]));
        lm_pool_free(p);
    }
    online(ctx, "1,7\n");
    LM_CHECK(lm_numa_nodes(folder, set, 4) == 0);                    /* online, and not described */
    static const char *const bad[] = { "x\n", "3-1\n", "0-\n", "0 1\n", "-1\n", "0-99999999\n", "0", "" };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        node(ctx, 7, bad[i]);
        LM_CHECK(lm_numa_nodes(folder, set, 4) == 0);
    }
    node(ctx, 7, "1000\n");
    LM_CHECK(lm_numa_nodes(folder, set, 4) == 1);
    for (int i = 0; i < LM_COUNT(bad); i++) {
        online(ctx, bad[i]);
        LM_CHECK(lm_numa_nodes(folder, set, 4) == 0);
    }
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, folder));
    lm_ctx_free(ctx);
}
static void test_1(void) { with(1); }
static void test_2(void) { with(2); }
static void test_7(void) { with(7); }

static void test_idle(void) {                                      /* helpers of an idle pool use no processor */
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 4 }));
    lm_pool_run(lm_ctx_pool(ctx), sleepy, NULL);
    nap(20000);
    struct timespec a, b;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    nap(100000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    LM_CHECK((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9 < 0.05);
    lm_ctx_free(ctx);
}

static void test_edges(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    LM_CHECK(lm_ctx_threads(ctx) == lm_usable_cores() && lm_usable_cores() >= 1);
    lm_pool *p = NULL;
    LM_CHECK_ERR(ctx, lm_pool_new(&p, ctx, 0), LM_E_RANGE, "0 threads");
    LM_CHECK_ERR(ctx, lm_pool_new(&p, ctx, 100000), LM_E_RANGE, "100000");
    lm_ledger before, after;
    lm_mem_ledger(ctx, &before);
    for (uint64_t n = 1; n <= 2; n++) {
        lm_mem_fail_at(ctx, n, false);
        LM_CHECK_ERR(ctx, lm_pool_new(&p, ctx, 3), LM_E_NOMEM, "out of memory");
    }
    LM_CHECK(!p);
    lm_mem_ledger(ctx, &after);
    LM_CHECK(before.total_now == after.total_now);
    lm_pool_free(NULL);
    lm_ctx_free(ctx);
    for (int i = 0; i < 50; i++) {                                 /* born and gone without a call */
        LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 5 }));
        lm_ctx_free(ctx);
    }
}

LM_TEST_MAIN(LM_T1(test_nodes), LM_T1(test_1), LM_T1(test_2), LM_T1(test_7), LM_T1(test_idle), LM_T1(test_edges))
