/* load_pair.c — GPT-2's two files: vocab.json (text -> id) and merges.txt (one merge a line, best first), with the added tokens of the folder.
 *
 * The files do not say how words are split: tokenizer_config.json's class does (or opts.kind). */
#include "base/file.h"
#include "format/json.h"
#include "tok/tok_int.h"

static lm_err vocab(lm_tok *t, const lm_jv *root) {
    size_t count = json_object_size(root->v);
    for (void *it = json_object_iter(root->v); it; it = json_object_iter_next(root->v, it)) {
        json_t *val = json_object_iter_value(it);
        int64_t id = json_is_integer(val) ? (int64_t)json_integer_value(val) : -1;
        if (id < 0 || id > 4 * (int64_t)count + 65536)
            return lm_json_fail(root, LM_E_FORMAT, "token \"%.60s\": wanted an id from 0 to %lld",
                json_object_iter_key(it), 4 * (long long)count + 65536);
        LM_TRY(lm_tok_put(t, id, json_object_iter_key(it), json_object_iter_key_len(it), LM_TOK_NORMAL, true));
    }
    return LM_OK;
}

/* added_tokens_decoder of tokenizer_config.json: {"50256": {"content": …, flags}} */
static lm_err decoder(lm_tok *t, const lm_jv *root) {
    static const struct { const char *key; uint32_t flag; } flags[] = { { "special", LM_ADDED_SPECIAL }, { "single_word", LM_ADDED_SINGLE_WORD },
        { "lstrip", LM_ADDED_LSTRIP }, { "rstrip", LM_ADDED_RSTRIP }, { "normalized", LM_ADDED_NORMALIZED } };
    lm_jv d, one;
    LM_TRY(lm_json_obj(root, "added_tokens_decoder", LM_JSON_OPT, &d));
    if (!d.v) return LM_OK;
    for (void *it = json_object_iter(d.v); it; it = json_object_iter_next(d.v, it)) {
        const char *key = json_object_iter_key(it), *s;
        size_t n;
        int64_t id = 0;
        uint32_t f = 0;
        for (const char *c = key; *c && id >= 0; c++) id = *c >= '0' && *c <= '9' && id < LM_TOK_MAX_VOCAB ? id * 10 + (*c - '0') : -1;
        if (id < 0 || !*key || id > (int64_t)t->n_vocab * 4 + 65536) return lm_json_fail(&d, LM_E_FORMAT, "\"%.20s\" is not an id", key);
        LM_TRY(lm_json_obj(&d, key, LM_JSON_NEED, &one));
        LM_TRY(lm_json_str(&one, "content", LM_JSON_NEED, NULL, &s, &n));
        for (int k = 0; k < LM_COUNT(flags); k++) {
            bool on;
            LM_TRY(lm_json_bool(&one, flags[k].key, LM_JSON_OPT, false, &on));
            if (on) f |= flags[k].flag;
        }
        LM_TRY(lm_tok_put_added(t, id, s, n, f));
    }
    return LM_OK;
}

static lm_err merges(lm_tok *t, const char *path, const char *p, size_t n) {
    size_t line = 0;
    uint32_t rank = 0;
    for (const char *end = p + n; p < end;) {
        const char *e = memchr(p, '\n', (size_t)(end - p)), *stop = e ? e : end;
        line++;
        size_t k = (size_t)(stop - p);
        if (k && p[k - 1] == '\r') k--;
        if (k && !(k >= 8 && !memcmp(p, "#version", 8))) {
            const char *sp = memchr(p, ' ', k);
            if (!sp) return lm_fail(t->ctx, LM_E_FORMAT, "%s:%zu: wanted two parts with one space between", path, line);
            LM_TRY(lm_tok_put_merge_text(t, p, (size_t)(sp - p), sp + 1, k - (size_t)(sp + 1 - p), rank++, line));
        }
        p = e ? e + 1 : end;
    }
    return LM_OK;
}

static lm_err kind_of(lm_tok *t, const lm_jv *config, const char *given, const char **kind) {
    static const struct {
        const char *class, *kind;
    } known[] = { { "", "gpt2" },
                  { "GPT2Tokenizer", "gpt2" },
                  { "GPT2TokenizerFast", "gpt2" },
                  { "CodeGenTokenizer", "gpt2" },
                  { "CodeGenTokenizerFast", "gpt2" },
                  { "Qwen2Tokenizer", "qwen2" },
                  { "Qwen2TokenizerFast", "qwen2" } };
    if (given) { *kind = given; return LM_OK; }
    const char *class = "";
    if (config->v) LM_TRY(lm_json_str(config, "tokenizer_class", LM_JSON_OPT, "", &class, NULL));
    for (int i = 0; i < LM_COUNT(known); i++)
        if (!strcmp(class, known[i].class)) { *kind = known[i].kind; return LM_OK; }
    return lm_fail(t->ctx, LM_E_UNSUPPORTED,
                   "%s: how tokenizer class \"%.60s\" splits words is not known; name the kind (gpt2, qwen2, llama3…)", t->name, class);
}

lm_err lm_tok_load_pair(lm_tok *t, const char *dir, const lm_tok_opts *opts) {
    char *vp = NULL, *cp = NULL, *ap = NULL, *mp = NULL, *text = NULL;
    json_t *v = NULL, *c = NULL, *a = NULL;
    size_t n;
    lm_err err;
    LM_GOTO(lm_tok_read_config(t, dir, "vocab.json", &vp, &v), done);
    if (!v) { err = lm_fail(t->ctx, LM_E_NOTFOUND, "%s: no vocab.json", dir); goto done; }
    LM_GOTO(lm_tok_read_config(t, dir, "tokenizer_config.json", &cp, &c), done);
    LM_GOTO(lm_tok_read_config(t, dir, "added_tokens.json", &ap, &a), done);
    lm_jv vr = lm_json_root(t->ctx, vp, v), cr = lm_json_root(t->ctx, cp, c), ar = lm_json_root(t->ctx, ap, a);
    const char *kind = "";
    LM_GOTO(kind_of(t, &cr, opts ? opts->kind : NULL, &kind), done);
    const lm_split_row *row = lm_split_by_name(!strcmp(kind, "r50k") || !strcmp(kind, "p50k") ? "gpt2" : kind);
    if (!row) { err = lm_fail(t->ctx, LM_E_CONFIG, "%s: unknown kind \"%.40s\"", t->name, kind); goto done; }
    if (!json_is_object(v)) { err = lm_json_fail(&vr, LM_E_FORMAT, "wanted an object"); goto done; }
    LM_GOTO(vocab(t, &vr), done);
    if (c) LM_GOTO(decoder(t, &cr), done);
    if (a && !json_is_object(a)) { err = lm_json_fail(&ar, LM_E_FORMAT, "wanted an object"); goto done; }
    for (void *it = a ? json_object_iter(a) : NULL; it; it = json_object_iter_next(a, it)) {
        json_t *id = json_object_iter_value(it);
        int64_t i = json_is_integer(id) ? (int64_t)json_integer_value(id) : -1;
        if (i < 0 || i > (int64_t)t->n_vocab * 4 + 65536) { err = lm_json_fail(&ar, LM_E_FORMAT, "\"%.60s\" has no usable id",
            json_object_iter_key(it)); goto done; }
        if (i < t->n_vocab && t->tok[i].added) continue;   /* tokenizer_config.json said it, with flags */
        LM_GOTO(lm_tok_put_added(t, i, json_object_iter_key(it), json_object_iter_key_len(it), 0), done);
    }
    LM_GOTO(lm_tok_index_text(t), done);
    int32_t end = lm_tok_find_text(t, "<|endoftext|>", 13);
    if (end >= 0 && !t->tok[end].added) LM_GOTO(lm_tok_put_added(t, end, "<|endoftext|>", 13, LM_ADDED_SPECIAL), done);
    LM_GOTO(lm_path_join(t->ctx, &mp, dir, "merges.txt"), done);
    LM_GOTO(lm_file_read_all(t->ctx, mp, 64 << 20, &text, &n), done);
    LM_GOTO(merges(t, mp, text, n), done);
    LM_GOTO(lm_tok_byte_pipeline(t, row, !strcmp(kind, "qwen2"), NULL), done);
done:
    lm_json_free(v);
    lm_json_free(c);
    lm_json_free(a);
    char *own[] = { vp, cp, ap, mp, text };
    for (int i = 0; i < LM_COUNT(own); i++) lm_free(t->ctx, own[i]);
    return err;
}
