/* load_config.c — the small files beside a tokenizer: which tokens begin, end and pad, whether BOS is added, the chat template. */
#include "base/file.h"
#include "format/json.h"
#include "tok/tok_int.h"
#include <stdlib.h>

/* "model_max_length": 1000000000000000019884624838656 says "no limit" in most of these files: integers over 18 digits become 18 nines. */
static void clamp_integers(char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"') {
            for (i++; i < n && s[i] != '"'; i++) i += s[i] == '\\';
            continue;
        }
        size_t k = i;
        bool whole = true;
        for (; k < n && ((s[k] >= '0' && s[k] <= '9') || s[k] == '.' || (s[k] | 32) == 'e' || s[k] == '+' || s[k] == '-'); k++)
            whole &= s[k] >= '0' && s[k] <= '9';
        if (k - i > 18 && whole) {
            memset(s + i, '9', 18);
            memset(s + i + 18, ' ', k - i - 18);
        }
        if (k > i) i = k - 1;
    }
}

/* *out = NULL if the file is not there. */
lm_err lm_tok_read_config(lm_tok *t, const char *dir, const char *file, char **path, json_t **out) {
    char *text;
    size_t n;
    *out = NULL;
    LM_TRY(lm_path_join(t->ctx, path, dir, file));
    lm_err err = LM_OK;
    if (lm_exists(*path) && !(err = lm_file_read_all(t->ctx, *path, LM_JSON_MAX_BYTES, &text, &n))) {
        clamp_integers(text, n);
        err = lm_json_parse(t->ctx, *path, text, n, LM_JSON_ALLOW_NUL, out);
        lm_free(t->ctx, text);
    }
    if (err || !*out) { lm_free(t->ctx, *path); *path = NULL; }
    return err;
}

/* "bos_token": "<s>" or {"content": "<s>", …}; -1 if absent or null. */
static lm_err named(lm_tok *t, const lm_jv *o, const char *key, bool must, int32_t *id) {
    lm_jv v;
    const char *s = NULL;
    size_t n = 0;
    *id = -1;
    LM_TRY(lm_json_get(o, key, LM_JSON_OPT, &v));
    if (!v.v || json_is_false(v.v)) return LM_OK;
    if (json_is_object(v.v)) LM_TRY(lm_json_str(&v, "content", LM_JSON_NEED, NULL, &s, &n));
    else LM_TRY(lm_json_as_str(&v, &s, &n));
    *id = lm_tok_id(t, s, n);
    if (*id < 0 && must && n) return lm_json_fail(o, LM_E_FORMAT, "%s \"%.*s\" is not in the vocabulary", key, (int)lm_min64((int64_t)n, 60), s);
    return LM_OK;
}

static lm_err ends(lm_tok *t, const lm_jv *o) {
    int32_t id;
    LM_TRY(named(t, o, "bos_token", true, &id));
    if (id >= 0) t->bos = id;
    LM_TRY(named(t, o, "pad_token", false, &id));
    if (id >= 0) t->pad = id;
    LM_TRY(named(t, o, "unk_token", false, &id));
    if (id >= 0 && t->unk < 0 && t->tok[id].type == LM_TOK_UNKNOWN) t->unk = id;
    LM_TRY(named(t, o, "eos_token", true, &id));
    return id >= 0 ? lm_tok_add_eos(t, id) : LM_OK;
}

/* A template, or a list of named ones of which "default" is taken. */
static lm_err chat(lm_tok *t, const lm_jv *o) {
    lm_jv v, item;
    const char *s, *name;
    size_t n;
    LM_TRY(lm_json_get(o, "chat_template", LM_JSON_OPT, &v));
    if (!v.v) return LM_OK;
    if (json_is_string(v.v)) {
        LM_TRY(lm_json_as_str(&v, &s, &n));
        return lm_tok_set_chat(t, s, n);
    }
    for (size_t i = 0; i < lm_json_len(&v); i++) {
        LM_TRY(lm_json_item(&v, i, &item));
        LM_TRY(lm_json_str(&item, "name", LM_JSON_NEED, NULL, &name, NULL));
        LM_TRY(lm_json_str(&item, "template", LM_JSON_NEED, NULL, &s, &n));
        if (!strcmp(name, "default")) return lm_tok_set_chat(t, s, n);
    }
    return LM_OK;
}

static lm_err flag(const lm_jv *o, const char *key, int *out) {
    lm_jv v;
    LM_TRY(lm_json_get(o, key, LM_JSON_OPT, &v));
    if (v.v && json_is_boolean(v.v)) *out = json_is_true(v.v) ? 1 : -1;
    return LM_OK;
}

static lm_err tokenizer_config(lm_tok *t, const lm_jv *o) {
    const char *class;
    LM_TRY(ends(t, o));
    LM_TRY(chat(t, o));
    LM_TRY(lm_json_str(o, "tokenizer_class", LM_JSON_OPT, "", &class, NULL));
    /* These classes rebuild their post-processor from the two flags; all others go by tokenizer.json. */
    if (!strncmp(class, "Llama", 5) || !strncmp(class, "CodeLlama", 9) || !strncmp(class, "Gemma", 5)) {
        LM_TRY(flag(o, "add_bos_token", &t->add_bos_said));
        LM_TRY(flag(o, "add_eos_token", &t->add_eos_said));
    }
    return LM_OK;
}

/* generation_config.json, config.json: eos_token_id is a number or several. */
static lm_err ids(lm_tok *t, const lm_jv *o) {
    lm_jv v, item;
    int64_t id;
    LM_TRY(lm_json_get(o, "eos_token_id", LM_JSON_OPT, &v));
    size_t n = !v.v ? 0 : json_is_array(v.v) ? lm_json_len(&v) : 1;
    for (size_t i = 0; i < n; i++) {
        if (json_is_array(v.v)) {
            LM_TRY(lm_json_item(&v, i, &item));
            LM_TRY(lm_json_as_int(&item, -1, INT32_MAX, &id));
        } else LM_TRY(lm_json_as_int(&v, -1, INT32_MAX, &id));
        if (lm_tok_type_of(t, (int32_t)id) != LM_TOK_NONE) LM_TRY(lm_tok_add_eos(t, (int32_t)id));
    }
    return LM_OK;
}

lm_err lm_tok_load_config(lm_tok *t, const char *dir) {
    static const struct { const char *file; lm_err (*fn)(lm_tok *, const lm_jv *); } files[] = { { "tokenizer_config.json", tokenizer_config },
        { "special_tokens_map.json", ends }, { "generation_config.json", ids }, { "config.json", ids } };
    for (int i = 0; i < LM_COUNT(files); i++) {
        char *path = NULL;
        json_t *v;
        LM_TRY(lm_tok_read_config(t, dir, files[i].file, &path, &v));
        if (!v) continue;
        lm_jv root = lm_json_root(t->ctx, path, v);
        lm_err err = json_is_object(v) ? files[i].fn(t, &root) : lm_json_fail(&root, LM_E_FORMAT, "wanted an object");
        lm_json_free(v);
        lm_free(t->ctx, path);
        LM_TRY(err);
    }
    char *path, *text;
    size_t n;
    LM_TRY(lm_path_join(t->ctx, &path, dir, "chat_template.jinja"));
    lm_err err = LM_OK;
    if (lm_exists(path) && !(err = lm_file_read_all(t->ctx, path, 4 << 20, &text, &n))) {
        err = lm_tok_set_chat(t, text, n);
        lm_free(t->ctx, text);
    }
    lm_free(t->ctx, path);
    return err;
}
