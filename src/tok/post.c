/* post.c — what LM_TOK_ADD adds: the post-processor's template, and the flags and options that override it. */
#include "format/json.h"
#include "tok/tok_int.h"
#include <stdio.h>

enum { MAX_ADD = 16 };
typedef struct { int32_t before[MAX_ADD], after[MAX_ADD]; int n_before, n_after; bool stated; } adds;

static lm_err put(const lm_tok *t, const lm_jv *o, int32_t *to, int *n, int64_t id) {
    if (*n == MAX_ADD) return lm_json_fail(o, LM_E_UNSUPPORTED, "more than %d tokens are added", MAX_ADD);
    if (lm_tok_type_of(t, (int32_t)id) == LM_TOK_NONE) return lm_json_fail(o, LM_E_FORMAT, "id %lld is not in the vocabulary", (long long)id);
    to[(*n)++] = (int32_t)id;
    return LM_OK;
}

/* ["</s>", 2] */
static lm_err pair(const lm_tok *t, const lm_jv *o, const char *key, int32_t *to, int *n) {
    lm_jv a, item;
    int64_t id;
    LM_TRY(lm_json_arr(o, key, LM_JSON_NEED, &a));
    LM_TRY(lm_json_item(&a, 1, &item));
    LM_TRY(lm_json_as_int(&item, 0, LM_TOK_MAX_VOCAB, &id));
    return put(t, &item, to, n, id);
}

static lm_err template_(const lm_tok *t, const lm_jv *o, adds *x) {
    lm_jv single, specials, item, piece, named, ids, one;
    LM_TRY(lm_json_arr(o, "single", LM_JSON_NEED, &single));
    LM_TRY(lm_json_get(o, "special_tokens", LM_JSON_OPT, &specials));
    bool text = false;
    for (size_t i = 0; i < lm_json_len(&single); i++) {
        const char *id;
        LM_TRY(lm_json_item(&single, i, &item));
        LM_TRY(lm_json_obj(&item, "Sequence", LM_JSON_OPT, &piece));
        if (piece.v) {
            LM_TRY(lm_json_str(&piece, "id", LM_JSON_NEED, NULL, &id, NULL));
            if (text || strcmp(id, "A")) return lm_json_fail(&piece, LM_E_FORMAT, "a template for one text wants sequence A once");
            text = true;
            continue;
        }
        LM_TRY(lm_json_obj(&item, "SpecialToken", LM_JSON_NEED, &piece));
        LM_TRY(lm_json_str(&piece, "id", LM_JSON_NEED, NULL, &id, NULL));
        if (!specials.v) return lm_json_fail(o, LM_E_FORMAT, "special_tokens is missing");
        LM_TRY(lm_json_obj(&specials, id, LM_JSON_NEED, &named));
        LM_TRY(lm_json_arr(&named, "ids", LM_JSON_NEED, &ids));
        for (size_t k = 0; k < lm_json_len(&ids); k++) {
            int64_t v;
            LM_TRY(lm_json_item(&ids, k, &one));
            LM_TRY(lm_json_as_int(&one, 0, LM_TOK_MAX_VOCAB, &v));
            LM_TRY(text ? put(t, &one, x->after, &x->n_after, v) : put(t, &one, x->before, &x->n_before, v));
        }
    }
    return text ? LM_OK : lm_json_fail(&single, LM_E_FORMAT, "a template without the text");
}

static lm_err post_step(const lm_tok *t, const lm_jv *o, adds *x, int depth) {
    const char *type;
    LM_TRY(lm_json_str(o, "type", LM_JSON_NEED, NULL, &type, NULL));
    if (!strcmp(type, "ByteLevel")) return LM_OK;          /* trims offsets only */
    if (!strcmp(type, "Sequence")) {
        lm_jv a, item;
        if (depth > 8) return lm_json_fail(o, LM_E_UNSUPPORTED, "sequences nested too deeply");
        LM_TRY(lm_json_arr(o, "processors", LM_JSON_NEED, &a));
        for (size_t i = 0; i < lm_json_len(&a); i++) {
            LM_TRY(lm_json_item(&a, i, &item));
            LM_TRY(post_step(t, &item, x, depth + 1));
        }
        return LM_OK;
    }
    if (x->stated) return lm_json_fail(o, LM_E_UNSUPPORTED, "a second post-processor that adds tokens");
    x->stated = true;
    if (!strcmp(type, "TemplateProcessing")) return template_(t, o, x);
    if (!strcmp(type, "RobertaProcessing") || !strcmp(type, "BertProcessing")) {
        LM_TRY(pair(t, o, "cls", x->before, &x->n_before));
        return pair(t, o, "sep", x->after, &x->n_after);
    }
    return lm_json_fail(o, LM_E_UNSUPPORTED, "post-processor \"%s\" is not supported, and leaving it out would give other ids", type);
}

static void token_json(const lm_tok *t, int32_t id, lm_str *s) {
    size_t n;
    const char *p = lm_tok_text_of(t, id, &n);
    lm_str_json(s, p, n);
}

static lm_err write_template(const lm_tok *t, const adds *x, lm_str *s) {
    lm_str_puts(s, "{\"type\":\"TemplateProcessing\"");
    for (int two = 0; two < 2; two++) {
        lm_str_puts(s, two ? "],\"pair\":[" : ",\"single\":[");
        for (int half = 0; half <= two; half++) {
            for (int i = 0; i < x->n_before; i++) {
                lm_str_puts(s, half || i ? ",{\"SpecialToken\":{\"id\":" : "{\"SpecialToken\":{\"id\":");
                token_json(t, x->before[i], s);
                lm_str_printf(s, ",\"type_id\":%d}}", half);
            }
            lm_str_printf(s, "%s{\"Sequence\":{\"id\":\"%s\",\"type_id\":%d}}", half || x->n_before ? "," : "", half ? "B" : "A", half);
            for (int i = 0; i < x->n_after; i++) {
                lm_str_puts(s, ",{\"SpecialToken\":{\"id\":");
                token_json(t, x->after[i], s);
                lm_str_printf(s, ",\"type_id\":%d}}", half);
            }
        }
    }
    lm_str_puts(s, "],\"special_tokens\":{");
    bool first = true;
    for (int i = 0; i < x->n_before + x->n_after; i++) {
        int32_t id = i < x->n_before ? x->before[i] : x->after[i - x->n_before];
        bool again = false;
        for (int k = 0; k < i; k++) again |= (k < x->n_before ? x->before[k] : x->after[k - x->n_before]) == id;
        if (again) continue;
        if (!first) lm_str_putc(s, ',');
        first = false;
        token_json(t, id, s);
        lm_str_puts(s, ":{\"id\":");
        token_json(t, id, s);
        lm_str_printf(s, ",\"ids\":[%d],\"tokens\":[", id);
        token_json(t, id, s);
        lm_str_puts(s, "]}");
    }
    lm_str_puts(s, "}}");
    return lm_str_err(s);
}

lm_err lm_tok_post_template(lm_tok *t, int32_t bos, int32_t eos, char **out) {
    if (bos < 0 && eos < 0) { *out = lm_strdup(t->ctx, LM_MEM_TOK, "null"); return *out ? LM_OK : LM_E_NOMEM; }
    adds x = { .n_before = bos >= 0, .n_after = eos >= 0 };
    x.before[0] = bos;
    x.after[0] = eos;
    lm_str s = { .ctx = t->ctx };
    lm_err err = write_template(t, &x, &s);
    if (!err && !(*out = lm_strdup(t->ctx, LM_MEM_TOK, s.p))) err = LM_E_NOMEM;
    lm_str_free(&s);
    return err;
}

static lm_err keep(lm_tok *t, const int32_t *id, int n, int32_t **to, int *to_n) {
    if (!n) return LM_OK;
    if (!(*to = lm_alloc(t->ctx, LM_MEM_TOK, (size_t)n * sizeof **to))) return LM_E_NOMEM;
    memcpy(*to, id, (size_t)n * sizeof *id);
    *to_n = n;
    return LM_OK;
}

/* want: 1 yes, -1 no, 0 as it is. */
static lm_err force(lm_tok *t, const char *what, int want, int32_t id, int32_t *list, int *n, bool front, bool *changed) {
    int at = front ? 0 : *n - 1;
    bool there = *n && id >= 0 && list[at] == id;
    if (!want || there == (want > 0) || (want < 0 && !there)) return LM_OK;
    *changed = true;
    if (want < 0) {
        if (front) memmove(list, list + 1, (size_t)(*n - 1) * sizeof *list);
        --*n;
        return LM_OK;
    }
    if (id < 0) return lm_fail(t->ctx, LM_E_CONFIG, "%s: %s is to be added, but the tokenizer has none", t->name, what);
    if (*n == MAX_ADD) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: more than %d tokens are added", t->name, MAX_ADD);
    if (front) memmove(list + 1, list, (size_t)*n * sizeof *list);
    list[front ? 0 : *n] = id;
    ++*n;
    return LM_OK;
}

lm_err lm_tok_compile_post(lm_tok *t, const lm_tok_opts *opts) {
    char name[600];
    snprintf(name, sizeof name, "%.500s: post_processor", t->name);
    adds x = { 0 };
    json_t *v;
    LM_TRY(lm_json_parse(t->ctx, name, t->json_post, strlen(t->json_post), LM_JSON_ALLOW_NUL, &v));
    lm_jv root = lm_json_root(t->ctx, name, v);
    lm_err err = json_is_null(v) ? LM_OK : post_step(t, &root, &x, 0);
    lm_json_free(v);
    LM_TRY(err);
    if (t->bos < 0 && x.n_before) t->bos = x.before[0];
    if (!t->n_eos) lm_tok_guess_ends(t);
    bool changed = false;
    LM_TRY(force(t, "BOS", opts && opts->add_bos ? opts->add_bos : t->add_bos_said, t->bos, x.before, &x.n_before, true, &changed));
    LM_TRY(force(t, "EOS", opts && opts->add_eos ? opts->add_eos : t->add_eos_said, t->n_eos ? t->eos[0] : -1, x.after, &x.n_after, false, &changed));
    if (changed) {
        lm_str s = { .ctx = t->ctx };
        if (!x.n_before && !x.n_after) lm_str_puts(&s, "null");
        else err = write_template(t, &x, &s);
        char *c = err || s.bad ? NULL : lm_strdup(t->ctx, LM_MEM_TOK, s.p);
        lm_str_free(&s);
        if (!c) return err ? err : LM_E_NOMEM;
        lm_free(t->ctx, t->json_post);
        t->json_post = c;
    }
    LM_TRY(keep(t, x.before, x.n_before, &t->prefix, &t->n_prefix));
    return keep(t, x.after, x.n_after, &t->suffix, &t->n_suffix);
}

void lm_tok_guess_ends(lm_tok *t) {
    static const char *const names[] = { "</s>", "<|end_of_text|>", "<|endoftext|>", "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<eos>",
        "<\xef\xbd\x9c\x65nd\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        int32_t id = lm_tok_id(t, names[i], strlen(names[i]));
        if (id >= 0 && t->tok[id].type == LM_TOK_CONTROL) (void)lm_tok_add_eos(t, id);   /* fewer names than room */
    }
}
