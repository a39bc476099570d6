/* probe.c — see probe.h. */
#include <stdio.h>
#include <string.h>
#include "base/pool.h"
#include "device/cpu.h"
#include "device/probe_int.h"

typedef struct { float (*chain)(int64_t); uint64_t (*sum)(const void *, size_t); int width; } loops;
static loops pick(const lm_ctx *ctx) {
    uint64_t f = lm_cpu_features(), m = lm_ctx_isa_mask(ctx);
    if (m) f &= m;
#if defined(__x86_64__)
    if (f & LM_CPU_AVX512) return (loops){ lm_probe_chain_avx512, lm_probe_sum_avx512, lm_probe_width_avx512() };
    if (f & LM_CPU_AVX2) return (loops){ lm_probe_chain_avx2, lm_probe_sum_avx2, lm_probe_width_avx2() };
#endif
    return (loops){ lm_probe_chain_portable, lm_probe_sum_portable, lm_probe_width_portable() };
}
typedef struct { loops l; const char *buf; size_t each; int repeat; int64_t rounds; volatile uint64_t sink[1024]; volatile float fsink[1024]; } job;
static void reading(void *ud, int ith, int nth) {
    job *j = ud; (void)nth;
    uint64_t s = 0;
    for (int i = 0; i < j->repeat; i++) s += j->l.sum(j->buf + (size_t)ith * j->each, j->each);
    j->sink[ith & 1023] = s;
}
static void chaining(void *ud, int ith, int nth) { job *j = ud; (void)nth; j->fsink[ith & 1023] = j->l.chain(j->rounds); }
static void touching(void *ud, int ith, int nth) {
    job *j = ud;
    (void)nth;
    memset((char *)(uintptr_t)j->buf + (size_t)ith * j->each, ith + 1, j->each);
}

/* The best of the passes that fit into the time, three at least. */
static double best(lm_ctx *ctx, lm_team_fn *fn, job *j, double seconds) {
    double b = 1e30, end = lm_now() + seconds;
    for (int i = 0; i < 3 || lm_now() < end; i++) {
        double t = lm_now();
        lm_pool_run(lm_ctx_pool(ctx), fn, j);
        t = lm_now() - t;
        if (i && t > 0 && t < b) b = t;                     /* the first one wakes the team and the clock rate */
    }
    return b;
}
double lm_probe_read(lm_ctx *ctx, size_t each, double seconds) {
    int n = lm_ctx_threads(ctx);
    each = (each + 4095) & ~(size_t)4095;
    job *j = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *j);
    char *buf = j ? lm_alloc(ctx, LM_MEM_SCRATCH, each * (size_t)n) : NULL;
    double r = 0;
    if (buf) {
        j->l = pick(ctx); j->buf = buf; j->each = each;
        j->repeat = each < (size_t)4 << 20 ? (int)(((size_t)8 << 20) / each) + 1 : 1;
        lm_pool_run(lm_ctx_pool(ctx), touching, j);
        r = (double)each * n * j->repeat / best(ctx, reading, j, seconds);
    }
    lm_free(ctx, buf); lm_free(ctx, j);
    return r;
}
double lm_probe_fma(lm_ctx *ctx, double seconds) {
    job *j = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *j);
    if (!j) return 0;
    j->l = pick(ctx); j->rounds = 1000000;
    double r = (double)j->rounds * LM_PROBE_CHAINS * j->l.width * 2 * lm_ctx_threads(ctx) / best(ctx, chaining, j, seconds);
    lm_free(ctx, j);
    return r;
}

/* ---- memory -------------------------------------------------------------------------------------------------------------- */
static size_t meminfo(const char *key) {
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return 0;
    char line[256]; size_t n = strlen(key); unsigned long long kb = 0; bool found = false;
    while (!found && fgets(line, sizeof line, f)) found = !strncmp(line, key, n) && line[n] == ':' && sscanf(line + n + 1, "%llu", &kb) == 1;
    fclose(f);
    return found ? (size_t)kb << 10 : 0;
}
static size_t number_in(const char *path) {                  /* 0: not there, or "max" */
    FILE *f = fopen(path, "r");
    unsigned long long v = 0;
    if (!f) return 0;
    if (fscanf(f, "%llu", &v) != 1) v = 0;
    fclose(f);
    return (size_t)v;
}
size_t lm_memory_total(void) {
    size_t all = meminfo("MemTotal"), cg = number_in("/sys/fs/cgroup/memory.max");
    return cg && (!all || cg < all) ? cg : all;
}
size_t lm_memory_available(void) {
    size_t free_now = meminfo("MemAvailable"), cg = number_in("/sys/fs/cgroup/memory.max"), used = number_in("/sys/fs/cgroup/memory.current");
    if (cg && cg > used && cg - used < free_now) return cg - used;
    return free_now;
}
