/* file.h — every system call on files goes through here, so that faults can be injected and nothing is half-written.
 *
 * Reading: whole files, ranges, or memory maps, always with the size checked first. Writing: lm_file_write_atomic() (temp + fsync + rename +
 * fsync of the folder) or an lm_out stream that does the same on commit and removes its temp file on abort. ENOSPC becomes LM_E_NOSPACE.
 *
 * Lifetime: handles belong to the caller.  Threads: one thread per handle; lm_file_pread is safe from many.
 * Errors:   the sentence names the path and the system's reason. */
#ifndef LM_FILE_H
#define LM_FILE_H
#include "base/base.h"
typedef struct lm_file lm_file;
lm_err lm_file_open(lm_file **out, lm_ctx *ctx, const char *path);            /* read only, regular files */
int64_t lm_file_size(const lm_file *f);
const char *lm_file_path(const lm_file *f);
lm_err lm_file_pread(lm_file *f, void *dst, size_t n, int64_t offset);        /* all n bytes or an error */
lm_err lm_file_map(lm_file *f, const void **p, size_t *n);                    /* whole file, read only; unmapped at close */
/* These bytes are not read through the map, their neighbours are: advice, so that they need not count as this process's memory. Reading them stays right. */
void lm_file_map_spare(lm_file *f, int64_t offset, int64_t bytes);
/* Asks for the whole file to be brought into the page cache while other things are done, the parts named before that first: advice, nothing waits for it but
 * lm_file_close, which stops it. Parts are not looked at once it has begun. */
lm_err lm_file_ahead_part(lm_file *f, int64_t offset, int64_t bytes);
void lm_file_ahead(lm_file *f);
void lm_file_close(lm_file *f);
lm_err lm_file_read_all(lm_ctx *ctx, const char *path, size_t max, char **out, size_t *n);   /* NUL added; lm_free */
lm_err lm_file_patch(lm_ctx *ctx, const char *path, int64_t offset, const void *p, size_t n);   /* bytes that are there; + fsync */
lm_err lm_file_write_atomic(lm_ctx *ctx, const char *path, const void *p, size_t n);

typedef struct lm_out lm_out;                                                 /* atomic output stream, 1 MiB buffer */
lm_err lm_out_open(lm_out **out, lm_ctx *ctx, const char *path);              /* writes path.tmp-PID until commit */
lm_err lm_out_append(lm_out **out, lm_ctx *ctx, const char *path);            /* plain append (logs): commit = flush + close */
lm_err lm_out_write(lm_out *o, const void *p, size_t n);
lm_err lm_out_pad(lm_out *o, size_t align, char fill);                        /* up to a multiple of align */
int64_t lm_out_tell(const lm_out *o);
lm_err lm_out_flush(lm_out *o);                                               /* to the kernel */
lm_err lm_out_commit(lm_out *o);                                              /* flush, fsync, close, rename, fsync folder; frees o either way */
void lm_out_abort(lm_out *o);                                                 /* NULL is fine */

lm_err lm_dir_make(lm_ctx *ctx, const char *path);                            /* with parents; fine if there */
lm_err lm_dir_sync(lm_ctx *ctx, const char *path);
lm_err lm_dir_remove(lm_ctx *ctx, const char *path);                          /* recursive */
lm_err lm_dir_list(lm_ctx *ctx, const char *path, char ***names, int *n);     /* sorted, without . and ..; one lm_free(names) frees all */
void lm_file_remove(const char *path);                                        /* as well as it goes; for what is half-made */
lm_err lm_rename(lm_ctx *ctx, const char *from, const char *to);              /* + fsync of the folder */
bool lm_exists(const char *path);
bool lm_is_dir(const char *path);
lm_err lm_path_join(lm_ctx *ctx, char **out, const char *dir, const char *name);   /* lm_free */
/* One process at a time: an advisory lock on a small file that holds the owner's number. It goes with the process, however that ends; the
 * file goes on drop. Held by another: LM_E_IO with the sentence "WHAT is in use by process N". A file system without locks is a warning
 * and no lock (*out NULL). */
typedef struct lm_lock lm_lock;
lm_err lm_lock_take(lm_lock **out, lm_ctx *ctx, const char *path, const char *what);
void lm_lock_drop(lm_lock *l);                                                /* NULL is fine */
/* Fault injection: the nth wrapped call from now returns this errno (sticky: and all after); err < 0 = short transfer. n = 0: off. */
void lm_file_fail_at(uint64_t n, int err, bool sticky);
uint64_t lm_file_calls(void);                                                 /* wrapped calls so far: the sweep's upper end */
#endif
