/* format_test.h — what the tests of src/format share: a context per case, a folder that goes away, FNV-1a (also in the Python scripts), sweeps. */
#ifndef LM_FORMAT_TEST_H
#define LM_FORMAT_TEST_H
#include "test.h"
#include "base/file.h"
#include <sys/stat.h>
#include <unistd.h>
static lm_ctx *ctx;
static char t_dir[512];
static size_t t_base[LM_N_MEM];
static inline void t_begin(void) {
    const char *tmp = getenv("TMPDIR");
    lm_ledger l;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) abort();
    lm_mem_ledger(ctx, &l);
    memcpy(t_base, l.now, sizeof t_base);
    snprintf(t_dir, sizeof t_dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(t_dir)) abort();
}
/* Everything a case allocated must be gone. */
static inline void t_end(void) {
    lm_ledger l;
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, t_dir));
    lm_mem_ledger(ctx, &l);
    LM_CHECK(!memcmp(t_base, l.now, sizeof t_base));
    lm_ctx_free(ctx);
    ctx = NULL;
}
static inline const char *t_at(const char *name) {
    static char buf[8][1200]; static int k;
    char *p = buf[k++ % 8];
    snprintf(p, sizeof buf[0], "%s/%s", t_dir, name);
    return p;
}
static inline const char *t_fix(const char *name) {
    static char buf[8][1200]; static int k;
    char *p = buf[k++ % 8];
    snprintf(p, sizeof buf[0], "%s/format/%s", LM_FIXTURES, name);
    return p;
}
static inline const char *t_data(const char *name) {      /* NULL when LOAM_DATA is not set or has no such file */
    static char buf[8][1200]; static int k;
    const char *d = getenv("LOAM_DATA");
    char *p = buf[k++ % 8];
    if (!d) return NULL;
    snprintf(p, sizeof buf[0], "%s/%s", d, name);
    return lm_exists(p) ? p : NULL;
}
#define T_FNV 0xcbf29ce484222325ull
static inline uint64_t t_fnv(const void *p, size_t n, uint64_t h) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3ull;
    return h;
}
static inline char *t_read(const char *path, size_t *n) {
    char *p = NULL;
    if (lm_file_read_all(ctx, path, 0, &p, n)) { printf("cannot read %s: %s\n", path, lm_error(ctx)); abort(); }
    return p;
}
/* The line of format_expect.txt that starts with "kind name ", without it; "" if there is none. */
static inline const char *t_expect(const char *file, const char *kind, const char *name) {
    static char line[1024]; char want[512];
    FILE *f = fopen(t_fix(file), "r");
    snprintf(want, sizeof want, "%s %s ", kind, name);
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, want, strlen(want))) { fclose(f); line[strcspn(line, "\n")] = 0; return line + strlen(want); }
    if (f) fclose(f);
    return "";
}
/* An exact-size heap copy, so that a sanitizer sees the first byte past the end. */
static inline uint8_t *t_copy(const void *p, size_t n) {
    uint8_t *q = malloc(n ? n : 1);
    if (!q) abort();
    if (n) memcpy(q, p, n);
    return q;
}
typedef lm_err t_parse_fn(const uint8_t *p, size_t n);       /* parse, touch everything, free */
/* Every prefix and every single-bit flip: an error or a valid file, never a crash; prefixes must be errors when cut_is_error. */
static inline void t_torture(const uint8_t *p, size_t n, t_parse_fn *fn, bool cut_is_error) {
    int passed = 0, silent = 0;
    for (size_t k = 0; k < n; k++) {
        uint8_t *q = t_copy(p, k);
        lm_err e = fn(q, k);
        passed += !e;
        silent += e && !*lm_error(ctx);
        free(q);
    }
    if (cut_is_error && passed) { lm_t_fail++; printf("%s: %d prefixes were accepted\n", lm_t_name, passed); }
    uint8_t *q = t_copy(p, n);
    for (size_t bit = 0; bit < n * 8; bit++) {
        q[bit / 8] ^= (uint8_t)(1u << bit % 8);
        lm_err e = fn(q, n);
        silent += e && !*lm_error(ctx);
        q[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(q);
    LM_CHECK(!silent);
}
/* Fail the 1st, 2nd… allocation until the call succeeds: LM_E_NOMEM each time, nothing leaked (t_end looks). */
static inline void t_nomem(const uint8_t *p, size_t n, t_parse_fn *fn) {
    for (uint64_t k = 1; k < 100000; k++) {
        lm_mem_fail_at(ctx, k, false);
        lm_err e = fn(p, n);
        lm_mem_fail_at(ctx, 0, false);
        if (!e) { LM_CHECK(k > 1); return; }
        LM_CHECK(e == LM_E_NOMEM);
        if (e != LM_E_NOMEM) return;
    }
    LM_CHECK(!"never succeeds");
}
#endif
