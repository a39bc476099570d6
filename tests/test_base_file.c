/* Files: the plain ways, the refusals, and every system call failing in turn. */
#include "test.h"
#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static lm_ctx *ctx;
static char *dir;

static void begin(void) {
    lm_err e = lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 });
    LM_CHECK(!e);
    const char *tmp = getenv("TMPDIR");
    char name[512];
    snprintf(name, sizeof name, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    dir = strdup(mkdtemp(name));
    LM_CHECK(dir);
}
static void end(void) {
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, dir));
    LM_CHECK(!lm_exists(dir));
    lm_ledger l;
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.now[LM_MEM_IO] == 0);
    lm_ctx_free(ctx);
    free(dir);
}
static const char *at(const char *name) {
    static char buf[4][1024];
    static int k;
    char *p = buf[k++ % 4];
    snprintf(p, sizeof buf[0], "%s/%s", dir, name);
    return p;
}
static int n_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}
static bool holds(const char *path, const char *want, size_t n) {
    char *p;
    size_t got;
    if (lm_file_read_all(ctx, path, 0, &p, &got)) return false;
    bool same = got == n && !memcmp(p, want, n) && p[got] == 0;
    lm_free(ctx, p);
    return same;
}
static int n_names(void) {
    char **names;
    int n;
    if (lm_dir_list(ctx, dir, &names, &n)) return -1;
    lm_free(ctx, names);
    return n;
}

static void test_read(void) {
    begin();
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("a"), "0123456789", 10));
    char *p;
    size_t n;
    LM_CHECK_OK(ctx, lm_file_read_all(ctx, at("a"), 10, &p, &n));
    LM_CHECK(n == 10);
    LM_CHECK_STR(p, "0123456789");
    lm_free(ctx, p);
    LM_CHECK_ERR(ctx, lm_file_read_all(ctx, at("a"), 9, &p, &n), LM_E_RANGE, "longer than 9");
    LM_CHECK_ERR(ctx, lm_file_read_all(ctx, at("none"), 9, &p, &n), LM_E_NOTFOUND, "none");
    LM_CHECK_ERR(ctx, lm_file_read_all(ctx, dir, 9, &p, &n), LM_E_IO, "folder");
    LM_CHECK_OK(ctx, lm_file_read_all(ctx, "/proc/self/status", 100000, &p, &n));     /* says it has no bytes */
    LM_CHECK(n > 100 && strlen(p) == n && strstr(p, "VmPeak"));
    lm_free(ctx, p);
    LM_CHECK_ERR(ctx, lm_file_read_all(ctx, "/proc/self/status", 50, &p, &n), LM_E_RANGE, "50");
    LM_CHECK_ERR(ctx, lm_file_read_all(ctx, "/dev/zero", 100000, &p, &n), LM_E_RANGE, "100000");

    lm_file *f;
    LM_CHECK_ERR(ctx, lm_file_open(&f, ctx, dir), LM_E_IO, "folder");
    LM_CHECK_ERR(ctx, lm_file_open(&f, ctx, "/dev/zero"), LM_E_IO, "device");
    LM_CHECK_ERR(ctx, lm_file_open(&f, ctx, at("a/b")), LM_E_NOTFOUND, "a/b");
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, at("a")));
    LM_CHECK(lm_file_size(f) == 10);
    LM_CHECK_STR(lm_file_path(f), at("a"));
    char b[16] = "";
    LM_CHECK_OK(ctx, lm_file_pread(f, b, 4, 3));
    LM_CHECK_STR(b, "3456");
    LM_CHECK_OK(ctx, lm_file_pread(f, b, 0, 10));
    LM_CHECK_ERR(ctx, lm_file_pread(f, b, 1, 10), LM_E_RANGE, "the file has 10");
    LM_CHECK_ERR(ctx, lm_file_pread(f, b, SIZE_MAX, 1), LM_E_RANGE, "the file has 10");
    LM_CHECK_ERR(ctx, lm_file_pread(f, b, 1, -1), LM_E_RANGE, "-1");
    const void *m;
    LM_CHECK_OK(ctx, lm_file_map(f, &m, &n));
    LM_CHECK(n == 10 && !memcmp(m, "0123456789", 10));
    lm_file_close(f);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("e"), "", 0));
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, at("e")));
    LM_CHECK_OK(ctx, lm_file_map(f, &m, &n));
    LM_CHECK(n == 0 && m);
    lm_file_close(f);
    lm_file_close(NULL);
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, at("a")));               /* cut short behind our back */
    LM_CHECK(!truncate(at("a"), 5));
    LM_CHECK_ERR(ctx, lm_file_pread(f, b, 10, 0), LM_E_IO, "shorter");
    lm_file_close(f);
    LM_CHECK(holds(at("e"), "", 0));
    end();
}

/* Resident bytes of the area that begins at p, -1 if none does. */
static long area_resident(const void *p) {
    char line[256];
    unsigned long from, to;
    long rss = -1;
    bool here = false;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && rss < 0 && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx %*4s", &from, &to) == 2) here = from == (uintptr_t)p;
        else if (here && sscanf(line, "Rss: %ld kB", &rss) == 1) rss *= 1024;
    }
    if (f) fclose(f);
    return rss;
}
/* Neighbours of a part that nobody reads through the map are read page by page: none of the part comes with them; and it can be read all the same. */
static void test_map_spare(void) {
    begin();
    enum { MB = 1 << 20, N = 6 * MB, FROM = 2 * MB + 100, TO = 4 * MB - 100 };
    lm_file *f;
    const void *m;
    size_t n;
    char *text = malloc(N);
    if (!text) abort();
    for (int i = 0; i < N; i++) text[i] = (char)(i * 31 >> 4);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("big"), text, N));
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, at("big")));
    LM_NEED_OK(ctx, lm_file_map(f, &m, &n));
    lm_file_map_spare(f, FROM, TO - FROM);
    lm_file_map_spare(f, N - 10, 100);                                                   /* less than a page; past the end */
    lm_file_map_spare(f, -1, 100);
    int wrong = 0;
    const char *p = m;
    for (int i = 0; i < N; i += 512) if (i < FROM || i >= TO) wrong += p[i] != text[i];
    const long page = sysconf(_SC_PAGESIZE), rss = area_resident(p + (FROM + page - 1) / page * page);
    LM_CHECK(!wrong);
    LM_CHECK(rss == 0);
    LM_CHECK(!memcmp(m, text, N));
    free(text);
    lm_file_close(f);
    end();
}

static void test_out(void) {
    begin();
    lm_out *o;
    LM_NEED_OK(ctx, lm_out_open(&o, ctx, at("o")));
    LM_CHECK(!lm_exists(at("o")));
    LM_CHECK_OK(ctx, lm_out_write(o, "abc", 3));
    LM_CHECK_OK(ctx, lm_out_pad(o, 8, '.'));
    LM_CHECK_OK(ctx, lm_out_pad(o, 8, '.'));
    LM_CHECK_OK(ctx, lm_out_pad(o, 0, '.'));
    LM_CHECK(lm_out_tell(o) == 8);
    LM_CHECK_OK(ctx, lm_out_pad(o, 1000, 'x'));
    LM_CHECK(lm_out_tell(o) == 1000);
    size_t big = (3 << 20) + 7;
    char *p = malloc(big + 1000);
    memset(p, 'x', 1000);
    memcpy(p, "abc.....", 8);
    for (size_t i = 0; i < big; i++) p[1000 + i] = (char)(i * 13);
    for (size_t i = 0, k = 1; i < big; i += k, k = k * 5 + 1) {    /* below, at and above the buffer's size */
        if (k > big - i) k = big - i;
        LM_CHECK_OK(ctx, lm_out_write(o, p + 1000 + i, k));
    }
    LM_CHECK(n_names() == 1 && !lm_exists(at("o")));
    LM_CHECK_OK(ctx, lm_out_commit(o));
    LM_CHECK(holds(at("o"), p, big + 1000) && n_names() == 1);
    LM_NEED_OK(ctx, lm_out_open(&o, ctx, at("o")));                /* given up: the old stays */
    LM_CHECK_OK(ctx, lm_out_write(o, "new", 3));
    lm_out_abort(o);
    lm_out_abort(NULL);
    LM_CHECK(holds(at("o"), p, big + 1000) && n_names() == 1);
    free(p);

    LM_NEED_OK(ctx, lm_out_append(&o, ctx, at("log")));
    LM_CHECK_OK(ctx, lm_out_write(o, "one\n", 4));
    LM_CHECK_OK(ctx, lm_out_flush(o));
    LM_CHECK(holds(at("log"), "one\n", 4));
    LM_CHECK_OK(ctx, lm_out_commit(o));
    LM_NEED_OK(ctx, lm_out_append(&o, ctx, at("log")));
    LM_CHECK(lm_out_tell(o) == 4);
    LM_CHECK_OK(ctx, lm_out_write(o, "two\n", 4));
    LM_CHECK(lm_out_tell(o) == 8);
    LM_CHECK_OK(ctx, lm_out_commit(o));
    LM_CHECK(holds(at("log"), "one\ntwo\n", 8));

    /* permissions stay, links stay, folders and devices are not replaced, a dead process' leavings are no obstacle */
    LM_CHECK(!chmod(at("log"), 0640));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("log"), "3", 1));
    struct stat st;
    LM_CHECK(!stat(at("log"), &st) && (st.st_mode & 0777) == 0640);
    LM_CHECK(!symlink("log", at("link")));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("link"), "4", 1));
    LM_CHECK(!lstat(at("link"), &st) && S_ISLNK(st.st_mode) && holds(at("log"), "4", 1));
    LM_CHECK(!symlink("nowhere", at("dangling")));
    LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, at("dangling"), "4", 1), LM_E_NOTFOUND, "dangling");
    LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, dir, "4", 1), LM_E_IO, "folder");
    LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, at("no/such"), "4", 1), LM_E_NOTFOUND, "no/such");
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, "/dev/null", "4", 1));
    LM_CHECK(!stat("/dev/null", &st) && S_ISCHR(st.st_mode));
    LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, "/dev/full", "4", 1), LM_E_NOSPACE, "/dev/full");
    char left[600];
    snprintf(left, sizeof left, "%s.tmp-%ld", at("log"), (long)getpid());
    int fd = open(left, O_WRONLY | O_CREAT, 0600);
    LM_CHECK(fd >= 0 && write(fd, "longer leavings", 15) == 15 && !close(fd));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("log"), "5", 1));
    LM_CHECK(holds(at("log"), "5", 1) && !lm_exists(left));
    end();
}

/* A failed write is remembered. */
static void test_out_sticky(void) {
    begin();
    lm_out *o;
    LM_NEED_OK(ctx, lm_out_open(&o, ctx, at("o")));
    LM_CHECK_OK(ctx, lm_out_write(o, "abc", 3));
    lm_file_fail_at(1, ENOSPC, false);
    LM_CHECK_ERR(ctx, lm_out_flush(o), LM_E_NOSPACE, "/o'");
    LM_CHECK_ERR(ctx, lm_out_write(o, "d", 1), LM_E_NOSPACE, "earlier");
    LM_CHECK_ERR(ctx, lm_out_commit(o), LM_E_NOSPACE, "earlier");
    LM_CHECK(n_names() == 0);
    /* the file system's own refusal, not ours: a size limit */
    struct rlimit old, lim;
    getrlimit(RLIMIT_FSIZE, &old);
    lim = (struct rlimit){ 4096, old.rlim_max };
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &lim);
    char *big = calloc(1, 10000);
    LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, at("o"), big, 10000), LM_E_IO, "too large");
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    free(big);
    LM_CHECK(n_names() == 0);
    end();
}

static void test_dirs(void) {
    begin();
    LM_CHECK_OK(ctx, lm_dir_make(ctx, at("x/y//z/")));
    LM_CHECK_OK(ctx, lm_dir_make(ctx, at("x/y/z")));
    LM_CHECK(lm_is_dir(at("x/y/z")) && lm_exists(at("x")) && !lm_exists(at("w")));
    LM_CHECK_OK(ctx, lm_dir_make(ctx, "/"));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("x/file"), "1", 1));
    LM_CHECK(!lm_is_dir(at("x/file")));
    LM_CHECK_ERR(ctx, lm_dir_make(ctx, at("x/file")), LM_E_IO, "a file of that name");
    LM_CHECK(lm_dir_make(ctx, at("x/file/sub")) != LM_OK);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("x/b"), "1", 1));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("x/.hidden"), "1", 1));
    char **names;
    int n;
    LM_CHECK_OK(ctx, lm_dir_list(ctx, at("x"), &names, &n));
    LM_CHECK(n == 4);
    if (n == 4) {
        LM_CHECK_STR(names[0], ".hidden");
        LM_CHECK_STR(names[1], "b");
        LM_CHECK_STR(names[2], "file");
        LM_CHECK_STR(names[3], "y");
        LM_CHECK(!names[4]);
    }
    lm_free(ctx, names);
    LM_CHECK_OK(ctx, lm_dir_list(ctx, at("x/y/z"), &names, &n));
    LM_CHECK(n == 0 && names && !names[0]);
    lm_free(ctx, names);
    LM_CHECK_ERR(ctx, lm_dir_list(ctx, at("none"), &names, &n), LM_E_NOTFOUND, "none");
    LM_CHECK_OK(ctx, lm_rename(ctx, at("x/b"), at("x/c")));
    LM_CHECK(!lm_exists(at("x/b")) && lm_exists(at("x/c")));
    LM_CHECK_ERR(ctx, lm_rename(ctx, at("x/b"), at("x/c")), LM_E_NOTFOUND, "x/b");
    /* removal goes through no link */
    LM_CHECK_OK(ctx, lm_dir_make(ctx, at("keep")));
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("keep/me"), "1", 1));
    LM_CHECK(!symlink("../keep", at("x/link")));
    LM_CHECK_ERR(ctx, lm_dir_remove(ctx, at("x/link")), LM_E_IO, "not a folder");
    LM_CHECK_ERR(ctx, lm_dir_remove(ctx, at("x/file")), LM_E_IO, "not a folder");
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("x")));
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("x")));
    LM_CHECK(!lm_exists(at("x")) && lm_exists(at("keep/me")));
    LM_CHECK_OK(ctx, lm_dir_sync(ctx, dir));
    LM_CHECK_ERR(ctx, lm_dir_sync(ctx, at("none")), LM_E_NOTFOUND, "none");
    static const char *const j[][3] = { { "a", "b", "a/b" }, { "a/", "b", "a/b" }, { "", "b", "b" }, { "/", "b", "/b" }, { "a", "/b", "a//b" } };
    for (int i = 0; i < LM_COUNT(j); i++) {
        char *p;
        LM_CHECK_OK(ctx, lm_path_join(ctx, &p, j[i][0], j[i][1]));
        LM_CHECK_STR(p, j[i][2]);
        lm_free(ctx, p);
    }
    end();
}

/* ---- sweeps ---- */
static const int errs[] = { EIO, ENOSPC, EINTR, -1 };
static char fresh[5000], stale[3000];

static void atomic_sweep(bool there) {
    begin();
    memset(fresh, 'n', sizeof fresh);
    memset(stale, 'o', sizeof stale);
    if (there) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("f"), stale, sizeof stale));
    uint64_t c0 = lm_file_calls();
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("f"), fresh, sizeof fresh));
    uint64_t calls = lm_file_calls() - c0;
    LM_CHECK(calls >= 8);
    int fds = n_fds();
    for (uint64_t n = 1; n <= calls; n++)
        for (int k = 0; k < LM_COUNT(errs); k++)
            for (int sticky = 0; sticky < 2; sticky++) {
                unlink(at("f"));
                if (there) LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("f"), stale, sizeof stale));
                lm_file_fail_at(n, errs[k], sticky);
                lm_err e = lm_file_write_atomic(ctx, at("f"), fresh, sizeof fresh);
                lm_file_fail_at(0, 0, false);
                bool is_new = holds(at("f"), fresh, sizeof fresh);
                bool is_old = there ? holds(at("f"), stale, sizeof stale) : !lm_exists(at("f"));
                LM_CHECK(is_new || is_old);
                if (!e) LM_CHECK(is_new);
                if (errs[k] < 0 || (errs[k] == EINTR && !sticky)) LM_CHECK_OK(ctx, e);
                if ((errs[k] == EIO || errs[k] == ENOSPC) && n < calls) {      /* the last call closes the folder: nothing hangs on it */
                    if (e != (errs[k] == EIO ? LM_E_IO : LM_E_NOSPACE)) {
                        LM_CHECK(!"the right code");
                        printf("  call %d errno %d -> %s\n", (int)n, errs[k], lm_err_name(e));
                    }
                }
                /* with every later call failing too, even the removal does: then a temp file may stay, and nothing else */
                if (!sticky || errs[k] < 0) LM_CHECK(n_names() == (is_new || there));
                LM_CHECK(n_fds() == fds);
                lm_dir_remove(ctx, dir);
                mkdir(dir, 0700);
            }
    end();
}
static void test_sweep_new(void) { atomic_sweep(false); }
static void test_sweep_old(void) { atomic_sweep(true); }

static void test_sweep_memory(void) {
    begin();
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("f"), "old", 3));
    lm_ledger l0, l1, l;
    lm_mem_ledger(ctx, &l0);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("f"), "old", 3));
    lm_mem_ledger(ctx, &l1);
    int fds = n_fds();
    for (uint64_t n = 1; n <= l1.n_alloc - l0.n_alloc; n++) {
        lm_mem_fail_at(ctx, n, false);
        LM_CHECK_ERR(ctx, lm_file_write_atomic(ctx, at("f"), "new", 3), LM_E_NOMEM, "out of memory");
        lm_mem_fail_at(ctx, 0, false);
        LM_CHECK(holds(at("f"), "old", 3) || holds(at("f"), "new", 3));
        LM_CHECK(n_names() == 1 && n_fds() == fds);
        lm_mem_ledger(ctx, &l);
        LM_CHECK(l.total_now == l0.total_now);
    }
    end();
}

/* Everything else that touches the disk: an error or the right result, no leak of memory or descriptors. */
static lm_err mixed(bool *right) {
    *right = true;
    char *p = NULL, **names = NULL;
    size_t n;
    int k;
    lm_err err;
    lm_file *f = NULL;
    lm_out *o = NULL;
    LM_GOTO(lm_file_read_all(ctx, at("in"), 0, &p, &n), out);
    *right &= n == sizeof fresh && !memcmp(p, fresh, n);
    LM_GOTO(lm_file_open(&f, ctx, at("in")), out);
    LM_GOTO(lm_file_pread(f, stale, 1000, 500), out);
    *right &= !memcmp(stale, fresh + 500, 1000);
    const void *m;
    LM_GOTO(lm_file_ahead_part(f, 1, 100), out);
    lm_file_ahead(f);
    lm_file_ahead(f);
    LM_GOTO(lm_file_ahead_part(f, 2, 1000), out);                     /* too late, and past the end: not looked at */
    LM_GOTO(lm_file_map(f, &m, &n), out);
    *right &= n == sizeof fresh && !memcmp(m, fresh, n);
    LM_GOTO(lm_dir_make(ctx, at("d/e")), out);
    LM_GOTO(lm_out_append(&o, ctx, at("d/log")), out);
    LM_GOTO(lm_out_write(o, "12345", 5), out);
    lm_out *done = o;
    o = NULL;
    LM_GOTO(lm_out_commit(done), out);
    LM_GOTO(lm_rename(ctx, at("d/log"), at("d/gol")), out);
    LM_GOTO(lm_dir_list(ctx, at("d"), &names, &k), out);
    *right &= k == 2 && !strcmp(names[0], "e") && !strcmp(names[1], "gol");
    LM_GOTO(lm_dir_remove(ctx, at("d")), out);
    *right &= access(at("d"), F_OK) != 0;
out:
    lm_free(ctx, p);
    lm_free(ctx, names);
    lm_file_close(f);
    lm_out_abort(o);
    return err;
}
static void test_sweep_mixed(void) {
    begin();
    for (size_t i = 0; i < sizeof fresh; i++) fresh[i] = (char)(i * 31 + i / 256);
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, at("in"), fresh, sizeof fresh));
    lm_ledger l0, l;
    lm_mem_ledger(ctx, &l0);
    uint64_t c0 = lm_file_calls();
    bool right;
    LM_CHECK_OK(ctx, mixed(&right));
    LM_CHECK(right);
    uint64_t calls = lm_file_calls() - c0;
    lm_mem_ledger(ctx, &l);
    uint64_t allocs = l.n_alloc - l0.n_alloc;
    int fds = n_fds();
    for (uint64_t n = 1; n <= calls; n++)
        for (int k = 0; k < LM_COUNT(errs); k++) {
            lm_file_fail_at(n, errs[k], false);
            lm_err e = mixed(&right);
            lm_file_fail_at(0, 0, false);
            LM_CHECK(right);
            if (errs[k] < 0 || errs[k] == EINTR) LM_CHECK_OK(ctx, e);
            LM_CHECK(n_fds() == fds);
            lm_mem_ledger(ctx, &l);
            LM_CHECK(l.total_now == l0.total_now);
            LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("d")));
        }
    for (uint64_t n = 1; n <= allocs; n++) {
        lm_mem_fail_at(ctx, n, false);
        LM_CHECK_ERR(ctx, mixed(&right), LM_E_NOMEM, "out of memory");
        lm_mem_fail_at(ctx, 0, false);
        LM_CHECK(right && n_fds() == fds);
        lm_mem_ledger(ctx, &l);
        LM_CHECK(l.total_now == l0.total_now);
        LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("d")));
    }
    end();
}

LM_TEST_MAIN(LM_T1(test_read), LM_T1(test_map_spare), LM_T1(test_out), LM_T1(test_out_sticky), LM_T1(test_dirs), LM_T1(test_sweep_new), LM_T1(test_sweep_old),
             LM_T1(test_sweep_memory), LM_T1(test_sweep_mixed))
