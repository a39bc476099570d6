/* embed.c — ROOT OUT: the project's sources and documentation as one zstd block, for the program to carry. Pages first, then sources, each
 * sorted by name; generated tables and anything that is not text are left out. Runs while building, on the building machine. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zstd.h>
static char *buf; static size_t n, cap;
static void add(const void *p, size_t k) {
    if (n + k > cap) { cap = 2 * (n + k); if (!(buf = realloc(buf, cap))) exit(1); }
    memcpy(buf + n, p, k); n += k;
}
static int ends(const char *s, const char *tail) { size_t a = strlen(s), b = strlen(tail); return a >= b && !strcmp(s + a - b, tail); }
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static void file(const char *path) {
    FILE *f = fopen(path, "rb");
    char block[65536]; size_t k;
    if (!f) return;
    while ((k = fread(block, 1, sizeof block, f)) > 0) add(block, k);
    fclose(f);
    if (n && buf[n - 1] != '\n') add("\n", 1);
    add("\n", 1);
}
static void tree(const char *dir, const char *const *tails) {
    DIR *d = opendir(dir);
    char *name[4096]; int k = 0;
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && k < 4096;) if (e->d_name[0] != '.' && !(name[k++] = strdup(e->d_name))) exit(1);
    closedir(d);
    qsort(name, (size_t)k, sizeof *name, by_name);
    for (int i = 0; i < k; i++) {
        char path[4096]; struct stat st;
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        if (stat(path, &st)) continue;
        if (S_ISDIR(st.st_mode)) tree(path, tails);
        else for (int t = 0; tails[t]; t++) if (ends(path, tails[t]) && !strstr(path, "_tables")) file(path);
        free(name[i]);
    }
}
int main(int argc, char **argv) {
    static const char *const pages[] = { ".md", NULL }, *const code[] = { ".c", ".h", ".cu", NULL };
    char path[4096], tmp[4096];
    if (argc != 3) { fprintf(stderr, "usage: embed ROOT OUT\n"); return 2; }
    snprintf(path, sizeof path, "%s/README.md", argv[1]); file(path);
    snprintf(path, sizeof path, "%s/docs", argv[1]); tree(path, pages);
    snprintf(path, sizeof path, "%s/src", argv[1]); tree(path, code);
    size_t bound = ZSTD_compressBound(n), z;
    void *out = malloc(bound);
    if (!out || ZSTD_isError(z = ZSTD_compress(out, bound, buf, n, 15))) { fprintf(stderr, "embed: cannot compress\n"); return 1; }
    snprintf(tmp, sizeof tmp, "%s.tmp", argv[2]);
    FILE *f = fopen(tmp, "wb");
    if (!f || fwrite(out, 1, z, f) != z || fclose(f) || rename(tmp, argv[2])) { fprintf(stderr, "embed: cannot write %s\n", argv[2]); return 1; }
    return 0;
}
