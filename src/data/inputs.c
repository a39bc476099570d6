/* inputs.c — paths into a list of files with their sizes and times. */
#include "base/file_sys.h"
#include "data/docs.h"
#include "data/stream.h"
#include <string.h>

static bool text_name(const char *name) {
    static const char *const suffix[] = { ".txt", ".text", ".md", ".jsonl", ".ndjson", ".json" };
    size_t n = lm_stream_bare(name);
    for (int i = 0; i < LM_COUNT(suffix); i++) {
        size_t k = strlen(suffix[i]);
        if (n > k && !memcmp(name + n - k, suffix[i], k)) return true;
    }
    return false;
}

typedef struct { lm_ctx *ctx; lm_text_files *in; int cap; int64_t ignored; char odd[200]; } finder;

static lm_err add(finder *f, const char *path, const char *name) {
    lm_text_files *in = f->in;
    struct stat st;
    if (lm_sys_stat(path, &st)) return lm_sys_fail(f->ctx, errno, "cannot look at", path);
    if (!S_ISREG(st.st_mode)) return lm_fail(f->ctx, LM_E_IO, "cannot read '%s': wanted a regular file or a folder", path);
    if (in->n == f->cap) {
        if (f->cap >= LM_DATA_MAX_INPUTS) return lm_fail(f->ctx, LM_E_RANGE, "more than %d input files", (int)LM_DATA_MAX_INPUTS);
        int cap = f->cap ? 2 * f->cap : 16;
        lm_text_file *v = lm_realloc(f->ctx, LM_MEM_DATA, in->v, (size_t)cap * sizeof *v);
        if (!v) return LM_E_NOMEM;
        in->v = v;
        f->cap = cap;
    }
    lm_text_file one = { .path = lm_arena_strdup(in->a, path), .name = lm_arena_strdup(in->a, name), .size = st.st_size,
                     .mtime = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec };
    if (!one.path || !one.name) return LM_E_NOMEM;
    in->v[in->n++] = one;
    in->bytes += one.size;
    return LM_OK;
}
static lm_err walk(finder *f, const char *dir, const char *prefix, int depth) {
    if (depth > 64) return lm_fail(f->ctx, LM_E_RANGE, "'%s': folders nested deeper than 64", dir);
    char **names, *path = NULL, *name = NULL;
    int n;
    LM_TRY(lm_dir_list(f->ctx, dir, &names, &n));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        if (names[i][0] == '.') continue;
        LM_GOTO(lm_path_join(f->ctx, &path, dir, names[i]), next);
        LM_GOTO(lm_path_join(f->ctx, &name, prefix, names[i]), next);
        if (lm_is_dir(path)) err = walk(f, path, name, depth + 1);
        else if (text_name(names[i])) err = add(f, path, name);
        else if (!f->ignored++) { strncpy(f->odd, path, sizeof f->odd - 1); f->odd[sizeof f->odd - 1] = 0; }
next:
        lm_free(f->ctx, path);
        lm_free(f->ctx, name);
        path = name = NULL;
    }
    lm_free(f->ctx, names);
    return err;
}
lm_err lm_text_files_find(lm_ctx *ctx, const char *const *paths, int n, lm_text_files *out) {
    lm_text_files in = { .ctx = ctx };
    finder f = { .ctx = ctx, .in = &in };
    if (n < 1) return lm_fail(ctx, LM_E_CONFIG, "no input: name text files, JSONL files or folders");
    lm_err err = lm_arena_new(&in.a, ctx, LM_MEM_DATA, 0);
    for (int i = 0; i < n && !err; i++) {
        int before = in.n;
        const char *slash = strrchr(paths[i], '/');
        if (!lm_is_dir(paths[i])) { err = add(&f, paths[i], slash ? slash + 1 : paths[i]); continue; }
        err = walk(&f, paths[i], "", 0);
        if (!err && in.n == before)
            err = lm_fail(ctx, LM_E_NOTFOUND,
                          "the folder '%s' has no file named .txt, .text, .md, .jsonl, .ndjson or .json (packed or not)", paths[i]);
    }
    if (err) { lm_text_files_free(&in); return err; }
    if (f.ignored) lm_log(ctx, LM_LOG_WARN, "data", "%lld files of other kinds were passed over, the first is %s", (long long)f.ignored, f.odd);
    *out = in;
    return LM_OK;
}
void lm_text_files_free(lm_text_files *in) {
    if (in->v) lm_free(in->ctx, in->v);
    if (in->a) lm_arena_free(in->a);
    *in = (lm_text_files){0};
}
