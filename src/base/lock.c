/* lock.c — see file.h. The file is removed by its owner while it holds the lock; so who gets the lock looks whether the name still means
 * the file it locked, and else begins again. */
#define _GNU_SOURCE 1
#include "base/file_sys.h"
#include <stdio.h>
#include <unistd.h>

struct lm_lock { lm_ctx *ctx; char *path; int fd; };

static bool still_named(const char *path, int fd) {
    struct stat a, b;
    return !lm_sys_fstat(fd, &a) && !lm_sys_stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}
static lm_err in_use(lm_ctx *ctx, int fd, const char *what) {
    char pid[24] = "";
    ssize_t n = lm_sys_pread(fd, pid, sizeof pid - 1, 0);
    while (n > 0 && (pid[n - 1] < '0' || pid[n - 1] > '9')) n--;
    pid[n > 0 ? n : 0] = 0;
    return lm_fail(ctx, LM_E_IO, "%s is in use by %s%s: one at a time; wait for it, stop it, or name another folder", what,
                   *pid ? "process " : "another process", pid);
}
static lm_err take(lm_lock *l, const char *what, bool *have) {
    for (int i = 0; i < 100; i++) {
        if ((l->fd = lm_sys_open(l->path, O_RDWR | O_CREAT, 0666)) < 0) return lm_sys_fail(l->ctx, errno, "cannot write", l->path);
        if (lm_sys_flock(l->fd)) {
            if (errno == EWOULDBLOCK) return in_use(l->ctx, l->fd, what);
            if (errno != ENOLCK && errno != ENOTSUP && errno != ENOSYS && errno != EINVAL) return lm_sys_fail(l->ctx, errno, "cannot lock", l->path);
            lm_log(l->ctx, LM_LOG_WARN, "base", "%s: this file system has no locks; see to it that one process at a time writes there", what);
            (void)lm_sys_unlink(l->path);
            return LM_OK;
        }
        if (still_named(l->path, l->fd)) { *have = true; return LM_OK; }
        lm_sys_close(l->fd);
        l->fd = -1;
    }
    return lm_fail(l->ctx, LM_E_IO, "cannot lock '%s': it keeps changing", l->path);
}
static void put_away(lm_lock *l) {
    if (l->fd >= 0) lm_sys_close(l->fd);
    lm_free(l->ctx, l->path);
    lm_free(l->ctx, l);
}
lm_err lm_lock_take(lm_lock **out, lm_ctx *ctx, const char *path, const char *what) {
    lm_lock *l = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *l);
    if (!l) return LM_E_NOMEM;
    *l = (lm_lock){ .ctx = ctx, .path = lm_strdup(ctx, LM_MEM_IO, path), .fd = -1 };
    bool have = false;
    lm_err err = l->path ? take(l, what, &have) : LM_E_NOMEM;
    char pid[24];
    const int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
    if (have && lm_sys_write(l->fd, pid, (size_t)n) < 0) errno = 0;      /* only for the sentence: a full disk may say who it was without a number */
    if (err || !have) { put_away(l); l = NULL; }
    if (!err) *out = l;
    return err;
}
void lm_lock_drop(lm_lock *l) {
    if (!l) return;
    if (lm_sys_unlink(l->path)) (void)lm_sys_unlink(l->path);          /* if it stays all the same it hinders nobody */
    put_away(l);
}
