/* file_sys.c — the gate, and the fault injector in it. */
#define _GNU_SOURCE 1
#include "base/file_sys.h"
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* Kept for the process and not per context, as some of these calls know no context. Only tests write them. */
static _Atomic uint64_t calls;
static _Atomic int64_t fail_at;           /* 0 = off, n > 0 = the nth next, -1 = sticky and reached */
static _Atomic int fail_err;
static _Atomic bool fail_sticky;

void lm_file_fail_at(uint64_t n, int err, bool sticky) {
    atomic_store(&fail_at, 0);
    atomic_store(&fail_err, err);
    atomic_store(&fail_sticky, sticky);
    atomic_store(&fail_at, n > INT64_MAX ? INT64_MAX : (int64_t)n);
}

uint64_t lm_file_calls(void) { return atomic_load(&calls); }

/* 0: go on; 1: go on, but transfer less; -1: errno is set, do not call. */
static int gate(void) {
    atomic_fetch_add(&calls, 1);
    int64_t n = atomic_load(&fail_at);
    do {
        if (n == 0) return 0;
        if (n < 0) break;
    } while (!atomic_compare_exchange_weak(&fail_at, &n, n > 1 ? n - 1 : atomic_load(&fail_sticky) ? -1 : 0));
    if (n > 1) return 0;
    int err = atomic_load(&fail_err);
    if (err < 0) return 1;
    errno = err;
    return -1;
}

/* A signal may interrupt, but not for ever: a thousand in a row is a fault of its own. */
#define PATIENCE 1000
#define RETRY(type, fail, expr)                                                   \
    do {                                                                          \
        type r_ = (fail);                                                         \
        for (int i_ = 0; i_ < PATIENCE; i_++) {                                   \
            r_ = gate() < 0 ? (fail) : (expr);                                    \
            if (r_ != (fail) || errno != EINTR) break;                            \
        }                                                                         \
        return r_;                                                                \
    } while (0)

static size_t part(size_t n, int g) { return g == 1 && n > 1 ? n / 2 : n; }

int lm_sys_open(const char *path, int flags, mode_t mode) { RETRY(int, -1, open(path, flags | O_CLOEXEC, mode)); }
int lm_sys_fsync(int fd) { RETRY(int, -1, fsync(fd)); }
int lm_sys_fchmod(int fd, mode_t mode) { RETRY(int, -1, fchmod(fd, mode)); }
int lm_sys_fstat(int fd, struct stat *st) { RETRY(int, -1, fstat(fd, st)); }
int lm_sys_stat(const char *path, struct stat *st) { RETRY(int, -1, stat(path, st)); }
int lm_sys_lstat(const char *path, struct stat *st) { RETRY(int, -1, lstat(path, st)); }
int lm_sys_rename(const char *from, const char *to) { RETRY(int, -1, rename(from, to)); }
int lm_sys_unlink(const char *path) { RETRY(int, -1, unlink(path)); }
int lm_sys_rmdir(const char *path) { RETRY(int, -1, rmdir(path)); }
int lm_sys_mkdir(const char *path, mode_t mode) { RETRY(int, -1, mkdir(path, mode)); }
int lm_sys_flock(int fd) { RETRY(int, -1, flock(fd, LOCK_EX | LOCK_NB)); }
void *lm_sys_mmap(size_t n, int fd) { RETRY(void *, MAP_FAILED, mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0)); }
DIR *lm_sys_opendir(const char *path) { RETRY(DIR *, NULL, opendir(path)); }
char *lm_sys_realpath(const char *path) { RETRY(char *, NULL, realpath(path, NULL)); }

/* The descriptor is gone whatever close() says, EINTR included: an injected failure closes too, and nothing is tried twice. */
int lm_sys_close(int fd) {
    int g = gate(), e = errno, r = close(fd);
    if (g < 0) { errno = e; r = -1; }
    return r && errno == EINTR ? 0 : r;
}

/* Linux moves at most this much in one call. */
#define MOST ((size_t)0x7ffff000)

ssize_t lm_sys_read(int fd, void *p, size_t n) {
    ssize_t r = -1;
    if (n > MOST) n = MOST;
    for (int i = 0, g; i < PATIENCE && r < 0; i++) {
        r = (g = gate()) < 0 ? -1 : read(fd, p, part(n, g));
        if (r < 0 && errno != EINTR) break;
    }
    return r;
}

ssize_t lm_sys_pread(int fd, void *p, size_t n, int64_t offset) {
    ssize_t r = -1;
    if (n > MOST) n = MOST;
    for (int i = 0, g; i < PATIENCE && r < 0; i++) {
        r = (g = gate()) < 0 ? -1 : pread(fd, p, part(n, g), offset);
        if (r < 0 && errno != EINTR) break;
    }
    return r;
}

ssize_t lm_sys_pwrite(int fd, const void *p, size_t n, int64_t offset) {
    ssize_t r = -1;
    if (n > MOST) n = MOST;
    for (int i = 0, g; i < PATIENCE && r < 0; i++) {
        r = (g = gate()) < 0 ? -1 : pwrite(fd, p, part(n, g), (off_t)offset);
        if (r < 0 && errno != EINTR) break;
    }
    return r;
}

ssize_t lm_sys_write(int fd, const void *p, size_t n) {
    ssize_t r = -1;
    if (n > MOST) n = MOST;
    for (int i = 0, g; i < PATIENCE && r < 0; i++) {
        r = (g = gate()) < 0 ? -1 : write(fd, p, part(n, g));
        if (r < 0 && errno != EINTR) break;
    }
    return r;
}

int lm_sys_readdir(DIR *d, struct dirent **e) {
    for (int i = 0; i < PATIENCE; i++) {
        if (gate() < 0) { if (errno == EINTR) continue; return -1; }
        errno = 0;
        *e = readdir(d);
        if (*e || !errno) return 0;
        if (errno != EINTR) return -1;
    }
    return -1;
}
