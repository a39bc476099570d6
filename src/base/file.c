/* file.c — system calls behind one gate, reading, folders, paths. Writing is in out.c. */
#define _GNU_SOURCE 1
#include "base/file_sys.h"
#include <dirent.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct { int64_t from, to; } part;
struct lm_file {
    lm_ctx *ctx; char *path; int fd; int64_t size; void *map;
    part *part; int n_part, cap_part; pthread_t ahead; bool has_ahead; atomic_bool stop;
};

/* The sentence for a failed call, and the code its errno deserves. */
lm_err lm_sys_fail(lm_ctx *ctx, int err, const char *what, const char *path) {
    lm_err code = err == ENOSPC || err == EDQUOT ? LM_E_NOSPACE : err == ENOENT || err == ENOTDIR ? LM_E_NOTFOUND
                : err == ENOMEM ? LM_E_NOMEM : LM_E_IO;
    char buf[128];
    return lm_fail(ctx, code, "%s '%s': %s", what, path, strerror_r(err, buf, sizeof buf));
}

lm_err lm_file_open(lm_file **out, lm_ctx *ctx, const char *path) {
    int fd = lm_sys_open(path, O_RDONLY, 0);
    if (fd < 0) return lm_sys_fail(ctx, errno, "cannot open", path);
    struct stat st;
    lm_err err;
    if (lm_sys_fstat(fd, &st)) { err = lm_sys_fail(ctx, errno, "cannot look at", path); goto bad; }
    if (!S_ISREG(st.st_mode)) {
        err = lm_fail(ctx, LM_E_IO, "cannot open '%s': %s, wanted a regular file", path,
                      S_ISDIR(st.st_mode) ? "it is a folder" : "it is a device or pipe");
        goto bad;
    }
    lm_file *f = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *f);
    char *copy = lm_strdup(ctx, LM_MEM_IO, path);
    if (!f || !copy) {
        lm_free(ctx, f);
        lm_free(ctx, copy);
        err = LM_E_NOMEM;
        goto bad;
    }
    f->ctx = ctx; f->path = copy; f->fd = fd; f->size = st.st_size;
    *out = f;
    return LM_OK;
bad:
    lm_sys_close(fd);
    return err;
}

int64_t lm_file_size(const lm_file *f) { return f->size; }
const char *lm_file_path(const lm_file *f) { return f->path; }

lm_err lm_file_pread(lm_file *f, void *dst, size_t n, int64_t offset) {
    if (offset < 0 || offset > f->size || n > (uint64_t)(f->size - offset))
        return lm_fail(f->ctx, LM_E_RANGE, "cannot read '%s': %zu bytes at %lld wanted, the file has %lld", f->path, n, (long long)offset,
                       (long long)f->size);
    char *p = dst;
    while (n) {
        ssize_t got = lm_sys_pread(f->fd, p, n, offset);
        if (got < 0) return lm_sys_fail(f->ctx, errno, "cannot read", f->path);
        if (got == 0) return lm_fail(f->ctx, LM_E_IO, "cannot read '%s': it became shorter than %lld bytes", f->path, (long long)f->size);
        p += got;
        n -= (size_t)got;
        offset += got;
    }
    return LM_OK;
}

lm_err lm_file_map(lm_file *f, const void **p, size_t *n) {
    if (!f->map && f->size > 0) {
        void *m = lm_sys_mmap((size_t)f->size, f->fd);
        if (m == MAP_FAILED) return lm_sys_fail(f->ctx, errno, "cannot map", f->path);
        f->map = m;
    }
    *p = f->size ? f->map : "";
    *n = (size_t)f->size;
    return LM_OK;
}

/* An area of its own, to which what the kernel maps around a touched page does not reach. */
void lm_file_map_spare(lm_file *f, int64_t offset, int64_t bytes) {
    const int64_t page = sysconf(_SC_PAGESIZE), from = lm_round_up(offset, page), to = lm_min64(offset + bytes, f->size) / page * page;
    if (f->map && offset >= 0 && from < to) madvise((char *)f->map + from, (size_t)(to - from), MADV_RANDOM);      /* advice */
}

/* A call takes long once the disk's queue is full, hence a thread. The kernel reads no more for one call than its read-ahead or the device's largest
 * transfer, whichever is more, hence pieces. Not through the gate: which call of a run is the nth must not depend on a thread. */
static void ask(lm_file *f, part p) {
    enum { PIECE = 1 << 20 };
    for (; p.from < p.to && !atomic_load_explicit(&f->stop, memory_order_relaxed); p.from += PIECE)
        if (posix_fadvise(f->fd, p.from, p.to - p.from < PIECE ? p.to - p.from : PIECE, POSIX_FADV_WILLNEED)) return;
}
static void *ahead(void *ud) {
    lm_file *f = ud;
    for (int i = 0; i < f->n_part; i++) ask(f, f->part[i]);
    ask(f, (part){ 0, f->size });
    return NULL;
}
lm_err lm_file_ahead_part(lm_file *f, int64_t offset, int64_t bytes) {
    if (f->has_ahead) return LM_OK;
    if (f->n_part == f->cap_part) {
        const int cap = f->cap_part ? 2 * f->cap_part : 64;
        part *p = lm_realloc(f->ctx, LM_MEM_IO, f->part, (size_t)cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        f->part = p; f->cap_part = cap;
    }
    f->part[f->n_part++] = (part){ offset, offset + bytes };
    return LM_OK;
}
void lm_file_ahead(lm_file *f) {
    if (!f->has_ahead && f->size) f->has_ahead = !pthread_create(&f->ahead, NULL, ahead, f);
}
void lm_file_close(lm_file *f) {
    if (!f) return;
    if (f->has_ahead) { atomic_store_explicit(&f->stop, true, memory_order_relaxed); pthread_join(f->ahead, NULL); }
    if (f->map) munmap(f->map, (size_t)f->size);
    lm_sys_close(f->fd);
    lm_free(f->ctx, f->part);
    lm_free(f->ctx, f->path);
    lm_free(f->ctx, f);
}

static lm_err too_long(lm_ctx *ctx, const char *path, size_t max) {
    return lm_fail(ctx, LM_E_RANGE, "'%s' is longer than %zu bytes, the most that is read here", path, max);
}

/* Until the end, whatever the size says: pipes and /proc have none. */
static lm_err read_stream(lm_ctx *ctx, int fd, const char *path, size_t max, size_t guess, char **out, size_t *n) {
    size_t cap = guess + 1, len = 0;
    char *buf = lm_alloc(ctx, LM_MEM_IO, cap);
    if (!buf) return LM_E_NOMEM;
    lm_err err;
    for (;;) {
        if (len + 1 == cap) {
            char more;
            ssize_t got = lm_sys_read(fd, &more, 1);
            if (got < 0) { err = lm_sys_fail(ctx, errno, "cannot read", path); goto bad; }
            if (got == 0) break;
            if (len >= max) { err = too_long(ctx, path, max); goto bad; }
            size_t bigger;
            if (!lm_mul_ok(cap < 4096 ? 4096 : cap, 2, &bigger)) bigger = SIZE_MAX;
            char *q = lm_realloc(ctx, LM_MEM_IO, buf, bigger);
            if (!q) { err = LM_E_NOMEM; goto bad; }
            buf = q;
            cap = bigger;
            buf[len++] = more;
            continue;
        }
        ssize_t got = lm_sys_read(fd, buf + len, cap - 1 - len);
        if (got < 0) { err = lm_sys_fail(ctx, errno, "cannot read", path); goto bad; }
        if (got == 0) break;
        len += (size_t)got;
        if (len > max) { err = too_long(ctx, path, max); goto bad; }
    }
    buf[len] = 0;
    *out = buf;
    *n = len;
    return LM_OK;
bad:
    lm_free(ctx, buf);
    return err;
}

lm_err lm_file_read_all(lm_ctx *ctx, const char *path, size_t max, char **out, size_t *n) {
    if (!max) max = PTRDIFF_MAX;
    int fd = lm_sys_open(path, O_RDONLY, 0);
    if (fd < 0) return lm_sys_fail(ctx, errno, "cannot open", path);
    struct stat st;
    lm_err err;
    if (lm_sys_fstat(fd, &st)) err = lm_sys_fail(ctx, errno, "cannot look at", path);
    else if (S_ISDIR(st.st_mode)) err = lm_fail(ctx, LM_E_IO, "cannot read '%s': it is a folder", path);
    else if (S_ISREG(st.st_mode) && (uint64_t)st.st_size > max) err = too_long(ctx, path, max);
    else err = read_stream(ctx, fd, path, max, S_ISREG(st.st_mode) && st.st_size ? (size_t)st.st_size : 4095, out, n);
    lm_sys_close(fd);
    return err;
}

/* ---- folders ------------------------------------------------------------------------------------------------ */

lm_err lm_dir_make(lm_ctx *ctx, const char *path) {
    char *p = lm_strdup(ctx, LM_MEM_IO, path);
    if (!p) return LM_E_NOMEM;
    lm_err err = LM_OK;
    for (char *s = p; *s && !err;) {
        while (*s == '/') s++;
        while (*s && *s != '/') s++;
        char keep = *s;
        *s = 0;
        if (*p && lm_sys_mkdir(p, 0777)) {
            int e = errno;
            struct stat st;               /* anything else there, or no right to make what exists already (EROFS, EACCES)? */
            if (lm_sys_stat(p, &st)) err = lm_sys_fail(ctx, e == EEXIST ? errno : e, "cannot make the folder", p);
            else if (!S_ISDIR(st.st_mode)) err = lm_fail(ctx, LM_E_IO, "cannot make the folder '%s': a file of that name is there", p);
        }
        *s = keep;
    }
    lm_free(ctx, p);
    return err;
}

lm_err lm_dir_sync(lm_ctx *ctx, const char *path) {
    int fd = lm_sys_open(path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return lm_sys_fail(ctx, errno, "cannot open the folder", path);
    lm_err err = LM_OK;
    /* Some file systems cannot sync a folder and say so with these; there is nothing more to be done on them. */
    if (lm_sys_fsync(fd) && errno != EINVAL && errno != ENOTSUP && errno != ENOSYS) err = lm_sys_fail(ctx, errno, "cannot sync the folder", path);
    lm_sys_close(fd);
    return err;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

lm_err lm_dir_list(lm_ctx *ctx, const char *path, char ***names, int *n) {
    DIR *d = lm_sys_opendir(path);
    if (!d) return lm_sys_fail(ctx, errno, "cannot list", path);
    lm_str all = { .ctx = ctx };
    size_t count = 0;
    lm_err err = LM_OK;
    for (;;) {
        struct dirent *e;
        if (lm_sys_readdir(d, &e)) { err = lm_sys_fail(ctx, errno, "cannot list", path); break; }
        if (!e) break;
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        lm_str_add(&all, e->d_name, strlen(e->d_name) + 1);
        count++;
    }
    closedir(d);
    if (!err) err = lm_str_err(&all);
    if (!err && count > INT_MAX) err = lm_fail(ctx, LM_E_RANGE, "cannot list '%s': too many names", path);
    char **block = err ? NULL : lm_alloc(ctx, LM_MEM_IO, (count + 1) * sizeof *block + all.n);
    if (!err && !block) err = LM_E_NOMEM;
    if (!err) {
        char *s = (char *)(block + count + 1);
        if (all.n) memcpy(s, all.p, all.n);
        for (size_t i = 0; i < count; i++, s += strlen(s) + 1) block[i] = s;
        block[count] = NULL;
        qsort(block, count, sizeof *block, by_name);
        *names = block;
        *n = (int)count;
    }
    lm_str_free(&all);
    return err;
}

lm_err lm_dir_remove(lm_ctx *ctx, const char *path) {
    struct stat st;
    if (lm_sys_lstat(path, &st)) return errno == ENOENT ? LM_OK : lm_sys_fail(ctx, errno, "cannot remove", path);
    if (!S_ISDIR(st.st_mode)) return lm_fail(ctx, LM_E_IO, "cannot remove '%s': it is not a folder", path);
    char **names;
    int n;
    LM_TRY(lm_dir_list(ctx, path, &names, &n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        char *p;
        if ((err = lm_path_join(ctx, &p, path, names[i]))) break;
        /* Only a folder proper is entered: a link to one is a link. */
        if (lm_sys_lstat(p, &st)) { if (errno != ENOENT) err = lm_sys_fail(ctx, errno, "cannot remove", p); }
        else if (S_ISDIR(st.st_mode)) err = lm_dir_remove(ctx, p);
        else if (lm_sys_unlink(p) && errno != ENOENT) err = lm_sys_fail(ctx, errno, "cannot remove", p);
        lm_free(ctx, p);
    }
    lm_free(ctx, names);
    if (!err && lm_sys_rmdir(path) && errno != ENOENT) err = lm_sys_fail(ctx, errno, "cannot remove the folder", path);
    return err;
}

/* ---- paths -------------------------------------------------------------------------------------------------- */

lm_err lm_sync_parent(lm_ctx *ctx, const char *path) {
    char *dir = lm_strdup(ctx, LM_MEM_IO, path);
    if (!dir) return LM_E_NOMEM;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') dir[--n] = 0;
    char *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;   /* keep the root's own slash */
    lm_err err = lm_dir_sync(ctx, slash ? dir : ".");
    lm_free(ctx, dir);
    return err;
}

lm_err lm_file_patch(lm_ctx *ctx, const char *path, int64_t offset, const void *p, size_t n) {
    struct stat st;
    const int fd = lm_sys_open(path, O_WRONLY, 0);
    if (fd < 0) return lm_sys_fail(ctx, errno, "cannot write", path);
    lm_err err = lm_sys_fstat(fd, &st) ? lm_sys_fail(ctx, errno, "cannot write", path) : LM_OK;
    if (!err && (offset < 0 || offset > st.st_size || n > (uint64_t)(st.st_size - offset)))
        err = lm_fail(ctx, LM_E_RANGE, "%s: bytes %lld+%zu are not there", path, (long long)offset, n);
    for (size_t at = 0; !err && at < n;) {
        const ssize_t k = lm_sys_pwrite(fd, (const char *)p + at, n - at, offset + (int64_t)at);
        if (k > 0) at += (size_t)k;
        else err = lm_sys_fail(ctx, k < 0 ? errno : EIO, "cannot write", path);
    }
    if (!err && lm_sys_fsync(fd)) err = lm_sys_fail(ctx, errno, "cannot write", path);
    if (lm_sys_close(fd) && !err) err = lm_sys_fail(ctx, errno, "cannot write", path);
    return err;
}

void lm_file_remove(const char *path) { (void)lm_sys_unlink(path); }

lm_err lm_rename(lm_ctx *ctx, const char *from, const char *to) {
    if (lm_sys_rename(from, to)) {
        char buf[128];
        int e = errno;
        lm_err code = lm_sys_fail(NULL, e, "", "");
        return lm_fail(ctx, code, "cannot rename '%s' to '%s': %s", from, to, strerror_r(e, buf, sizeof buf));
    }
    return lm_sync_parent(ctx, to);
}

bool lm_exists(const char *path) {
    struct stat st;
    return !lm_sys_stat(path, &st);
}

bool lm_is_dir(const char *path) {
    struct stat st;
    return !lm_sys_stat(path, &st) && S_ISDIR(st.st_mode);
}

lm_err lm_path_join(lm_ctx *ctx, char **out, const char *dir, const char *name) {
    size_t d = strlen(dir), n = strlen(name), all;
    bool slash = d && dir[d - 1] != '/';
    char *p = lm_add_ok(d, n, &all) && lm_add_ok(all, 2, &all) ? lm_alloc(ctx, LM_MEM_IO, all) : NULL;
    if (!p) return LM_E_NOMEM;
    memcpy(p, dir, d);
    if (slash) p[d] = '/';
    memcpy(p + d + slash, name, n + 1);
    *out = p;
    return LM_OK;
}
