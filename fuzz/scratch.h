/* scratch.h — a folder in memory for parsers that read files: made once, removed at exit. */
#ifndef LM_FUZZ_SCRATCH_H
#define LM_FUZZ_SCRATCH_H
#include "base/file.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static char scratch_dir[64];
static void scratch_remove(void) { if (*scratch_dir) (void)lm_dir_remove(NULL, scratch_dir); }
static inline const char *scratch(const char *name) {
    static char path[8][320]; static int k;
    if (!*scratch_dir) {
        snprintf(scratch_dir, sizeof scratch_dir, "%s/loam-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
        if (!mkdtemp(scratch_dir)) exit(2);
        atexit(scratch_remove);
    }
    char *p = path[k = (k + 1) & 7];
    snprintf(p, sizeof *path, "%s/%s", scratch_dir, name);
    return p;
}
static inline void scratch_put(const char *name, const void *p, size_t n) {
    int fd = open(scratch(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) exit(2);
    for (const char *s = p; n;) { ssize_t k = write(fd, s, n); if (k <= 0) exit(2); s += k; n -= (size_t)k; }
    close(fd);
}
/* Where the section after the next line "%%%" begins; *n becomes the length of what is before it. NULL: there is none. */
static inline const uint8_t *scratch_cut(const uint8_t *p, size_t *n) {
    static const char mark[] = "\n%%%\n";
    const uint8_t *m = *n ? memmem(p, *n, mark, sizeof mark - 1) : NULL;
    if (!m) return NULL;
    *n = (size_t)(m - p);
    return m + sizeof mark - 1;
}
#endif
