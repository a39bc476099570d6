/* probe.c — see probe.h. */
#define _GNU_SOURCE 1
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "base/pool.h"
#include "device/cpu.h"
#include "device/probe_int.h"

typedef struct { float (*chain)(int64_t); uint64_t (*sum)(const void *, size_t); int width; int64_t (*dot)(int64_t); int bytes; } loops;
int64_t lm_probe_dot8_plain(int64_t rounds) {
    int32_t sum[LM_PROBE_DOT_PLAIN];
    uint8_t a[LM_PROBE_DOT_PLAIN]; int8_t b[LM_PROBE_DOT_PLAIN];
    memset(sum, 0, sizeof sum); memset(a, 3, sizeof a); memset(b, -2, sizeof b);
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < LM_PROBE_DOT_PLAIN; i++) sum[i] += a[i] * b[i];
        __asm__ volatile("" : : "r"(a), "r"(b), "r"(sum) : "memory");
    }
    int64_t s = 0;
    for (int i = 0; i < LM_PROBE_DOT_PLAIN; i++) s += sum[i];
    return s;
}
static loops pick_dot(uint64_t f, loops l) {
    l.dot = lm_probe_dot8_plain; l.bytes = LM_PROBE_DOT_PLAIN;
#if defined(__x86_64__)
    if (f & LM_CPU_AVX2) { l.dot = lm_probe_dot8_avx2; l.bytes = LM_PROBE_DOT_AVX2; }
    if (f & LM_CPU_AVX512_VNNI) { l.dot = lm_probe_dot8_vnni; l.bytes = LM_PROBE_DOT_VNNI; }
#endif
    return l;
}
static loops pick(const lm_ctx *ctx) {
    uint64_t f = lm_cpu_features(), m = lm_ctx_isa_mask(ctx);
    if (m) f &= m;
#if defined(__x86_64__)
    if (f & LM_CPU_AVX512) return pick_dot(f, (loops){ lm_probe_chain_avx512, lm_probe_sum_avx512, lm_probe_width_avx512(), NULL, 0 });
    if (f & LM_CPU_AVX2) return pick_dot(f, (loops){ lm_probe_chain_avx2, lm_probe_sum_avx2, lm_probe_width_avx2(), NULL, 0 });
#endif
    return pick_dot(f, (loops){ lm_probe_chain_portable, lm_probe_sum_portable, lm_probe_width_portable(), NULL, 0 });
}
typedef struct { loops l; const char *buf; size_t each; int repeat; int64_t rounds; volatile uint64_t sink[1024]; volatile float fsink[1024]; } job;
static void reading(void *ud, int ith, int nth) {
    job *j = ud; (void)nth;
    uint64_t s = 0;
    for (int i = 0; i < j->repeat; i++) s += j->l.sum(j->buf + (size_t)ith * j->each, j->each);
    j->sink[ith & 1023] = s;
}
static void chaining(void *ud, int ith, int nth) { job *j = ud; (void)nth; j->fsink[ith & 1023] = j->l.chain(j->rounds); }
static void dotting(void *ud, int ith, int nth) { job *j = ud; (void)nth; j->sink[ith & 1023] = (uint64_t)j->l.dot(j->rounds); }
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
static double read_rate(lm_ctx *ctx, size_t each, double seconds, bool small) {
    int n = lm_ctx_threads(ctx);
    each = (each + 4095) & ~(size_t)4095;
    job *j = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *j);
    char *buf = j ? lm_alloc(ctx, LM_MEM_SCRATCH, each * (size_t)n) : NULL;
    double r = 0;
    if (buf) {
        char *page = (char *)(((uintptr_t)buf + 4095) & ~(uintptr_t)4095);
        if (small && each * (size_t)n > 8192) madvise(page, (each * (size_t)n - 4096) & ~(size_t)4095, MADV_NOHUGEPAGE);      /* advice */
        j->l = pick(ctx); j->buf = buf; j->each = each;
        j->repeat = each < (size_t)4 << 20 ? (int)(((size_t)8 << 20) / each) + 1 : 1;
        lm_pool_run(lm_ctx_pool(ctx), touching, j);
        r = (double)each * n * j->repeat / best(ctx, reading, j, seconds);
    }
    lm_free(ctx, buf); lm_free(ctx, j);
    return r;
}
double lm_probe_read(lm_ctx *ctx, size_t each, double seconds) { return read_rate(ctx, each, seconds, false); }
double lm_probe_read_small(lm_ctx *ctx, size_t each, double seconds) { return read_rate(ctx, each, seconds, true); }
void lm_probe_walk(lm_ctx *ctx, const void *p, size_t bytes) {
    job *j = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *j);
    if (!j) return;
    j->l = pick(ctx); j->buf = p; j->each = bytes / (size_t)lm_ctx_threads(ctx) & ~(size_t)63; j->repeat = 1;
    lm_pool_run(lm_ctx_pool(ctx), reading, j);
    lm_free(ctx, j);
}
double lm_probe_dot8(lm_ctx *ctx, double seconds) {
    job *j = lm_calloc(ctx, LM_MEM_SCRATCH, 1, sizeof *j);
    if (!j) return 0;
    j->l = pick(ctx); j->rounds = (1 << 30) / j->l.bytes / (j->l.dot == lm_probe_dot8_plain ? 16 : 1);
    double r = (double)j->rounds * j->l.bytes * 2 * lm_ctx_threads(ctx) / best(ctx, dotting, j, seconds);
    lm_free(ctx, j);
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
/* Limits of the control group that this process is in and of those around it: version 2's files, or version 1's. */
typedef struct { size_t most, left; } limit;                 /* most 0: none */
static void look(limit *l, const char *dir, const char *max, const char *now) {
    char path[1024], line[256];
    unsigned long long v;
    snprintf(path, sizeof path, "%s/%s", dir, max);
    const size_t most = number_in(path);
    if (!most || most >> 60) return;
    snprintf(path, sizeof path, "%s/%s", dir, now);
    size_t used = number_in(path), files = 0;
    snprintf(path, sizeof path, "%s/memory.stat", dir);      /* pages of files go when memory is needed */
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "total_inactive_file %llu", &v) == 1 || sscanf(line, "total_active_file %llu", &v) == 1) files += v;
    if (f && !files) {
        rewind(f);
        while (fgets(line, sizeof line, f)) if (sscanf(line, "inactive_file %llu", &v) == 1 || sscanf(line, "active_file %llu", &v) == 1) files += v;
    }
    if (f) fclose(f);
    used -= files < used ? files : used;
    const size_t left = most > used ? most - used : 0;
    if (!l->most || most < l->most) l->most = most;
    if (left < l->left) l->left = left;
}
static limit limits(void) {
    limit l = { 0, SIZE_MAX };
    FILE *f = fopen("/proc/self/cgroup", "r");
    char line[512], dir[600];
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *who = strchr(line, ':'), *path = who ? strchr(who + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        const bool v2 = !strcmp(who, ":"), v1 = !strcmp(who, ":memory");
        if (!v1 && !v2) continue;
        for (char *cut; (cut = strrchr(path, '/')); ) {      /* this one, then upwards */
            snprintf(dir, sizeof dir, "/sys/fs/cgroup%s%s", v1 ? "/memory" : "", path);
            look(&l, dir, v1 ? "memory.limit_in_bytes" : "memory.max", v1 ? "memory.usage_in_bytes" : "memory.current");
            *cut = 0;
        }
    }
    if (f) fclose(f);
    look(&l, "/sys/fs/cgroup", "memory.max", "memory.current");
    return l;
}
size_t lm_memory_total(void) {
    const size_t all = meminfo("MemTotal"), most = limits().most;
    return most && (!all || most < all) ? most : all;
}
size_t lm_memory_available(void) {
    const size_t free_now = meminfo("MemAvailable"), left = limits().left;
    return left < free_now ? left : free_now;
}
