/* cmd_machine.c — this machine's ceilings, measured once and kept in the user's cache; ranks when started under a launcher.
 *
 * The file is $XDG_CACHE_HOME/loam/machine-<hash of processor and instruction sets>-<threads>.json (~/.cache without the variable). A file
 * that cannot be read, is of another version or was measured by another build of this program (its kernels may be others) is measured
 * anew; one that cannot be written costs the measurement again next time, nothing else. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "base/file.h"
#include "cmd/cmd_common.h"
#include "cmd/cmd_text.h"
#include "device/cpu.h"
#include "dist/dist.h"
#include "format/json.h"

enum { VERSION = 5, TRIES = 3 };
static lm_err cache_path(lm_cli *cli, char **out) {
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char model[128];
    uint64_t f = lm_cpu_features(), mask = lm_ctx_isa_mask(cli->ctx);
    char *id = lm_arena_printf(cli->a, "%s|%s", lm_cpu_model(model, sizeof model), lm_cpu_isa_of(mask ? f & mask : f));
    if (!id) return LM_E_NOMEM;
    char *dir = base && *base == '/'   ? lm_arena_printf(cli->a, "%s/loam", base)
                : home && *home == '/' ? lm_arena_printf(cli->a, "%s/.cache/loam", home)
                                       : NULL;
    *out = dir ? lm_arena_printf(cli->a, "%s/machine-%016llx-%d.json", dir, (unsigned long long)lm_hash64(id, strlen(id), 0),
                                 lm_ctx_threads(cli->ctx))
               : NULL;
    return LM_OK;
}
/* How undisturbed the measurement was: processor time over wall time of the passes. A loaded machine is measured again by the next
 * commands, a few times; the best of all is kept. */
typedef struct { double share; int64_t tries; } quality;
static const struct { const char *key; size_t at;
} field[] = { { "fma_f32", offsetof(lm_machine, fma_f32) }, { "mm_f32", offsetof(lm_machine, mm_f32) },
              { "mm_bf16", offsetof(lm_machine, mm_bf16) }, { "read_1", offsetof(lm_machine, read_1) },
              { "read_n", offsetof(lm_machine, read_n) },   { "cache_n", offsetof(lm_machine, cache_n) },
              { "mid_n", offsetof(lm_machine, mid_n) },     { "map_n", offsetof(lm_machine, map_n) },
              { "dot8", offsetof(lm_machine, dot8) },       { "last_cache", offsetof(lm_machine, last_cache) } };
/* This build of the program, as far as the system tells: size and time of its file. 0: unknown. */
static int64_t build_id(void) {
    struct stat st;
    if (stat("/proc/self/exe", &st)) return 0;
    const int64_t v[3] = { (int64_t)st.st_size, (int64_t)st.st_mtim.tv_sec, (int64_t)st.st_mtim.tv_nsec };
    return (int64_t)(lm_hash64(v, sizeof v, 0) >> 12);              /* 52 bits: exact as a JSON number */
}
static bool read_points(const lm_jv *root, lm_machine *m) {
    lm_jv list, item, x;
    if (lm_json_arr(root, "points", LM_JSON_NEED, &list)) return false;
    const size_t n = lm_json_len(&list);
    if (n > LM_MACHINE_POINTS) return false;
    for (size_t i = 0; i < n; i++) {
        lm_machine_point *p = &m->point[i];
        const char *key; size_t len;
        if (lm_json_item(&list, i, &item) || lm_json_len(&item) != 3) return false;
        if (lm_json_item(&item, 0, &x) || lm_json_as_str(&x, &key, &len) || !len || len >= sizeof p->key || strlen(key) != len) return false;
        memcpy(p->key, key, len + 1);
        if (lm_json_item(&item, 1, &x) || lm_json_as_num(&x, 1e-3, 1e18, &p->work) || lm_json_item(&item, 2, &x) ||
            lm_json_as_num(&x, 1e-12, 1e6, &p->seconds))
            return false;
        if (i && strcmp(p[-1].key, key) > 0) return false;
    }
    m->n_point = (int)n;
    return true;
}
static bool read_cache(lm_cli *cli, const char *path, lm_machine *m, quality *q) {
    lm_ctx *quiet;                                               /* what is wrong with a cache concerns nobody */
    json_t *j = NULL;
    if (!lm_exists(path) || lm_ctx_new(&quiet, &(lm_ctx_opts){ .n_threads = 1 })) return false;
    bool ok = !lm_json_load(quiet, path, 0, &j);
    lm_jv root = lm_json_root(quiet, path, j);
    int64_t version = 0, threads = 0, build = 0;
    ok = ok && !lm_json_int(&root, "version", LM_JSON_NEED, 0, 0, 1 << 30, &version) && version == VERSION &&
         !lm_json_int(&root, "threads", LM_JSON_NEED, 0, 1, 1 << 20, &threads) &&
         !lm_json_int(&root, "build", LM_JSON_NEED, 0, 0, INT64_MAX, &build) && build == build_id();
    *m = (lm_machine){ .threads = (int)threads };
    for (int i = 0; ok && i < LM_COUNT(field); i++)
        ok = !lm_json_num(&root, field[i].key, LM_JSON_NEED, 0, 1, 1e18, (double *)((char *)m + field[i].at));
    ok = ok && threads == lm_ctx_threads(cli->ctx) && !lm_json_num(&root, "share", LM_JSON_NEED, 0, 0, 2, &q->share) &&
         !lm_json_int(&root, "tries", LM_JSON_NEED, 0, 0, 1 << 20, &q->tries);
    ok = ok && read_points(&root, m);
    lm_json_free(j); lm_ctx_free(quiet);
    return ok;
}
static void to_json(lm_str *s, const lm_machine *m, const quality *q) {
    char model[128];
    lm_str_puts(s, "{\"cpu\": "); lm_cpu_model(model, sizeof model); lm_str_json(s, model, strlen(model));
    lm_str_printf(s, ", \"threads\": %d", m->threads);
    for (int i = 0; i < LM_COUNT(field); i++) lm_str_printf(s, ", \"%s\": %.4g", field[i].key, *(const double *)((const char *)m + field[i].at));
    if (q) {
        lm_str_printf(s, ", \"share\": %.3f, \"tries\": %lld, \"version\": %d, \"build\": %lld, \"points\": [", q->share,
                      (long long)q->tries, VERSION, (long long)build_id());
        for (int i = 0; i < m->n_point; i++)
            lm_str_printf(s, "%s\n [\"%s\", %.6g, %.4g]", i ? "," : "", m->point[i].key, m->point[i].work, m->point[i].seconds);
        lm_str_puts(s, "]");
    }
    lm_str_putc(s, '}');
}
void lm_cmd_machine_json(lm_str *s, const lm_machine *m) { to_json(s, m, NULL); }
static void write_cache(const char *path, const lm_machine *m, const quality *q) {
    lm_ctx *quiet;
    char dir[4096];
    const char *slash = strrchr(path, '/');
    if (!slash || (size_t)(slash - path) >= sizeof dir || lm_ctx_new(&quiet, &(lm_ctx_opts){ .n_threads = 1 })) return;
    memcpy(dir, path, (size_t)(slash - path)); dir[slash - path] = 0;
    lm_str s = { .ctx = quiet };
    to_json(&s, m, q);
    lm_str_putc(&s, '\n');
    if (!lm_str_err(&s) && !lm_dir_make(quiet, dir)) lm_file_write_atomic(quiet, path, s.p, s.n);
    lm_str_free(&s); lm_ctx_free(quiet);
}
/* In a child process: the gigabyte that bandwidth is measured with must not count as this one's peak memory. */
typedef struct { lm_machine m; double share; lm_err err; } answer;
static double cpu_time(void) { struct timespec t; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec; }
static void child(int fd, int threads, uint64_t mask) {
    answer a;
    memset(&a, 0, sizeof a);
    lm_ctx *ctx;
    if (!(a.err = lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads, .isa_mask = mask }))) {
        double wall = lm_now(), cpu = cpu_time();
        a.err = lm_machine_measure(ctx, &a.m);
        wall = lm_now() - wall; cpu = cpu_time() - cpu;
        a.share = wall > 0 ? 1.15 * cpu / (wall * threads) : 0;                  /* a tenth of the time one thread works alone */
        lm_ctx_free(ctx);
    }
    _exit(write(fd, &a, sizeof a) == (ssize_t)sizeof a ? 0 : 1);
}
int lm_cmd_machine_child(int argc, char **argv) {
    if (argc != 5) return 2;
    child(atoi(argv[2]), atoi(argv[3]), strtoull(argv[4], NULL, 10));
    return 1;
}
static lm_err measure(lm_cli *cli, answer *a) {
    int fd[2];
    if (pipe(fd)) return lm_fail(cli->ctx, LM_E_IO, "no pipe can be had");
    fflush(stdout); fflush(stderr);
    pid_t pid = fork();
    if (!pid) {                                                  /* this program anew: a fork of several threads may hold locks that nobody gives back */
        char arg[3][24];
        snprintf(arg[0], sizeof arg[0], "%d", fd[1]);
        snprintf(arg[1], sizeof arg[1], "%d", lm_ctx_threads(cli->ctx));
        snprintf(arg[2], sizeof arg[2], "%llu", (unsigned long long)lm_ctx_isa_mask(cli->ctx));
        execl("/proc/self/exe", "loam", LM_CMD_MEASURE, arg[0], arg[1], arg[2], (char *)NULL);
        _exit(1);
    }
    close(fd[1]);
    size_t got = 0;
    for (ssize_t k; pid > 0 && got < sizeof *a;) {
        k = read(fd[0], (char *)a + got, sizeof *a - got);
        if (k > 0) got += (size_t)k;
        else if (!k || errno != EINTR || *cli->stop) break;
    }
    close(fd[0]);
    if (pid > 0) { if (got != sizeof *a) kill(pid, SIGKILL); while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue; }
    if (lm_cli_stopped(cli)) return lm_cli_stop_err(cli);
    if (got != sizeof *a || a->err) return lm_fail(cli->ctx, got == sizeof *a ? a->err : LM_E_IO, "this machine's ceilings could not be measured");
    return LM_OK;
}
lm_err lm_cmd_machine(lm_cli *cli, bool again, lm_machine *m) {
    char *path;
    lm_machine old; quality q = { 0, 0 };
    answer a;
    LM_TRY(cache_path(cli, &path));
    const bool had = path && read_cache(cli, path, &old, &q);
    if (had && !again && (q.share > 0.85 || q.tries >= TRIES)) { *m = old; return LM_OK; }
    lm_cli_progress(cli, "measuring this machine, once …");
    LM_TRY(measure(cli, &a));
    lm_cli_progress_end(cli);
    *m = a.m;
    /* the same probes: a kernel is as fast as it was seen to be */
    if (had && old.n_point == m->n_point) for (int i = 0; i < m->n_point; i++)
        if (!strcmp(old.point[i].key, m->point[i].key) && old.point[i].seconds < m->point[i].seconds) m->point[i].seconds = old.point[i].seconds;
    if (had)
        for (int i = 0; i < LM_COUNT(field); i++) {
            double *x = (double *)((char *)m + field[i].at), y = *(double *)((char *)&old + field[i].at);
            if (y > *x) *x = y;
        }
    if (a.share > q.share) q.share = a.share > 1 ? 1 : a.share;
    q.tries++;
    if (path) write_cache(path, m, &q);
    return LM_OK;
}
lm_err lm_cmd_ceiling(lm_cli *cli, lm_dtype mm, double *flops) {
    lm_machine m;
    LM_TRY(lm_cmd_machine(cli, false, &m));
    *flops = mm == LM_BF16 ? m.mm_bf16 : m.mm_f32;
    return LM_OK;
}
static const char *look_up(void *ud, const char *name) { (void)ud; return getenv(name); }
lm_err lm_cmd_comm(lm_cli *cli, double timeout, lm_comm **comm) {
    lm_dist_env env;
    *comm = NULL;
    LM_TRY(lm_dist_env_of(cli->ctx, look_up, NULL, &env));
    return lm_comm_world(cli->ctx, &env, timeout, comm);
}
