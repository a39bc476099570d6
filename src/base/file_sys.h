/* file_sys.h — the gate: every system call on files that base/ makes, one function each, for file.c and out.c alone.
 *
 * Each passes the fault injector first and retries EINTR. They answer as the call they are named after does, with errno.
 *
 * Lifetime: none.  Threads: safe; the injector's counters are atomic and shared by the process.  Errors: errno. */
#ifndef LM_FILE_SYS_H
#define LM_FILE_SYS_H
#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
int lm_sys_open(const char *path, int flags, mode_t mode);        /* + O_CLOEXEC */
int lm_sys_close(int fd);
ssize_t lm_sys_read(int fd, void *p, size_t n);
ssize_t lm_sys_pread(int fd, void *p, size_t n, int64_t offset);
ssize_t lm_sys_write(int fd, const void *p, size_t n);
ssize_t lm_sys_pwrite(int fd, const void *p, size_t n, int64_t offset);
int lm_sys_fsync(int fd);
int lm_sys_fchmod(int fd, mode_t mode);
int lm_sys_fstat(int fd, struct stat *st);
int lm_sys_stat(const char *path, struct stat *st);
int lm_sys_lstat(const char *path, struct stat *st);
int lm_sys_rename(const char *from, const char *to);
int lm_sys_unlink(const char *path);
int lm_sys_rmdir(const char *path);
int lm_sys_mkdir(const char *path, mode_t mode);
int lm_sys_flock(int fd);                                         /* exclusive, without waiting */
void *lm_sys_mmap(size_t n, int fd);                              /* shared, read only */
DIR *lm_sys_opendir(const char *path);
int lm_sys_readdir(DIR *d, struct dirent **e);                    /* *e = NULL at the end; -1 on error */
char *lm_sys_realpath(const char *path);                          /* free() */

lm_err lm_sys_fail(lm_ctx *ctx, int err, const char *what, const char *path);   /* "what 'path': reason" */
lm_err lm_sync_parent(lm_ctx *ctx, const char *path);
#endif
