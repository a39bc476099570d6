/* pipeline.c — the pipeline's JSON compiled to steps: normalizers, pre-tokenizers, decoders.
 *
 * The vocabulary of types is Hugging Face's. A type or an option that is not here is refused by name. */
#include "format/json.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"
#include <stdio.h>

void lm_tok_pipeline_free(lm_tok *t) {
    for (int i = 0; i < t->n_norm; i++) {
        lm_free(t->ctx, t->norm[i].a);
        lm_free(t->ctx, t->norm[i].b);
        lm_regex_free(t->norm[i].re);
    }
    for (int i = 0; i < t->n_pre; i++) {
        lm_free(t->ctx, t->pre[i].s);
        lm_regex_free(t->pre[i].re);
    }
    lm_free(t->ctx, t->norm);
    lm_free(t->ctx, t->pre);
    lm_free(t->ctx, t->dec_from);
    lm_free(t->ctx, t->dec_to);
    t->norm = NULL; t->pre = NULL; t->dec_from = t->dec_to = NULL;
    t->n_norm = t->n_pre = 0;
}

static lm_err copy(lm_tok *t, const char *s, size_t n, char **out, size_t *out_n) {
    char *c = lm_alloc(t->ctx, LM_MEM_TOK, n + 1);
    if (!c) return LM_E_NOMEM;
    memcpy(c, s, n);
    c[n] = 0;
    lm_free(t->ctx, *out);
    *out = c;
    if (out_n) *out_n = n;
    return LM_OK;
}

static lm_err unknown_type(const lm_jv *o, const char *what, const char *type) {
    return lm_json_fail(o, LM_E_UNSUPPORTED, "%s \"%s\" is not supported, and leaving it out would give other ids", what, type);
}

/* {"String": s} or {"Regex": r} */
static lm_err pattern(const lm_jv *o, const char **s, size_t *n, bool *is_regex) {
    lm_jv p;
    LM_TRY(lm_json_get(o, "pattern", LM_JSON_NEED, &p));
    if (json_is_string(p.v)) { *is_regex = false; LM_TRY(lm_json_as_str(&p, s, n)); }
    else {
        const char *r;
        size_t rn;
        LM_TRY(lm_json_str(&p, "String", LM_JSON_OPT, NULL, s, n));
        LM_TRY(lm_json_str(&p, "Regex", LM_JSON_OPT, NULL, &r, &rn));
        if (!*s == !r) return lm_json_fail(&p, LM_E_FORMAT, "wanted either String or Regex");
        *is_regex = r != NULL;
        if (r) { *s = r; *n = rn; }
    }
    return *n ? LM_OK : lm_json_fail(&p, LM_E_UNSUPPORTED, "an empty pattern");
}

static lm_err behavior(const lm_jv *o, lm_json_mode m, lm_split_how *how) {
    static const char *const names[] = { "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous" };
    const char *s;
    LM_TRY(lm_json_str(o, "behavior", m, "Isolated", &s, NULL));
    for (int i = 0; i < LM_COUNT(names); i++)
        if (!strcmp(s, names[i])) { *how = (lm_split_how)i; return LM_OK; }
    return lm_json_fail(o, LM_E_UNSUPPORTED, "behavior \"%s\"", s);
}

/* ---- normalizers ---- */
enum { MAX_STEPS = 64 };
static lm_err add_norm(lm_tok *t, lm_tok_norm **out) {
    if (t->n_norm == MAX_STEPS) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: more than %d normalizers", t->name, MAX_STEPS);
    if (!t->norm && !(t->norm = lm_calloc(t->ctx, LM_MEM_TOK, MAX_STEPS, sizeof *t->norm))) return LM_E_NOMEM;
    *out = &t->norm[t->n_norm++];
    return LM_OK;
}

/* Its four parts, in its order; accents are stripped where letters are lowered, unless it says otherwise. */
static lm_err norm_bert(lm_tok *t, const lm_jv *o) {
    bool clean, chinese, low, accents;
    lm_tok_norm *m = NULL;
    LM_TRY(lm_json_bool(o, "clean_text", LM_JSON_OPT, true, &clean));
    LM_TRY(lm_json_bool(o, "handle_chinese_chars", LM_JSON_OPT, true, &chinese));
    LM_TRY(lm_json_bool(o, "lowercase", LM_JSON_OPT, true, &low));
    LM_TRY(lm_json_bool(o, "strip_accents", LM_JSON_OPT, low, &accents));
    if (clean || chinese) { LM_TRY(add_norm(t, &m)); m->kind = LM_NORM_CLEAN; m->left = clean; m->right = chinese; }
    if (accents) {
        LM_TRY(add_norm(t, &m)); m->kind = LM_NORM_NFD;
        LM_TRY(add_norm(t, &m)); m->kind = LM_NORM_UNMARK;
    }
    if (low) { LM_TRY(add_norm(t, &m)); m->kind = LM_NORM_LOWER; }
    return LM_OK;
}
static lm_err norm_step(lm_tok *t, const lm_jv *o, int depth) {
    static const struct { const char *name; lm_norm_kind kind; } plain[] = {
        { "NFC", LM_NORM_NFC }, { "NFD", LM_NORM_NFD }, { "NFKC", LM_NORM_NFKC }, { "NFKD", LM_NORM_NFKD }, { "ByteLevel", LM_NORM_BYTES } };
    const char *type;
    LM_TRY(lm_json_str(o, "type", LM_JSON_NEED, NULL, &type, NULL));
    if (!strcmp(type, "Sequence")) {
        lm_jv a, item;
        if (depth > 8) return lm_json_fail(o, LM_E_UNSUPPORTED, "sequences nested too deeply");
        LM_TRY(lm_json_arr(o, "normalizers", LM_JSON_NEED, &a));
        for (size_t i = 0; i < lm_json_len(&a); i++) {
            LM_TRY(lm_json_item(&a, i, &item));
            LM_TRY(norm_step(t, &item, depth + 1));
        }
        return LM_OK;
    }
    lm_tok_norm *m = NULL;
    for (int i = 0; i < LM_COUNT(plain); i++)
        if (!strcmp(type, plain[i].name)) {
            LM_TRY(add_norm(t, &m));
            m->kind = plain[i].kind;
            return LM_OK;
        }
    const char *s;
    size_t n;
    if (!strcmp(type, "Prepend")) {
        LM_TRY(lm_json_str(o, "prepend", LM_JSON_NEED, NULL, &s, &n));
        LM_TRY(add_norm(t, &m));
        m->kind = LM_NORM_PREPEND;
        return copy(t, s, n, &m->a, &m->a_n);
    }
    if (!strcmp(type, "Strip")) {
        LM_TRY(add_norm(t, &m));
        m->kind = LM_NORM_STRIP;
        LM_TRY(lm_json_bool(o, "strip_left", LM_JSON_NEED, false, &m->left));
        return lm_json_bool(o, "strip_right", LM_JSON_NEED, false, &m->right);
    }
    if (!strcmp(type, "Replace")) {
        bool re;
        const char *by;
        size_t by_n;
        LM_TRY(pattern(o, &s, &n, &re));
        LM_TRY(lm_json_str(o, "content", LM_JSON_NEED, NULL, &by, &by_n));
        LM_TRY(add_norm(t, &m));
        m->kind = LM_NORM_REPLACE;
        LM_TRY(copy(t, by, by_n, &m->b, &m->b_n));
        return re ? lm_regex_new(t->ctx, s, n, &m->re) : copy(t, s, n, &m->a, &m->a_n);
    }
    if (!strcmp(type, "Lowercase")) {
        LM_TRY(add_norm(t, &m));
        m->kind = LM_NORM_LOWER;
        return LM_OK;
    }
    if (!strcmp(type, "BertNormalizer")) return norm_bert(t, o);
    return unknown_type(o, "normalizer", type);
}

/* ---- pre-tokenizers ---- */
static lm_err add_pre(lm_tok *t, lm_pre_kind kind, lm_tok_pre **out) {
    if (t->n_pre == MAX_STEPS) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: more than %d pre-tokenizers", t->name, MAX_STEPS);
    if (!t->pre && !(t->pre = lm_calloc(t->ctx, LM_MEM_TOK, MAX_STEPS, sizeof *t->pre))) return LM_E_NOMEM;
    *out = &t->pre[t->n_pre++];
    (*out)->kind = kind;
    return LM_OK;
}

static lm_err pre_split(lm_tok *t, const lm_jv *o) {
    const char *s;
    size_t n;
    bool re;
    lm_tok_pre *m = NULL;
    LM_TRY(pattern(o, &s, &n, &re));
    LM_TRY(add_pre(t, LM_PRE_STRING, &m));
    LM_TRY(behavior(o, LM_JSON_NEED, &m->how));
    LM_TRY(lm_json_bool(o, "invert", LM_JSON_OPT, false, &m->invert));
    if (!re) return copy(t, s, n, &m->s, &m->n);
    const lm_split_row *row = strlen(s) == n ? lm_split_by_pattern(s) : NULL;
    if (row) { m->kind = LM_PRE_KNOWN; m->fn = row->fn; return LM_OK; }
    m->kind = LM_PRE_REGEX;
    return lm_regex_new(t->ctx, s, n, &m->re);
}

static lm_err pre_meta(lm_tok *t, const lm_jv *o) {
    const char *s, *scheme;
    size_t n;
    bool add;
    lm_tok_pre *m = NULL;
    LM_TRY(add_pre(t, LM_PRE_META, &m));
    m->how = LM_SPLIT_NEXT;
    LM_TRY(lm_json_str(o, "replacement", LM_JSON_OPT, "\xe2\x96\x81", &s, &n));
    LM_TRY(lm_json_str(o, "prepend_scheme", LM_JSON_OPT, "always", &scheme, NULL));
    LM_TRY(lm_json_bool(o, "add_prefix_space", LM_JSON_OPT, true, &add));
    LM_TRY(lm_json_bool(o, "split", LM_JSON_OPT, true, &m->split));
    if (!n) return lm_json_fail(o, LM_E_FORMAT, "replacement is empty");
    bool never = !strcmp(scheme, "never");
    m->prefix_first = !strcmp(scheme, "first");
    if (!never && !m->prefix_first && strcmp(scheme, "always")) return lm_json_fail(o, LM_E_UNSUPPORTED, "prepend_scheme \"%s\"", scheme);
    m->prefix = add && !never;
    return copy(t, s, n, &m->s, &m->n);
}

static lm_err pre_step(lm_tok *t, const lm_jv *o, int depth) {
    const char *type;
    LM_TRY(lm_json_str(o, "type", LM_JSON_NEED, NULL, &type, NULL));
    lm_tok_pre *m = NULL;
    if (!strcmp(type, "Sequence")) {
        lm_jv a, item;
        if (depth > 8) return lm_json_fail(o, LM_E_UNSUPPORTED, "sequences nested too deeply");
        LM_TRY(lm_json_arr(o, "pretokenizers", LM_JSON_NEED, &a));
        for (size_t i = 0; i < lm_json_len(&a); i++) {
            LM_TRY(lm_json_item(&a, i, &item));
            LM_TRY(pre_step(t, &item, depth + 1));
        }
        return LM_OK;
    }
    if (!strcmp(type, "Split")) return pre_split(t, o);
    if (!strcmp(type, "Metaspace")) return pre_meta(t, o);
    if (!strcmp(type, "WhitespaceSplit")) {
        LM_TRY(add_pre(t, LM_PRE_SPACE, &m));
        m->how = LM_SPLIT_REMOVED;
        return LM_OK;
    }
    if (!strcmp(type, "BertPreTokenizer")) {
        LM_TRY(add_pre(t, LM_PRE_SPACE, &m));
        m->how = LM_SPLIT_REMOVED;
        LM_TRY(add_pre(t, LM_PRE_PUNCT, &m));
        m->how = LM_SPLIT_ISOLATED;
        return LM_OK;
    }
    if (!strcmp(type, "Whitespace")) return add_pre(t, LM_PRE_WORDS, &m);
    if (!strcmp(type, "Punctuation")) {
        LM_TRY(add_pre(t, LM_PRE_PUNCT, &m));
        return behavior(o, LM_JSON_OPT, &m->how);
    }
    if (!strcmp(type, "Digits")) {
        bool each;
        LM_TRY(add_pre(t, LM_PRE_DIGITS, &m));
        LM_TRY(lm_json_bool(o, "individual_digits", LM_JSON_OPT, false, &each));
        m->how = each ? LM_SPLIT_ISOLATED : LM_SPLIT_CONTIGUOUS;
        return LM_OK;
    }
    if (!strcmp(type, "ByteLevel")) {
        bool re;
        LM_TRY(add_pre(t, LM_PRE_BYTES, &m));
        LM_TRY(lm_json_bool(o, "add_prefix_space", LM_JSON_OPT, true, &m->prefix));
        LM_TRY(lm_json_bool(o, "use_regex", LM_JSON_OPT, true, &re));
        m->how = LM_SPLIT_ISOLATED;
        if (re) m->fn = lm_split_by_name("gpt2")->fn;
        return LM_OK;
    }
    return unknown_type(o, "pre-tokenizer", type);
}

/* Where the byte alphabet begins, and whether all the splitting is one known pattern. */
static lm_err byte_steps(lm_tok *t) {
    bool norm = false;
    int at = -1;
    for (int i = 0; i < t->n_norm; i++) norm |= t->norm[i].kind == LM_NORM_BYTES;
    for (int i = 0; i < t->n_pre; i++) {
        if (t->pre[i].kind != LM_PRE_BYTES) continue;
        if (at >= 0 || norm) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: ByteLevel stands twice in the pipeline", t->name);
        at = i;
    }
    t->byte_level = norm || at >= 0;
    t->map_at = norm ? -1 : at >= 0 && at < t->n_pre - 1 ? at : t->n_pre;
    t->fast = NULL;
    const lm_tok_pre *a = t->n_pre ? &t->pre[0] : NULL, *b = t->n_pre > 1 ? &t->pre[1] : NULL;
    if (norm || t->n_pre > 2 || !a) return LM_OK;
    bool known = a->kind == LM_PRE_KNOWN && a->how == (a->invert ? LM_SPLIT_REMOVED : LM_SPLIT_ISOLATED);
    bool bare = b && b->kind == LM_PRE_BYTES && !b->prefix && !b->fn;
    if (a->kind == LM_PRE_BYTES && !b && !a->prefix && a->fn) t->fast = a->fn;
    else if (known && (!b || bare)) t->fast = a->fn;
    return LM_OK;
}

/* ---- decoders ---- */
typedef struct { bool bytes, fallback, fused; } decoding;
static lm_err dec_step(lm_tok *t, const lm_jv *o, decoding *d, int depth) {
    const char *type, *s;
    size_t n;
    LM_TRY(lm_json_str(o, "type", LM_JSON_NEED, NULL, &type, NULL));
    if (!strcmp(type, "Sequence")) {
        lm_jv a, item;
        if (depth > 8) return lm_json_fail(o, LM_E_UNSUPPORTED, "sequences nested too deeply");
        LM_TRY(lm_json_arr(o, "decoders", LM_JSON_NEED, &a));
        for (size_t i = 0; i < lm_json_len(&a); i++) {
            LM_TRY(lm_json_item(&a, i, &item));
            LM_TRY(dec_step(t, &item, d, depth + 1));
        }
        return LM_OK;
    }
    if (!strcmp(type, "ByteLevel")) { d->bytes = d->fused = true; return LM_OK; }
    if (!strcmp(type, "ByteFallback")) { d->fallback = true; return LM_OK; }
    if (!strcmp(type, "Fuse")) { d->fused = true; return LM_OK; }
    if (!strcmp(type, "Replace")) {
        bool re;
        const char *by;
        size_t by_n;
        LM_TRY(pattern(o, &s, &n, &re));
        LM_TRY(lm_json_str(o, "content", LM_JSON_NEED, NULL, &by, &by_n));
        if (re || t->dec_from || d->fused || memchr(s, 0, n) || memchr(by, 0, by_n))
            return lm_json_fail(o, LM_E_UNSUPPORTED, "only one Replace of a String, before Fuse, is supported in a decoder");
        LM_TRY(copy(t, s, n, &t->dec_from, NULL));
        return copy(t, by, by_n, &t->dec_to, NULL);
    }
    if (!strcmp(type, "Metaspace")) {
        const char *scheme;
        bool add;
        LM_TRY(lm_json_str(o, "replacement", LM_JSON_OPT, "\xe2\x96\x81", &s, NULL));
        LM_TRY(lm_json_str(o, "prepend_scheme", LM_JSON_OPT, "always", &scheme, NULL));
        LM_TRY(lm_json_bool(o, "add_prefix_space", LM_JSON_OPT, true, &add));
        if (t->dec_from || !*s) return lm_json_fail(o, LM_E_UNSUPPORTED, "Metaspace beside a Replace");
        t->strip_first = add && strcmp(scheme, "never");
        LM_TRY(copy(t, s, strlen(s), &t->dec_from, NULL));
        return copy(t, " ", 1, &t->dec_to, NULL);
    }
    if (!strcmp(type, "WordPiece")) {
        LM_TRY(lm_json_str(o, "prefix", LM_JSON_OPT, "##", &s, NULL));
        LM_TRY(lm_json_bool(o, "cleanup", LM_JSON_OPT, true, &t->wp_cleanup));
        if (!t->wp_prefix || strcmp(s, t->wp_prefix) || d->fused) return lm_json_fail(o, LM_E_UNSUPPORTED, "a WordPiece decoder with another model or prefix");
        t->strip_first = true;
        return LM_OK;
    }
    if (!strcmp(type, "Strip")) {
        int64_t start, stop;
        LM_TRY(lm_json_str(o, "content", LM_JSON_NEED, NULL, &s, NULL));
        LM_TRY(lm_json_int(o, "start", LM_JSON_OPT, 0, 0, INT32_MAX, &start));
        LM_TRY(lm_json_int(o, "stop", LM_JSON_OPT, 0, 0, INT32_MAX, &stop));
        if (strcmp(s, " ") || start > 1 || stop || !d->fused || t->strip_first)
            return lm_json_fail(o, LM_E_UNSUPPORTED, "only a Strip of one leading space, after Fuse, is supported in a decoder");
        t->strip_first = start == 1;
        return LM_OK;
    }
    return unknown_type(o, "decoder", type);
}

typedef lm_err part_fn(lm_tok *t, const lm_jv *o, void *ud);
static lm_err each(lm_tok *t, const char *what, const char *text, part_fn *fn, void *ud) {
    char name[600];
    snprintf(name, sizeof name, "%.500s: %s", t->name, what);
    json_t *v;
    LM_TRY(lm_json_parse(t->ctx, name, text, strlen(text), LM_JSON_ALLOW_NUL, &v));
    lm_jv root = lm_json_root(t->ctx, name, v);
    lm_err err = json_is_null(v) ? LM_OK : fn(t, &root, ud);
    lm_json_free(v);
    return err;
}
static lm_err norm_part(lm_tok *t, const lm_jv *o, void *ud) { (void)ud; return norm_step(t, o, 0); }
static lm_err pre_part(lm_tok *t, const lm_jv *o, void *ud) { (void)ud; return pre_step(t, o, 0); }
static lm_err dec_part(lm_tok *t, const lm_jv *o, void *ud) { return dec_step(t, o, ud, 0); }

lm_err lm_tok_compile(lm_tok *t) {
    decoding d = { false, false, false };
    LM_TRY(each(t, "normalizer", t->json_norm, norm_part, NULL));
    LM_TRY(each(t, "pre_tokenizer", t->json_pre, pre_part, NULL));
    LM_TRY(byte_steps(t));
    LM_TRY(each(t, "decoder", t->json_dec, dec_part, &d));
    if (strcmp(t->json_dec, "null") && d.bytes != t->byte_level)
        return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: ByteLevel stands in the %s but not in the %s",
            t->name, d.bytes ? "decoder" : "pre-tokenizer", d.bytes ? "pre-tokenizer" : "decoder");
    if (t->byte_level && (t->dec_from || t->strip_first))
        return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: a decoder that does more than ByteLevel", t->name);
    return LM_OK;
}
