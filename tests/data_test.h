/* data_test.h — what the tests of data/ and eval/ share: a scratch folder, random documents, small tokenizers. */
#ifndef LM_DATA_TEST_H
#define LM_DATA_TEST_H
#include "base/file.h"
#include "data/data.h"
#include "data/data_int.h"
#include "test.h"
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* A path in the scratch folder; lives until t_done, which removes the folder. */
static char t_dir[256], *t_name[1024];
static inline const char *t_path(const char *name) {
    char all[600];
    int k = 0;
    if (!t_dir[0]) {                                    /* in memory if there is such a place: the tests sync often */
        const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
        snprintf(t_dir, sizeof t_dir, "%s/loam-data-XXXXXX", base);
        if (!mkdtemp(t_dir)) exit(1);
    }
    snprintf(all, sizeof all, "%s/%s", t_dir, name);
    while (k < LM_COUNT(t_name) && t_name[k] && strcmp(t_name[k], all)) k++;
    if (k == LM_COUNT(t_name)) exit(1);
    return t_name[k] ? t_name[k] : (t_name[k] = strdup(all));
}
static inline void t_done(void) {
    for (int k = 0; k < LM_COUNT(t_name) && t_name[k]; k++) { free(t_name[k]); t_name[k] = NULL; }
    if (t_dir[0]) (void)lm_dir_remove(NULL, t_dir);
    t_dir[0] = 0;
}
static inline void t_write(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f)) { printf("cannot write %s\n", path); exit(1); }
}
static inline char *t_read(const char *path, size_t *n) {
    char *p;
    if (lm_file_read_all(NULL, path, 0, &p, n)) { *n = 0; return NULL; }
    return p;
}
static inline lm_ctx *t_ctx(int threads) {
    lm_ctx *c;
    if (lm_ctx_new(&c, &(lm_ctx_opts){ .n_threads = threads })) exit(1);
    return c;
}
/* vocab 257: the end token and one token a byte; more: merges of the words below. */
static inline lm_tok *t_tok(lm_ctx *ctx, int64_t vocab) {
    static const char words[] =
        "the river ran under the old bridge and the rain fell on the roof of the mill until the morning came, when the birds sang again.";
    lm_tok *t;
    lm_tok_text d = { words, sizeof words - 1 };
    if (lm_tok_train(ctx, &(lm_tok_train_opts){ .vocab = vocab }, &d, 1, &t)) { printf("no tokenizer: %s\n", lm_error(ctx)); exit(1); }
    return t;
}
static inline size_t t_words(char *dst, size_t n, uint64_t seed) {
    static const char *const w[] = { "the ", "river ",   "mill\n", "rain ",       "caf\xc3\xa9 ", "\xe6\xb0\xb4", "\xf0\x9f\x8c\xa7 ",
                                     "old ", "bridge, ", "7",      "\"quoted\" ", "back\\slash " };
    lm_rng r = lm_rng_of(seed, "test words");
    size_t k = 0;
    for (uint64_t i = 0; k < n; i++) {
        const char *s = w[lm_rng_below(r, i, (uint64_t)LM_COUNT(w))];
        size_t m = strlen(s);
        if (k + m > n) { memset(dst + k, 'x', n - k); k = n; break; }
        memcpy(dst + k, s, m);
        k += m;
    }
    return k;
}
typedef struct { char *p; size_t n; } t_doc;
/* n documents of 1..most bytes; every ninth is empty. */
static inline t_doc *t_docs(int n, size_t most, uint64_t seed) {
    t_doc *d = calloc((size_t)n, sizeof *d);
    lm_rng r = lm_rng_of(seed, "test lengths");
    for (int i = 0; i < n; i++) {
        d[i].n = i % 9 == 8 ? 0 : 1 + (size_t)lm_rng_below(r, (uint64_t)i, most);
        d[i].p = malloc(d[i].n + 1);
        t_words(d[i].p, d[i].n, seed * 1000 + (uint64_t)i);
        d[i].p[d[i].n] = 0;
    }
    return d;
}
static inline void t_docs_free(t_doc *d, int n) { for (int i = 0; i < n; i++) free(d[i].p); free(d); }
static inline void t_jsonl(lm_str *s, const t_doc *d, int n) {
    for (int i = 0; i < n; i++) {
        lm_str_printf(s, "{\"id\": %d, \"text\": ", i);
        lm_str_json(s, d[i].p, d[i].n);
        lm_str_puts(s, i % 5 ? "}\n" : "}\r\n\r\n \n");
    }
}
static inline void t_write_jsonl(const char *path, const t_doc *d, int n) {
    lm_str s = {0};
    t_jsonl(&s, d, n);
    t_write(path, s.p, s.n);
    lm_str_free(&s);
}
/* Names and bytes of everything under a folder as one hash; *n_files counts. */
static inline lm_hash128_t t_tree(const char *dir, int *n_files) {
    lm_hasher *h = lm_hasher_new();
    char **names; int n; *n_files = 0;
    if (!lm_dir_list(NULL, dir, &names, &n)) {
        for (int i = 0; i < n; i++) {
            char p[600]; size_t len;
            snprintf(p, sizeof p, "%s/%s", dir, names[i]);
            lm_hasher_add(h, names[i], strlen(names[i]) + 1);
            if (lm_is_dir(p)) { int k; lm_hash128_t x = t_tree(p, &k); *n_files += k; lm_hasher_add(h, &x, sizeof x); continue; }
            char *b = t_read(p, &len);
            lm_hasher_add(h, &len, sizeof len);
            lm_hasher_add(h, b, len);
            lm_free(NULL, b);
            ++*n_files;
        }
        lm_free(NULL, names);
    }
    lm_hash128_t x = lm_hasher_get(h);
    lm_hasher_free(h);
    return x;
}
#endif
