/* replay.c — main for a fuzz program without an engine: feed it files, or every file of folders, then prefixes and bit flips of each.
 *
 * The mutations are few and fixed (no clock, no randomness), so a failure repeats. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static int n_files;

/* An exact-size heap copy, so that the address sanitizer sees the first byte past the end. */
static void once(const uint8_t *p, size_t n) {
    uint8_t *q = malloc(n ? n : 1);
    if (!q) exit(2);
    if (n) memcpy(q, p, n);
    LLVMFuzzerTestOneInput(q, n);
    free(q);
}
static bool file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) { fprintf(stderr, "replay: cannot open %s\n", path); return false; }
    size_t cap = 1 << 20, n = 0, got;
    uint8_t *p = malloc(cap);
    while (p && (got = fread(p + n, 1, cap - n, f)) > 0)
        if ((n += got) == cap) { uint8_t *q = realloc(p, cap *= 2); if (!q) free(p); p = q; }
    fclose(f);
    if (!p) return false;
    once(p, n);
    const size_t cuts = n < 64 ? n : 64;
    for (size_t i = 0; i < cuts; i++) once(p, i * n / cuts);
    const size_t flips = n * 8 < 512 ? n * 8 : 512;
    for (size_t i = 0; i < flips; i++) {
        /* the head, where formats keep their counts, is flipped most densely */
        const size_t bit = i < flips / 2 ? i : (size_t)((double)i / (double)flips * (double)(n * 8 - 1));
        p[bit / 8] ^= (uint8_t)(1u << (bit % 8)); once(p, n); p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    free(p);
    n_files++;
    return true;
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static bool path(const char *p) {
    struct stat st;
    if (stat(p, &st)) { fprintf(stderr, "replay: %s does not exist\n", p); return false; }
    if (!S_ISDIR(st.st_mode)) return file(p);
    DIR *d = opendir(p);
    if (!d) return false;
    char **names = NULL; size_t n = 0; bool ok = true;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char **more = realloc(names, (n + 1) * sizeof *names), *name = NULL;
        if (!more || (names = more, name = malloc(strlen(p) + strlen(e->d_name) + 2)) == NULL) { ok = false; break; }
        sprintf(name, "%s/%s", p, e->d_name); names[n++] = name;
    }
    closedir(d);
    if (n) qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) { ok = path(names[i]) && ok; free(names[i]); }
    free(names);
    return ok;
}
int main(int argc, char **argv) {
    once((const uint8_t *)"", 0);
    bool ok = true;
    for (int i = 1; i < argc; i++) ok = path(argv[i]) && ok;
    printf("%d cases, %d failed, 0 skipped\n", n_files + !ok, !ok);
    return ok ? 0 : 1;
}
