/* out.c — writing: a temp file beside the target, renamed over it once everything is on the disk.
 *
 * A target that is a link is followed first, so that the link stays. A target that is a device or pipe (/dev/stdout, /dev/null) cannot be
 * replaced and is written straight through. Sentences name the target: the temp file is nobody's business. Once a write has failed the
 * stream stays failed, and commit cleans up and says so. */
#define _GNU_SOURCE 1
#include "base/file_sys.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)1 << 20)

struct lm_out {
    lm_ctx *ctx;
    char *path, *temp;                    /* temp = NULL: written in place */
    char *buf; size_t used;
    int64_t at;                           /* position, the buffer's bytes included */
    int fd;
    bool made;                            /* the temp file is there and ours to remove */
    lm_err bad;
};

static void out_free(lm_out *o) {
    lm_free(o->ctx, o->buf);
    lm_free(o->ctx, o->temp);
    lm_free(o->ctx, o->path);
    lm_free(o->ctx, o);
}

static lm_err out_new(lm_out **out, lm_ctx *ctx, const char *path) {
    lm_out *o = lm_calloc(ctx, LM_MEM_IO, 1, sizeof *o);
    if (!o) return LM_E_NOMEM;
    o->ctx = ctx;
    o->fd = -1;
    o->path = lm_strdup(ctx, LM_MEM_IO, path);
    o->buf = o->path ? lm_alloc(ctx, LM_MEM_IO, BUFFER) : NULL;
    if (!o->buf) { out_free(o); return LM_E_NOMEM; }
    *out = o;
    return LM_OK;
}

/* Where a link leads to. */
static lm_err follow(lm_out *o) {
    char *real = lm_sys_realpath(o->path);
    if (!real) return lm_sys_fail(o->ctx, errno, "cannot follow the link", o->path);
    char *copy = lm_strdup(o->ctx, LM_MEM_IO, real);
    free(real);
    if (!copy) return LM_E_NOMEM;
    lm_free(o->ctx, o->path);
    o->path = copy;
    return LM_OK;
}

static lm_err open_temp(lm_out *o, const mode_t *mode) {
    size_t n = strlen(o->path) + 32;
    if (!(o->temp = lm_alloc(o->ctx, LM_MEM_IO, n))) return LM_E_NOMEM;
    snprintf(o->temp, n, "%s.tmp-%ld", o->path, (long)getpid());
    /* Ours alone: what lies there under this name is the rest of a dead process whose number came round again. */
    o->fd = lm_sys_open(o->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (o->fd < 0 && errno == EEXIST && !lm_sys_unlink(o->temp)) o->fd = lm_sys_open(o->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (o->fd < 0) return lm_sys_fail(o->ctx, errno, "cannot write", o->path);
    o->made = true;
    if (mode && lm_sys_fchmod(o->fd, *mode)) return lm_sys_fail(o->ctx, errno, "cannot set the permissions of", o->path);
    return LM_OK;
}

static lm_err open_target(lm_out *o) {
    struct stat st;
    bool there = !lm_sys_lstat(o->path, &st);
    if (!there && errno != ENOENT) return lm_sys_fail(o->ctx, errno, "cannot write", o->path);
    if (there && S_ISLNK(st.st_mode)) {
        if (lm_sys_stat(o->path, &st)) return lm_sys_fail(o->ctx, errno, "cannot follow the link", o->path);
        if (S_ISREG(st.st_mode)) LM_TRY(follow(o));
    }
    if (there && S_ISDIR(st.st_mode)) return lm_fail(o->ctx, LM_E_IO, "cannot write '%s': it is a folder", o->path);
    mode_t mode = there ? st.st_mode & 07777 : 0;
    if (!there || S_ISREG(st.st_mode)) return open_temp(o, there ? &mode : NULL);
    o->fd = lm_sys_open(o->path, O_WRONLY, 0);
    return o->fd < 0 ? lm_sys_fail(o->ctx, errno, "cannot write", o->path) : LM_OK;
}

lm_err lm_out_open(lm_out **out, lm_ctx *ctx, const char *path) {
    lm_out *o;
    LM_TRY(out_new(&o, ctx, path));
    lm_err err = open_target(o);
    if (err) { lm_out_abort(o); return err; }
    *out = o;
    return LM_OK;
}

lm_err lm_out_append(lm_out **out, lm_ctx *ctx, const char *path) {
    lm_out *o;
    LM_TRY(out_new(&o, ctx, path));
    struct stat st;
    o->fd = lm_sys_open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (o->fd < 0 || lm_sys_fstat(o->fd, &st)) {
        lm_err err = lm_sys_fail(ctx, errno, "cannot append to", path);
        lm_out_abort(o);
        return err;
    }
    o->at = S_ISREG(st.st_mode) ? st.st_size : 0;
    *out = o;
    return LM_OK;
}

/* To the kernel, all of it. */
static lm_err put(lm_out *o, const char *p, size_t n) {
    while (n) {
        ssize_t done = lm_sys_write(o->fd, p, n);
        if (done <= 0) return o->bad = lm_sys_fail(o->ctx, done ? errno : EIO, "cannot write", o->path);
        p += done;
        n -= (size_t)done;
    }
    return LM_OK;
}

static lm_err still_bad(lm_out *o) {
    return lm_fail(o->ctx, o->bad, "'%s' was not written: an earlier write failed: %s", o->path, lm_err_text(o->bad));
}

lm_err lm_out_flush(lm_out *o) {
    if (o->bad) return still_bad(o);
    size_t n = o->used;
    o->used = 0;
    return put(o, o->buf, n);
}

lm_err lm_out_write(lm_out *o, const void *p, size_t n) {
    if (o->bad) return still_bad(o);
    int64_t at;
    if (n > INT64_MAX || __builtin_add_overflow(o->at, (int64_t)n, &at)) return lm_fail(o->ctx, LM_E_RANGE, "cannot write '%s': too long", o->path);
    if (n > BUFFER - o->used) LM_TRY(lm_out_flush(o));
    if (n >= BUFFER) LM_TRY(put(o, p, n));
    else if (n) {
        memcpy(o->buf + o->used, p, n);
        o->used += n;
    }
    o->at = at;
    return LM_OK;
}

lm_err lm_out_pad(lm_out *o, size_t align, char fill) {
    char block[256];
    size_t n = align > 1 && (uint64_t)o->at % align ? align - (size_t)((uint64_t)o->at % align) : 0;
    memset(block, fill, sizeof block);
    for (size_t k; n; n -= k) LM_TRY(lm_out_write(o, block, k = n < sizeof block ? n : sizeof block));
    return o->bad ? still_bad(o) : LM_OK;
}

int64_t lm_out_tell(const lm_out *o) { return o->at; }

lm_err lm_out_commit(lm_out *o) {
    lm_err err = lm_out_flush(o);
    if (!err && o->made && lm_sys_fsync(o->fd)) err = lm_sys_fail(o->ctx, errno, "cannot sync", o->path);
    int fd = o->fd;
    o->fd = -1;
    if (lm_sys_close(fd) && !err) err = lm_sys_fail(o->ctx, errno, "cannot close", o->path);
    if (!err && o->made) {
        if (lm_sys_rename(o->temp, o->path)) err = lm_sys_fail(o->ctx, errno, "cannot put in place", o->path);
        else {
            o->made = false;              /* it is the target now: not to be removed */
            err = lm_sync_parent(o->ctx, o->path);
        }
    }
    lm_out_abort(o);
    return err;
}

void lm_out_abort(lm_out *o) {
    if (!o) return;
    if (o->fd >= 0) lm_sys_close(o->fd);
    if (o->made) lm_sys_unlink(o->temp);
    out_free(o);
}

lm_err lm_file_write_atomic(lm_ctx *ctx, const char *path, const void *p, size_t n) {
    lm_out *o;
    LM_TRY(lm_out_open(&o, ctx, path));
    lm_err err = lm_out_write(o, p, n);
    if (!err) return lm_out_commit(o);
    lm_out_abort(o);
    return err;
}
