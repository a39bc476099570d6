/* cmd_run.h — the program under test as a child process: arguments, standard input, what it wrote, how it ended. */
#ifndef LM_TEST_CMD_RUN_H
#define LM_TEST_CMD_RUN_H
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "calm.h"
#include "test.h"
typedef struct { int rc; char *out, *err; size_t n_out, n_err; } ran;
static char root[64];                                       /* this program's scratch folder */
static long file_limit;                                     /* RLIMIT_FSIZE of the next children; 0 none */

__attribute__((unused)) static const char *at(const char *name) {
    static char b[8][512];
    static int i;
    i = (i + 1) & 7;
    snprintf(b[i], sizeof b[i], "%s/%s", root, name);
    return b[i];
}
__attribute__((unused)) static bool there(const char *p) { struct stat st; return !stat(p, &st); }
__attribute__((unused)) static void put_file(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    LM_CHECK(f && fwrite(p, 1, n, f) == n);
    if (f) fclose(f);
}
__attribute__((unused)) static char *get_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t cap = 1 << 16, k; char *p = malloc(cap); *n = 0;
    while ((k = fread(p + *n, 1, cap - *n - 1, f)) > 0) { *n += k; if (*n + 1 == cap) p = realloc(p, cap *= 2); }
    p[*n] = 0; fclose(f);
    return p;
}
static pid_t spawn(char *const *argv, int in, int out, int err) {
    const pid_t pid = fork();
    if (pid) return pid;
    dup2(in, 0); dup2(out, 1); dup2(err, 2);
    if (file_limit) { setrlimit(RLIMIT_FSIZE, &(struct rlimit){ (rlim_t)file_limit, (rlim_t)file_limit }); signal(SIGXFSZ, SIG_IGN); }
    execv(LM_PROGRAM, argv);
    _exit(127);
}
/* A command line split at blanks; "…" keeps blanks. */
static char **split(const char *line, char *copy, size_t cap) {
    static char *argv[64];
    int n = 0;
    snprintf(copy, cap, "%s", line);
    argv[n++] = (char *)(uintptr_t)"loam";
    for (char *p = copy; *p && n < 62;) {
        if (*p == ' ') { *p++ = 0; continue; }
        char q = *p == '"' ? *p++ : 0;
        argv[n++] = p;
        while (*p && (q ? *p != '"' : *p != ' ')) p++;
        if (q && *p) *p++ = 0;
    }
    argv[n] = NULL;
    return argv;
}
static void drain(char **p, size_t *n, int fd) {
    char b[65536]; ssize_t k = read(fd, b, sizeof b);
    if (k <= 0) return;
    *p = realloc(*p, *n + (size_t)k + 1); memcpy(*p + *n, b, (size_t)k); *n += (size_t)k; (*p)[*n] = 0;
}
static ran run_in(const char *input, size_t n_in, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static ran run_in(const char *input, size_t n_in, const char *fmt, ...) {
    char line[4096], copy[4096]; va_list ap;
    va_start(ap, fmt); vsnprintf(line, sizeof line, fmt, ap); va_end(ap);
    int o[2], e[2], in = open(at("stdin"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    ran r = { .out = calloc(1, 1), .err = calloc(1, 1) };
    if (pipe(o) || pipe(e) || in < 0 || (n_in && write(in, input, n_in) != (ssize_t)n_in)) { r.rc = -1; return r; }
    lseek(in, 0, SEEK_SET);
    const pid_t pid = spawn(split(line, copy, sizeof copy), in, o[1], e[1]);
    close(o[1]); close(e[1]); close(in);
    struct pollfd p[2] = { { o[0], POLLIN, 0 }, { e[0], POLLIN, 0 } };
    for (int open_ends = 3; open_ends && poll(p, 2, -1) >= 0;)
        for (int i = 0; i < 2; i++) {
            if (!(open_ends >> i & 1)) continue;
            if (p[i].revents & POLLIN) { if (i) drain(&r.err, &r.n_err, e[0]); else drain(&r.out, &r.n_out, o[0]); }
            else if (p[i].revents & (POLLHUP | POLLERR)) { open_ends &= ~(1 << i); p[i].fd = -1; }
        }
    int st;
    while (waitpid(pid, &st, 0) < 0 && errno == EINTR) continue;
    r.rc = WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
    close(o[0]); close(e[0]);
    return r;
}
#define run(...) run_in(NULL, 0, __VA_ARGS__)
static void done(ran *r) { free(r->out); free(r->err); }
/* Ends with rc; complains with both outputs. */
#define LM_CHECK_RC(r, want) do { if ((r).rc != (want)) { lm_t_fail++; printf("%s:%d: %s: exit status %d, wanted %d: %s%s\n", __FILE__, __LINE__, lm_t_name, (r).rc, (want), (r).err, (r).out); } } while (0)
/* A refusal: exit status, one line on stderr that begins "loam VERB: " and holds a phrase, and nothing else. */
__attribute__((unused)) static void refused_(const char *file, int line, ran r, int rc, const char *phrase) {
    const char *nl = strchr(r.err, '\n');
    if (r.rc != rc || strncmp(r.err, "loam", 4) || !strstr(r.err, phrase) || !nl || nl[1]) {
        lm_t_fail++;
        printf("%s:%d: %s: exit status %d, wanted %d and one sentence with \"%s\": %s\n", file, line, lm_t_name, r.rc, rc, phrase, r.err);
    }
    done(&r);
}
#define LM_REFUSED(r, rc, phrase) refused_(__FILE__, __LINE__, r, rc, phrase)
__attribute__((unused)) static json_t *json_of_(const char *file, int line, ran r) {
    json_error_t e;
    json_t *j = r.rc ? NULL : json_loadb(r.out, r.n_out, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
    if (!j) { lm_t_fail++; printf("%s:%d: %s: exit status %d, no JSON: %.300s%.300s\n", file, line, lm_t_name, r.rc, r.out, r.err); }
    done(&r);
    return j;
}
#define json_of(r) json_of_(__FILE__, __LINE__, r)
__attribute__((unused)) static double num(const json_t *j, const char *key) {
    const json_t *v = json_object_get(j, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}
__attribute__((unused)) static const char *str(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}

static void clean_up(void) { char c[128]; snprintf(c, sizeof c, "rm -rf '%s'", root); if (*root && system(c)) printf("%s is left\n", root); }
static bool begin(void) {
    if (*root) return true;
    snprintf(root, sizeof root, "/tmp/loam-test-XXXXXX");
    if (!mkdtemp(root)) { *root = 0; return false; }
    atexit(clean_up);
    setenv("XDG_CACHE_HOME", calm_cache, 1);
    signal(SIGPIPE, SIG_IGN);
    return there(LM_PROGRAM);
}
#endif
