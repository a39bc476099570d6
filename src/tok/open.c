/* open.c — which loader a path or some bytes are for. */
#include "base/file.h"
#include "format/cursor.h"
#include "format/gguf.h"
#include "format/json.h"
#include "tok/tok_int.h"

enum { MAX_FILE = 256 << 20 };

static const char *base_of(const char *path) {
    const char *s = strrchr(path, '/');
    return s ? s + 1 : path;
}

/* Folder of a path, for the small files beside it. */
static lm_err dir_of(lm_ctx *ctx, const char *path, char **out) {
    size_t n = (size_t)(base_of(path) - path);
    char *d = lm_alloc(ctx, LM_MEM_TOK, n + 2);
    if (!d) return LM_E_NOMEM;
    memcpy(d, path, n);
    if (!n) d[n++] = '.';
    d[n] = 0;
    *out = d;
    return LM_OK;
}

typedef enum { IS_JSON, IS_RANKS, IS_GGUF, IS_L2C, IS_SPM, IS_UNKNOWN } content;
static content look(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n && (p[i] == ' ' || p[i] == '\n' || p[i] == '\r' || p[i] == '\t')) i++;
    if (i < n && p[i] == '{') return IS_JSON;
    if (n >= 4 && !memcmp(p, "GGUF", 4)) return IS_GGUF;
    if (lm_tok_is_ranks(p, n)) return IS_RANKS;
    if (n >= 12 && p[0] && !p[2] && !p[3] && p[1] < 16) return IS_L2C;     /* i32 longest piece, at most a few thousand */
    return n && p[0] == 0x0a ? IS_SPM : IS_UNKNOWN;
}

/* dir: where config files may lie, or NULL. */
static lm_err fill(lm_tok *t, const char *name, const uint8_t *p, size_t n, const char *dir, const lm_tok_opts *opts, bool *derive) {
    json_t *root;
    lm_err err;
    *derive = true;
    switch (look(p, n)) {
    case IS_JSON:
        *derive = false;
        LM_TRY(lm_json_parse(t->ctx, name, (const char *)p, n, LM_JSON_ALLOW_NUL, &root));
        if (dir && !strcmp(base_of(name), "vocab.json")) { lm_json_free(root); return lm_tok_load_pair(t, dir, opts); }
        err = lm_tok_load_json(t, root, name);
        lm_json_free(root);
        break;
    case IS_RANKS: err = lm_tok_load_ranks(t, name, p, n, opts); break;
    case IS_SPM: err = lm_tok_load_spm(t, name, p, n); break;
    case IS_L2C: err = lm_tok_load_llama2c(t, name, p, n); break;
    default:
        return lm_fail(t->ctx, LM_E_FORMAT,
                       "%s: not a tokenizer file: neither JSON, GGUF, tiktoken ranks, a SentencePiece model nor llama2.c's tokenizer.bin",
                       name);
    }
    return !err && dir ? lm_tok_load_config(t, dir) : err;
}

static lm_err open_bytes(lm_ctx *ctx, const char *name, const uint8_t *p, size_t n, const char *dir, const lm_tok_opts *opts, lm_tok **out) {
    if (look(p, n) == IS_GGUF) {
        lm_gguf *g;
        LM_TRY(lm_gguf_open_mem(&g, ctx, name, p, n));
        lm_err e = lm_tok_open_gguf(ctx, name, g, opts, out);
        lm_gguf_close(g);
        return e;
    }
    lm_tok *t;
    bool derive = false;
    LM_TRY(lm_tok_new(ctx, name, &t));
    lm_err err = fill(t, name, p, n, dir, opts, &derive);
    if (!err) err = lm_tok_finish(t, opts, derive);
    if (err) { lm_tok_free(t); return err; }
    *out = t;
    return LM_OK;
}

lm_err lm_tok_open_mem(lm_ctx *ctx, const char *name, const void *bytes, size_t n, const lm_tok_opts *opts, lm_tok **out) {
    return open_bytes(ctx, name, bytes, n, NULL, opts, out);
}

static lm_err open_file(lm_ctx *ctx, const char *path, const lm_tok_opts *opts, lm_tok **out) {
    lm_file *f;
    LM_TRY(lm_file_open(&f, ctx, path));
    uint8_t magic[4] = { 0 };
    lm_err err = lm_file_size(f) >= 4 ? lm_file_pread(f, magic, 4, 0) : LM_OK;
    lm_file_close(f);
    LM_TRY(err);
    if (!memcmp(magic, "GGUF", 4)) {                       /* models are large: only the header is read */
        lm_gguf *g;
        LM_TRY(lm_gguf_open(&g, ctx, path));
        err = lm_tok_open_gguf(ctx, path, g, opts, out);
        lm_gguf_close(g);
        return err;
    }
    char *text, *dir;
    size_t n;
    LM_TRY(lm_file_read_all(ctx, path, MAX_FILE, &text, &n));
    err = dir_of(ctx, path, &dir);
    if (!err) {
        const char *base = base_of(path);
        if (!strcmp(base, "vocab.txt")) {
            lm_tok *t;
            err = lm_tok_new(ctx, path, &t);
            if (!err) {
                err = lm_tok_load_vocab_txt(t, text, n, dir);
                if (!err) err = lm_tok_finish(t, opts, false);
                if (err) lm_tok_free(t); else *out = t;
            }
            lm_free(ctx, dir); lm_free(ctx, text);
            return err;
        }
        bool beside = !strcmp(base, "tokenizer.json") || !strcmp(base, "tokenizer.model") || !strcmp(base, "vocab.json");
        err = open_bytes(ctx, path, (const uint8_t *)text, n, beside ? dir : NULL, opts, out);
        lm_free(ctx, dir);
    }
    lm_free(ctx, text);
    return err;
}

lm_err lm_tok_open(lm_ctx *ctx, const char *path, const lm_tok_opts *opts, lm_tok **out) {
    if (!lm_is_dir(path)) return open_file(ctx, path, opts, out);
    static const char *const names[] = { "tokenizer.json", "vocab.json", "tokenizer.model", "qwen.tiktoken", "tokenizer.bin", "vocab.txt" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        char *p;
        LM_TRY(lm_path_join(ctx, &p, path, names[i]));
        bool there = lm_exists(p);
        lm_err err = there ? open_file(ctx, p, opts, out) : LM_OK;
        lm_free(ctx, p);
        if (there) return err;
    }
    return lm_fail(ctx, LM_E_NOTFOUND,
                   "%s: no tokenizer: looked for tokenizer.json, vocab.json, tokenizer.model, qwen.tiktoken, tokenizer.bin and vocab.txt", path);
}
