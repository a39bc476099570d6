/* load_json.c — Hugging Face's tokenizer.json.
 *
 * truncation and padding are left aside: they are batch settings that the libraries overwrite, not part of what a text's ids are. */
#include "format/json.h"
#include "tok/tok_int.h"
#include <stdlib.h>

static lm_err part(lm_tok *t, const lm_jv *root, const char *key, char **to) {
    lm_jv v;
    LM_TRY(lm_json_get(root, key, LM_JSON_OPT, &v));
    char *text = v.v ? json_dumps(v.v, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    if (v.v && !text) return lm_fail(t->ctx, LM_E_NOMEM, "out of memory: %s", key);
    char *c = lm_strdup(t->ctx, LM_MEM_TOK, text ? text : "null");
    free(text);
    if (!c) return LM_E_NOMEM;
    lm_free(t->ctx, *to);
    *to = c;
    return LM_OK;
}

static lm_err vocab(lm_tok *t, const lm_jv *model, const char *unk) {
    lm_jv v;
    LM_TRY(lm_json_obj(model, "vocab", LM_JSON_NEED, &v));
    size_t count = json_object_size(v.v);
    for (void *it = json_object_iter(v.v); it; it = json_object_iter_next(v.v, it)) {
        const char *key = json_object_iter_key(it);
        size_t n = json_object_iter_key_len(it);
        json_t *val = json_object_iter_value(it);
        int64_t id = json_is_integer(val) ? (int64_t)json_integer_value(val) : -1;
        if (id < 0 || id > 4 * (int64_t)count + 65536)
            return lm_json_fail(&v, LM_E_FORMAT, "token \"%.60s\": wanted an id from 0 to %lld", key, 4 * (long long)count + 65536);
        lm_tok_type type = unk && !strcmp(key, unk)                             ? LM_TOK_UNKNOWN
                           : t->byte_fallback && lm_tok_byte_token(key, n) >= 0 ? LM_TOK_BYTE
                                                                                : LM_TOK_NORMAL;
        LM_TRY(lm_tok_put(t, id, key, n, type, true));
    }
    return LM_OK;
}

static lm_err added(lm_tok *t, const lm_jv *root) {
    static const struct { const char *key; uint32_t flag; } flags[] = { { "special", LM_ADDED_SPECIAL }, { "single_word", LM_ADDED_SINGLE_WORD },
        { "lstrip", LM_ADDED_LSTRIP }, { "rstrip", LM_ADDED_RSTRIP }, { "normalized", LM_ADDED_NORMALIZED } };
    lm_jv a, item;
    LM_TRY(lm_json_arr(root, "added_tokens", LM_JSON_OPT, &a));
    int64_t limit = 4 * (int64_t)lm_json_len(&a) + 65536 + t->n_vocab;
    for (size_t i = 0; i < lm_json_len(&a); i++) {
        int64_t id;
        const char *s;
        size_t n;
        uint32_t f = 0;
        LM_TRY(lm_json_item(&a, i, &item));
        LM_TRY(lm_json_int(&item, "id", LM_JSON_NEED, 0, 0, limit, &id));
        LM_TRY(lm_json_str(&item, "content", LM_JSON_NEED, NULL, &s, &n));
        for (int k = 0; k < LM_COUNT(flags); k++) {
            bool on;
            LM_TRY(lm_json_bool(&item, flags[k].key, LM_JSON_OPT, false, &on));
            if (on) f |= flags[k].flag;
        }
        LM_TRY(lm_tok_put_added(t, id, s, n, f));
    }
    return LM_OK;
}

/* The space between two parts. Parts may hold spaces themselves (files older than the list form): then the one cut whose parts and result are
 * tokens counts, and NULL says that there is none, or more than one. */
static const char *separator(const lm_tok *t, const char *s, size_t n) {
    const char *first = memchr(s, ' ', n), *found = NULL;
    if (!first || !memchr(first + 1, ' ', n - (size_t)(first + 1 - s))) return first;
    if (n > 1024) return NULL;
    for (size_t i = 1; i + 1 < n; i++) {
        char both[1024];
        if (s[i] != ' ' || lm_tok_find_text(t, s, i) < 0 || lm_tok_find_text(t, s + i + 1, n - i - 1) < 0) continue;
        memcpy(both, s, i);
        memcpy(both + i, s + i + 1, n - i - 1);
        if (lm_tok_find_text(t, both, n - 1) < 0) continue;
        if (found) return NULL;
        found = s + i;
    }
    return found;
}

/* "a b" or ["a", "b"] */
static lm_err merges(lm_tok *t, const lm_jv *model) {
    lm_jv a, m, x;
    LM_TRY(lm_json_arr(model, "merges", LM_JSON_NEED, &a));
    for (size_t i = 0; i < lm_json_len(&a); i++) {
        const char *l, *r;
        size_t ln, rn;
        LM_TRY(lm_json_item(&a, i, &m));
        if (json_is_array(m.v)) {
            if (lm_json_len(&m) != 2) return lm_json_fail(&m, LM_E_FORMAT, "wanted two parts");
            LM_TRY(lm_json_item(&m, 0, &x));
            LM_TRY(lm_json_as_str(&x, &l, &ln));
            LM_TRY(lm_json_item(&m, 1, &x));
            LM_TRY(lm_json_as_str(&x, &r, &rn));
        } else {
            LM_TRY(lm_json_as_str(&m, &l, &ln));
            const char *space = separator(t, l, ln);
            if (!space) return lm_json_fail(&m, LM_E_FORMAT, "wanted two parts with one space between");
            r = space + 1;
            rn = ln - (size_t)(r - l);
            ln = (size_t)(space - l);
        }
        LM_TRY(lm_tok_put_merge_text(t, l, ln, r, rn, (uint32_t)i, i));
    }
    return LM_OK;
}

lm_err lm_tok_load_json(lm_tok *t, json_t *root_v, const char *name) {
    lm_jv root = lm_json_root(t->ctx, name, root_v), model;
    LM_TRY(lm_json_obj(&root, "model", LM_JSON_NEED, &model));
    const char *type, *s, *unk;
    LM_TRY(lm_json_str(&model, "type", LM_JSON_OPT,
                       json_object_get(model.v, "merges")   ? "BPE"
                       : json_object_get(model.v, "unk_id") ? "Unigram"
                       : json_object_get(model.v, "max_input_chars_per_word") ? "WordPiece"
                                                            : "?",
                       &type, NULL));
    if (!strcmp(type, "Unigram"))
        return lm_json_fail(&model, LM_E_UNSUPPORTED, "Unigram (SentencePiece's other algorithm: T5, XLM-R, ALBERT…) is not supported; BPE is");
    const bool pieces = !strcmp(type, "WordPiece");
    if (!pieces && strcmp(type, "BPE")) return lm_json_fail(&model, LM_E_UNSUPPORTED, "tokenizer model \"%s\" is not supported; BPE and WordPiece are", type);
    double dropout;
    LM_TRY(lm_json_num(&model, "dropout", LM_JSON_OPT, 0, 0, 1, &dropout));
    if (dropout > 0) return lm_json_fail(&model, LM_E_UNSUPPORTED, "dropout %g: random merges are not supported", dropout);
    static const char *const affix[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    for (int i = 0; !pieces && i < LM_COUNT(affix); i++) {
        LM_TRY(lm_json_str(&model, affix[i], LM_JSON_OPT, "", &s, NULL));
        if (*s) return lm_json_fail(&model, LM_E_UNSUPPORTED, "%s \"%.20s\" is not supported", affix[i], s);
    }
    if (pieces) {
        int64_t most;
        LM_TRY(lm_json_str(&model, affix[0], LM_JSON_OPT, "##", &s, NULL));
        LM_TRY(lm_json_int(&model, "max_input_chars_per_word", LM_JSON_OPT, 100, 0, 1000, &most));
        if (!*s) return lm_json_fail(&model, LM_E_UNSUPPORTED, "%s is empty", affix[0]);
        if (!(t->wp_prefix = lm_strdup(t->ctx, LM_MEM_TOK, s))) return LM_E_NOMEM;
        t->wp_max_chars = (int)most;
    }
    LM_TRY(lm_json_str(&model, "unk_token", LM_JSON_OPT, pieces ? "[UNK]" : NULL, &unk, NULL));
    LM_TRY(lm_json_bool(&model, "fuse_unk", LM_JSON_OPT, false, &t->fuse_unk));
    LM_TRY(lm_json_bool(&model, "byte_fallback", LM_JSON_OPT, false, &t->byte_fallback));
    LM_TRY(lm_json_bool(&model, "ignore_merges", LM_JSON_OPT, false, &t->ignore_merges));
    LM_TRY(vocab(t, &model, unk));
    LM_TRY(added(t, &root));
    LM_TRY(lm_tok_index_text(t));
    if (unk) {
        t->unk = lm_tok_find_text(t, unk, strlen(unk));
        if (t->unk < 0) return lm_json_fail(&model, LM_E_FORMAT, "unk_token \"%.60s\" is not in the vocabulary", unk);
    }
    if (!pieces) LM_TRY(merges(t, &model));
    LM_TRY(part(t, &root, "normalizer", &t->json_norm));
    LM_TRY(part(t, &root, "pre_tokenizer", &t->json_pre));
    LM_TRY(part(t, &root, "post_processor", &t->json_post));
    return part(t, &root, "decoder", &t->json_dec);
}
