/* wordpiece.c — BERT's tokenizer: the rules of its BasicTokenizer, WordPiece's longest match, and vocab.txt.
 *
 * A text is cleaned (control characters dropped, every white space a blank), blanks are put around CJK ideographs, accents are stripped (NFD without
 * nonspacing marks), letters lowered; words end at white space, and every punctuation character is one. A word becomes the longest token it begins
 * with, then the longest one with "##" before it, and so on; a word that cannot be covered, or is longer than max_chars, is the unknown token.
 * Categories are those of the library of record, whose table is Unicode 8's: the ranges below are where it differs from ours. */
#include "base/file.h"
#include "format/json.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"
#include <stdio.h>
#include <utf8proc.h>

typedef struct { uint32_t lo, hi; } range;
static const range marks[] = {                             /* nonspacing marks there and not here, or the reverse */
    { 0x7fd, 0x7fd }, { 0x897, 0x89f }, { 0x8ca, 0x8e1 }, { 0x9fe, 0x9fe }, { 0xafa, 0xaff }, { 0xb55, 0xb55 }, { 0xc04, 0xc04 }, { 0xc3c, 0xc3c },
    { 0xd00, 0xd00 }, { 0xd3b, 0xd3c }, { 0xd81, 0xd81 }, { 0xeba, 0xeba }, { 0xece, 0xece }, { 0x1734, 0x1734 }, { 0x180f, 0x180f }, { 0x1885, 0x1886 },
    { 0x1abf, 0x1ace }, { 0x1df6, 0x1dfb }, { 0xa82c, 0xa82c }, { 0xa8c5, 0xa8c5 }, { 0xa8ff, 0xa8ff }, { 0xa9bd, 0xa9bd }, { 0x10d24, 0x10d27 },
    { 0x10d69, 0x10d6d }, { 0x10eab, 0x10eac }, { 0x10efc, 0x10eff }, { 0x10f46, 0x10f50 }, { 0x10f82, 0x10f85 }, { 0x11070, 0x11070 },
    { 0x11073, 0x11074 }, { 0x110c2, 0x110c2 }, { 0x111c9, 0x111c9 }, { 0x111cf, 0x111cf }, { 0x1123e, 0x1123e }, { 0x11241, 0x11241 },
    { 0x1133b, 0x1133b }, { 0x113bb, 0x113c0 }, { 0x113ce, 0x113ce }, { 0x113d0, 0x113d0 }, { 0x113d2, 0x113d2 }, { 0x113e1, 0x113e2 },
    { 0x11438, 0x1143f }, { 0x11442, 0x11444 }, { 0x11446, 0x11446 }, { 0x1145e, 0x1145e }, { 0x1171e, 0x1171e }, { 0x1182f, 0x11837 },
    { 0x11839, 0x1183a }, { 0x1193b, 0x1193c }, { 0x1193e, 0x1193e }, { 0x11943, 0x11943 }, { 0x119d4, 0x119d7 }, { 0x119da, 0x119db },
    { 0x119e0, 0x119e0 }, { 0x11a01, 0x11a0a }, { 0x11a33, 0x11a38 }, { 0x11a3b, 0x11a3e }, { 0x11a47, 0x11a47 }, { 0x11a51, 0x11a56 },
    { 0x11a59, 0x11a5b }, { 0x11a8a, 0x11a96 }, { 0x11a98, 0x11a99 }, { 0x11c30, 0x11c36 }, { 0x11c38, 0x11c3d }, { 0x11c3f, 0x11c3f },
    { 0x11c92, 0x11ca7 }, { 0x11caa, 0x11cb0 }, { 0x11cb2, 0x11cb3 }, { 0x11cb5, 0x11cb6 }, { 0x11d31, 0x11d36 }, { 0x11d3a, 0x11d3a },
    { 0x11d3c, 0x11d3d }, { 0x11d3f, 0x11d45 }, { 0x11d47, 0x11d47 }, { 0x11d90, 0x11d91 }, { 0x11d95, 0x11d95 }, { 0x11d97, 0x11d97 },
    { 0x11ef3, 0x11ef4 }, { 0x11f00, 0x11f01 }, { 0x11f36, 0x11f3a }, { 0x11f40, 0x11f40 }, { 0x11f42, 0x11f42 }, { 0x11f5a, 0x11f5a },
    { 0x13440, 0x13440 }, { 0x13447, 0x13455 }, { 0x1611e, 0x16129 }, { 0x1612d, 0x1612f }, { 0x16f4f, 0x16f4f }, { 0x16fe4, 0x16fe4 },
    { 0x1cf00, 0x1cf2d }, { 0x1cf30, 0x1cf46 }, { 0x1e000, 0x1e006 }, { 0x1e008, 0x1e018 }, { 0x1e01b, 0x1e021 }, { 0x1e023, 0x1e024 },
    { 0x1e026, 0x1e02a }, { 0x1e08f, 0x1e08f }, { 0x1e130, 0x1e136 }, { 0x1e2ae, 0x1e2ae }, { 0x1e2ec, 0x1e2ef }, { 0x1e4ec, 0x1e4ef },
    { 0x1e5ee, 0x1e5ef }, { 0x1e944, 0x1e94a }, };
static const range puncts[] = {                            /* the same of punctuation */
    { 0x61d, 0x61d }, { 0x9fd, 0x9fd }, { 0xa76, 0xa76 }, { 0xc77, 0xc77 }, { 0xc84, 0xc84 }, { 0x166d, 0x166d }, { 0x1b4e, 0x1b4f }, { 0x1b7d, 0x1b7f },
    { 0x2e43, 0x2e4f }, { 0x2e52, 0x2e5d }, { 0x10d6e, 0x10d6e }, { 0x10ead, 0x10ead }, { 0x10f55, 0x10f59 }, { 0x10f86, 0x10f89 }, { 0x111c9, 0x111c9 },
    { 0x113d4, 0x113d5 }, { 0x113d7, 0x113d8 }, { 0x1144b, 0x1144f }, { 0x1145a, 0x1145b }, { 0x1145d, 0x1145d }, { 0x11660, 0x1166c },
    { 0x116b9, 0x116b9 }, { 0x1183b, 0x1183b }, { 0x11944, 0x11946 }, { 0x119e2, 0x119e2 }, { 0x11a3f, 0x11a46 }, { 0x11a9a, 0x11a9c },
    { 0x11a9e, 0x11aa2 }, { 0x11b00, 0x11b09 }, { 0x11be1, 0x11be1 }, { 0x11c41, 0x11c45 }, { 0x11c70, 0x11c71 }, { 0x11ef7, 0x11ef8 },
    { 0x11f43, 0x11f4f }, { 0x11fff, 0x11fff }, { 0x12ff1, 0x12ff2 }, { 0x16d6d, 0x16d6f }, { 0x16e97, 0x16e9a }, { 0x16fe2, 0x16fe2 },
    { 0x1e5ff, 0x1e5ff }, { 0x1e95e, 0x1e95f }, };
/* Format characters that are kept. */
static const range kept[] = { { 0x890, 0x891 }, { 0x8e2, 0x8e2 }, { 0x110cd, 0x110cd }, { 0x13430, 0x1343f } };
static const range cjk[] = { { 0x3400, 0x4dbf },   { 0x4e00, 0x9fff },   { 0xf900, 0xfaff },  { 0x20000, 0x2a6df },
                             { 0x2a700, 0x2b81f }, { 0x2b920, 0x2ceaf }, { 0x2f800, 0x2fa1f } };
/* Lower case given after utf8proc's Unicode 15: [lo, hi] become + add. */
static const struct { uint32_t lo, hi; int32_t add; } lowers[] = {
    { 0x1c89, 0x1c89, 1 }, { 0xa7cb, 0xa7cb, 0x264 - 0xa7cb }, { 0xa7cc, 0xa7cc, 1 },       { 0xa7ce, 0xa7ce, 1 },         { 0xa7d2, 0xa7d2, 1 },
    { 0xa7d4, 0xa7d4, 1 }, { 0xa7da, 0xa7da, 1 },              { 0xa7dc, 0xa7dc, 0x19b - 0xa7dc }, { 0x10d50, 0x10d65, 0x20 }, { 0x16ea0, 0x16eb8, 0x1b } };
static bool in(const range *r, int n, uint32_t c) {
    int lo = 0, hi = n;
    while (lo < hi) { int mid = (lo + hi) / 2; if (r[mid].hi < c) lo = mid + 1; else hi = mid; }
    return lo < n && r[lo].lo <= c;
}
#define IN(r, c) in(r, LM_COUNT(r), c)
bool lm_uc_punct8(uint32_t c) {
    if (c < 0x80) return c > 32 && c < 127 && !((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z'));
    return lm_uc_in(c, LM_UC_SET_P) != IN(puncts, c);
}
static bool dropped(uint32_t c) {
    const unsigned cat = lm_uc_cat(c);
    return c == 0xfffd || cat == LM_UC_CC || cat == LM_UC_CO || (cat == LM_UC_CF && !IN(kept, c));
}
static uint32_t lower(uint32_t c) {
    for (int i = 0; c >= 0x1c89 && i < LM_COUNT(lowers); i++) if (c >= lowers[i].lo && c <= lowers[i].hi) return (uint32_t)((int32_t)c + lowers[i].add);
    return (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
}
static void put(lm_str *o, uint32_t c) { uint8_t b[4]; lm_str_add(o, b, (size_t)lm_utf8_put(c, b)); }
void lm_bert_clean(const uint8_t *p, size_t n, bool clean, bool chinese, lm_str *o) {
    int k;
    for (size_t i = 0; i < n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get(p + i, &k);
        const bool space = clean && (c == '\t' || c == '\n' || c == '\r' || lm_uc_space(c)), wide = chinese && IN(cjk, c);
        if (clean && c != '\t' && c != '\n' && c != '\r' && dropped(c)) continue;               /* also white space that is a control character: U+0085 */
        if (space) { lm_str_putc(o, ' '); continue; }
        if (wide) lm_str_putc(o, ' ');
        lm_str_add(o, p + i, (size_t)k);
        if (wide) lm_str_putc(o, ' ');
    }
}
void lm_bert_unmark(const uint8_t *p, size_t n, lm_str *o) {
    int k;
    for (size_t i = 0; i < n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get(p + i, &k);
        if (c < 0x300 || (lm_uc_cat(c) == LM_UC_MN) == IN(marks, c)) lm_str_add(o, p + i, (size_t)k);
    }
}
void lm_lower_run(const uint8_t *p, size_t n, lm_str *o) {
    int k;
    for (size_t i = 0; i < n; i += (size_t)k) {
        const uint32_t c = lm_utf8_get(p + i, &k);
        if (c < 0x80) lm_str_putc(o, (char)(c >= 'A' && c <= 'Z' ? c + 32 : c));
        else if (c == 0x130) lm_str_add(o, "i\xcc\x87", 3);                                       /* the one that becomes two */
        else put(o, lower(c));
    }
}

/* ---- a word ---- */
lm_err lm_wordpiece(const lm_tok *t, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_buf *out) {
    const size_t was = out->n, prefix = strlen(t->wp_prefix);
    size_t chars = 0;
    for (size_t i = 0; i < n; i++) chars += (p[i] & 0xc0) != 0x80;
    char few[256], *buf = few;
    if (chars > (size_t)t->wp_max_chars) goto unknown;
    if (n + prefix > sizeof few && !(buf = lm_alloc(ctx, LM_MEM_TOK, n + prefix))) return LM_E_NOMEM;
    memcpy(buf, t->wp_prefix, prefix);
    for (size_t start = 0, end; start < n; start = end) {
        int32_t id = -1;
        for (end = n; end > start; end = (size_t)(lm_utf8_prev(p + start, p + end) - p)) {
            if (!start) id = lm_tok_find_text(t, p, end);
            else { memcpy(buf + prefix, p + start, end - start); id = lm_tok_find_text(t, buf, prefix + end - start); }
            if (id >= 0 && t->tok[id].model) break;
            id = -1;
        }
        if (id < 0) { out->n = was; if (buf != few) lm_free(ctx, buf); goto unknown; }
        out->id[out->n++] = id;
    }
    if (buf != few) lm_free(ctx, buf);
    return LM_OK;
unknown:
    if (t->unk < 0) return lm_fail(ctx, LM_E_DATA, "%s: a word is not in the vocabulary, and there is no token for the unknown", t->name);
    out->id[out->n++] = t->unk;
    return LM_OK;
}
/* What a token stands for in a text: "##" means that it continues a word; else a blank is before it, but not before what BERT's decoder joins. */
void lm_wordpiece_piece(const lm_tok *t, const char *s, size_t n, lm_str *o) {
    static const char *const joined[] = { ".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re" };
    const size_t prefix = strlen(t->wp_prefix);
    if (n > prefix && !memcmp(s, t->wp_prefix, prefix)) { lm_str_add(o, s + prefix, n - prefix); return; }
    bool joins = false;
    for (int i = 0; t->wp_cleanup && i < LM_COUNT(joined); i++) joins |= n >= strlen(joined[i]) && !memcmp(s, joined[i], strlen(joined[i]));
    if (!joins) lm_str_putc(o, ' ');
    lm_str_add(o, s, n);
}

/* ---- the pipeline, and files that do not state one ---- */
lm_err lm_tok_bert_pipeline(lm_tok *t, bool lowercase, int strip_accents, bool chinese) {
    static const char *const names[2] = { "[CLS]", "[SEP]" };
    int32_t id[2];
    for (int i = 0; i < 2; i++) {
        id[i] = lm_tok_find_text(t, names[i], 5);
        if (id[i] < 0) return lm_fail(t->ctx, LM_E_FORMAT, "%s: a WordPiece vocabulary without %s", t->name, names[i]);
    }
    if (!t->wp_prefix && !(t->wp_prefix = lm_strdup(t->ctx, LM_MEM_TOK, "##"))) return LM_E_NOMEM;
    t->wp_max_chars = 100;
    char norm[200];
    snprintf(norm, sizeof norm, "{\"type\":\"BertNormalizer\",\"clean_text\":true,\"handle_chinese_chars\":%s,\"strip_accents\":%s,\"lowercase\":%s}",
             chinese ? "true" : "false", !strip_accents ? "null" : strip_accents > 0 ? "true" : "false", lowercase ? "true" : "false");
    char *post;
    LM_TRY(lm_tok_post_template(t, id[0], id[1], &post));
    lm_err err = lm_tok_set_pipeline(t, norm, "{\"type\":\"BertPreTokenizer\"}", post, "{\"type\":\"WordPiece\",\"prefix\":\"##\",\"cleanup\":true}");
    lm_free(t->ctx, post);
    return err;
}
static lm_err special(lm_tok *t) {
    static const char *const names[] = { "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        const int32_t id = lm_tok_find_text(t, names[i], strlen(names[i]));
        if (id < 0) continue;
        LM_TRY(lm_tok_put_added(t, id, names[i], strlen(names[i]), LM_ADDED_SPECIAL));
        if (i == 0) t->pad = id;
        if (i == 1) t->unk = id;
    }
    return LM_OK;
}
/* vocab.txt: a token a line; tokenizer_config.json beside it says whether letters are lowered. */
lm_err lm_tok_load_vocab_txt(lm_tok *t, const char *p, size_t n, const char *dir) {
    int64_t id = 0;
    for (const char *end = p + n, *e; p < end; p = e + 1, id++) {
        e = memchr(p, '\n', (size_t)(end - p));
        if (!e) e = end;
        size_t k = (size_t)(e - p);
        if (k && p[k - 1] == '\r') k--;
        if (id >= LM_TOK_MAX_VOCAB) return lm_fail(t->ctx, LM_E_FORMAT, "%s: more than %d tokens", t->name, LM_TOK_MAX_VOCAB);
        if (k) LM_TRY(lm_tok_put(t, id, p, k, LM_TOK_NORMAL, true));
        else if (e < end - 1) return lm_fail(t->ctx, LM_E_FORMAT, "%s: line %lld is empty", t->name, (long long)id + 1);
    }
    LM_TRY(lm_tok_index_text(t));
    LM_TRY(special(t));
    bool low = true, chinese = true;
    int accents = 0;
    char *path = NULL;
    json_t *v = NULL;
    if (dir) LM_TRY(lm_tok_read_config(t, dir, "tokenizer_config.json", &path, &v));
    lm_err err = LM_OK;
    if (v) {
        lm_jv root = lm_json_root(t->ctx, path, v), a;
        err = lm_json_bool(&root, "do_lower_case", LM_JSON_OPT, true, &low);
        if (!err) err = lm_json_bool(&root, "tokenize_chinese_chars", LM_JSON_OPT, true, &chinese);
        if (!err) err = lm_json_get(&root, "strip_accents", LM_JSON_OPT, &a);
        if (!err && a.v) accents = json_is_true(a.v) ? 1 : -1;
    }
    lm_json_free(v); lm_free(t->ctx, path);
    return err ? err : lm_tok_bert_pipeline(t, low, accents, chinese);
}
