/* test_tok.c — ids against Hugging Face tokenizers and sentencepiece on fixtures; round trips, streams, saving, many at once. */
#include "tok_test.h"
#include <unistd.h>

static const struct { const char *name; bool lossless; const char *kind;
} toks[] = { { "gpt2", true, "byte-level BPE" },   { "llama3", false, "byte-level BPE" },  { "qwen2", false, "byte-level BPE" },
             { "o200k", false, "byte-level BPE" }, { "falcon", false, "byte-level BPE" },  { "bytenorm", false, "byte-level BPE" },
             { "llama2", false, "character BPE" }, { "metaspace", false, "character BPE" } };

static lm_tok *open_(lm_ctx *c, const char *name, const char *ext, const lm_tok_opts *o) {
    char file[64];
    snprintf(file, sizeof file, "%s%s", name, ext);
    lm_tok *t = NULL;
    LM_CHECK_OK(c, lm_tok_open(c, tok_fixture(file), o, &t));
    return t;
}

static void check_ids(lm_ctx *c, const lm_tok *t, const char *name, const json_t *rows, const json_t *strings, unsigned flags) {
    lm_tok_buf b = { .ctx = c };
    int bad = 0;
    for (size_t i = 0; i < json_array_size(rows) && bad < 3; i++) {
        const json_t *s = json_array_get(strings, i);
        b.n = 0;
        LM_CHECK_OK(c, lm_tok_encode(t, json_string_value(s), json_string_length(s), flags, &b));
        bad += !tok_same(&b, json_array_get(rows, i), name, i);
    }
    LM_CHECK(bad == 0);
    lm_tok_buf_free(&b);
}

static void test_hf_ids(void) {
    lm_ctx *c = tok_ctx(1);
    json_t *S = tok_json(c, "strings.json");
    for (int k = 0; k < LM_COUNT(toks); k++) {
        char file[64];
        snprintf(file, sizeof file, "%s.ids.json", toks[k].name);
        json_t *want = tok_json(c, file);
        lm_tok *t = open_(c, toks[k].name, ".json", NULL);
        if (!t) continue;
        LM_CHECK_STR(lm_tok_kind(t), toks[k].kind);
        check_ids(c, t, toks[k].name, json_object_get(want, "ids"), S, LM_TOK_SPECIAL);
        check_ids(c, t, toks[k].name, json_object_get(want, "added"), S, LM_TOK_SPECIAL | LM_TOK_ADD);
        lm_tok_free(t);
        lm_json_free(want);
    }
    lm_json_free(S);
    lm_ctx_free(c);
}

static void test_sentencepiece_ids(void) {
    lm_ctx *c = tok_ctx(1);
    json_t *S = tok_json(c, "strings.json");
    const char *names[] = { "spm", "spm_plain" };
    for (int k = 0; k < 2; k++) {
        char file[64];
        snprintf(file, sizeof file, "%s.ids.json", names[k]);
        json_t *want = tok_json(c, file);
        lm_tok *t = open_(c, names[k], ".model", NULL);
        if (!t) continue;
        LM_CHECK_STR(lm_tok_kind(t), "SentencePiece BPE");
        LM_CHECK(lm_tok_bos(t) == 1 && lm_tok_is_eos(t, 2) && lm_tok_adds_bos(t));
        check_ids(c, t, names[k], json_object_get(want, "ids"), S, 0);
        lm_tok_free(t);
        lm_json_free(want);
    }
    lm_json_free(S);
    lm_ctx_free(c);
}

static void round_trip(lm_ctx *c, const lm_tok *t, const char *p, size_t n, unsigned flags) {
    lm_tok_buf b = { .ctx = c };
    lm_str whole = { .ctx = c }, parts = { .ctx = c };
    LM_CHECK_OK(c, lm_tok_encode(t, p, n, flags, &b));
    LM_CHECK_OK(c, lm_tok_decode(t, b.id, b.n, LM_TOK_SPECIAL, &whole));
    LM_CHECK(whole.n == n && (!n || !memcmp(whole.p, p, n)));
    lm_tok_stream st = lm_tok_stream_begin(t, LM_TOK_SPECIAL);
    for (size_t i = 0; i < b.n; i++) {
        LM_CHECK_OK(c, lm_tok_stream_push(&st, b.id[i], &parts));
        if (flags & LM_TOK_RAW) continue;
        size_t k = parts.n;                                /* what is out must not end inside a character */
        while (k && ((uint8_t)parts.p[k - 1] & 0xc0) == 0x80) k--;
        if (k) {
            uint8_t a = (uint8_t)parts.p[k - 1];
            size_t want = a < 0x80 ? 1 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
            LM_CHECK(parts.n - (k - 1) == want);
        }
    }
    LM_CHECK_OK(c, lm_tok_stream_flush(&st, &parts));
    LM_CHECK(parts.n == whole.n && (!n || !memcmp(parts.p, whole.p, n)));
    lm_str_free(&whole);
    lm_str_free(&parts);
    lm_tok_buf_free(&b);
}

static void test_round_trip(void) {
    lm_ctx *c = tok_ctx(1);
    char text[4096];
    uint64_t seed = 7;
    lm_tok *g = open_(c, "gpt2", ".json", NULL), *l = open_(c, "llama3", ".json", NULL);
    for (int i = 0; g && l && i < 400; i++) {
        size_t n = tok_random_text(&seed, text, (int)(tok_rand(&seed) % 60));
        round_trip(c, g, text, n, LM_TOK_SPECIAL);
        round_trip(c, l, text, n, 0);
        n = tok_rand(&seed) % 80;                          /* any bytes at all */
        for (size_t k = 0; k < n; k++) text[k] = (char)(tok_rand(&seed) >> (i % 3 ? 3 : 60));
        round_trip(c, g, text, n, LM_TOK_RAW);
        round_trip(c, l, text, n, LM_TOK_RAW | LM_TOK_SPECIAL);
    }
    lm_tok_free(g);
    lm_tok_free(l);
    lm_ctx_free(c);
}

static void test_raw_bytes_with_fallback(void) {
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_(c, "llama2", ".json", NULL);
    if (!t) return;
    const char s[] = "ab\xff\xfe c\xe2\x82";
    round_trip(c, t, s, sizeof s - 1, LM_TOK_RAW);
    lm_tok_buf b = { .ctx = c };
    LM_CHECK_ERR(c, lm_tok_encode(t, s, sizeof s - 1, 0, &b), LM_E_DATA, "not UTF-8 at byte 2 (0xff)");
    LM_CHECK(b.n == 0);
    lm_tok_buf_free(&b);
    lm_tok_free(t);
    lm_ctx_free(c);
}

static void test_flags(void) {
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_(c, "llama3", ".json", NULL);
    if (!t) return;
    lm_tok_buf b = { .ctx = c };
    lm_str s = { .ctx = c };
    int32_t bos = lm_tok_id(t, "<|bos|>", 7), eos = lm_tok_id(t, "<|eos|>", 7), tool = lm_tok_id(t, "<tool>", 6);
    LM_CHECK(bos == 0 && eos == 1 && tool > 0 && lm_tok_bos(t) == bos && lm_tok_adds_bos(t));
    LM_CHECK(lm_tok_type_of(t, bos) == LM_TOK_CONTROL && lm_tok_type_of(t, tool) == LM_TOK_ADDED &&
             lm_tok_type_of(t, 1 << 20) == LM_TOK_NONE && lm_tok_type_of(t, -1) == LM_TOK_NONE);
    const char *text = "<|bos|>x<tool>";
    LM_CHECK_OK(c, lm_tok_encode(t, text, strlen(text), LM_TOK_SPECIAL, &b));
    LM_CHECK(b.n == 3 && b.id[0] == bos && b.id[2] == tool);
    LM_CHECK_OK(c, lm_tok_decode(t, b.id, b.n, 0, &s));
    LM_CHECK_STR(s.p, "x<tool>");
    b.n = 0;                                               /* without LM_TOK_SPECIAL a control token's text is text; other added tokens still count */
    LM_CHECK_OK(c, lm_tok_encode(t, text, strlen(text), 0, &b));
    LM_CHECK(b.n > 3 && b.id[b.n - 1] == tool);
    for (size_t i = 0; i < b.n; i++) LM_CHECK(b.id[i] != bos);
    LM_CHECK_ERR(c, lm_tok_encode(t, "x", 1, 64, &b), LM_E_CONFIG, "unknown flags");
    int32_t wrong = lm_tok_vocab(t);
    lm_str_clear(&s);
    LM_CHECK_ERR(c, lm_tok_decode(t, &wrong, 1, 0, &s), LM_E_RANGE, "not in the vocabulary");
    LM_CHECK(s.n == 0);
    lm_tok_free(t);
    t = open_(c, "llama3", ".json", &(lm_tok_opts){ .add_bos = -1 });
    b.n = 0;
    LM_CHECK_OK(c, lm_tok_encode(t, "", 0, LM_TOK_ADD, &b));
    LM_CHECK(b.n == 1 && b.id[0] == eos && !lm_tok_adds_bos(t));
    lm_tok_free(t);
    lm_tok *none = NULL;
    LM_CHECK_ERR(c, lm_tok_open(c, tok_fixture("gpt2.json"), &(lm_tok_opts){ .add_bos = 1 }, &none), LM_E_CONFIG, "BOS is to be added");
    LM_CHECK(none == NULL);
    lm_str_free(&s);
    lm_tok_buf_free(&b);
    lm_ctx_free(c);
}

static void test_save(void) {
    lm_ctx *c = tok_ctx(1);
    json_t *S = tok_json(c, "strings.json");
    char dir[] = "/tmp/loam-tok-XXXXXX";
    if (!mkdtemp(dir)) LM_SKIP("no folder for temporary files");
    for (int k = 0; k < LM_COUNT(toks) + 1; k++) {
        lm_tok *t = k < LM_COUNT(toks) ? open_(c, toks[k].name, ".json", NULL) : open_(c, "spm_plain", ".model", NULL), *u = NULL;
        if (!t) continue;
        LM_CHECK_OK(c, lm_tok_save(c, t, dir));
        LM_CHECK_OK(c, lm_tok_open(c, dir, NULL, &u));
        if (!u) { lm_tok_free(t); continue; }
        lm_hash128_t a = lm_tok_hash(t), b = lm_tok_hash(u);
        LM_CHECK(a.lo == b.lo && a.hi == b.hi);
        lm_tok_buf x = { .ctx = c }, y = { .ctx = c };
        for (size_t i = 0; i < json_array_size(S); i++) {
            const json_t *s = json_array_get(S, i);
            LM_CHECK_OK(c, lm_tok_encode(t, json_string_value(s), json_string_length(s), LM_TOK_SPECIAL | LM_TOK_ADD, &x));
            LM_CHECK_OK(c, lm_tok_encode(u, json_string_value(s), json_string_length(s), LM_TOK_SPECIAL | LM_TOK_ADD, &y));
        }
        LM_CHECK(x.n == y.n && !memcmp(x.id, y.id, x.n * sizeof *x.id));
        lm_tok_buf_free(&x);
        lm_tok_buf_free(&y);
        lm_tok_free(t);
        lm_tok_free(u);
    }
    lm_dir_remove(c, dir);
    lm_json_free(S);
    lm_ctx_free(c);
}

static void test_hashes_differ(void) {
    lm_ctx *c = tok_ctx(1);
    lm_hash128_t h[LM_COUNT(toks)];
    for (int k = 0; k < LM_COUNT(toks); k++) {
        lm_tok *t = open_(c, toks[k].name, ".json", NULL);
        h[k] = t ? lm_tok_hash(t) : (lm_hash128_t){ 0 };
        for (int j = 0; j < k; j++) LM_CHECK(h[j].lo != h[k].lo);
        lm_tok_free(t);
    }
    lm_tok *t = open_(c, "llama3", ".json", &(lm_tok_opts){ .add_bos = -1 });
    LM_CHECK(t && lm_tok_hash(t).lo != h[1].lo);
    lm_tok_free(t);
    lm_ctx_free(c);
}

enum { DOCS = 700 };
static void test_many(void) {
    lm_ctx *c = tok_ctx(3);
    lm_tok *t = open_(c, "qwen2", ".json", NULL);
    if (!t) return;
    static char text[DOCS][512];
    static lm_tok_text docs[DOCS];
    static size_t start[DOCS + 1];
    uint64_t seed = 3;
    for (int i = 0; i < DOCS; i++) docs[i] = (lm_tok_text){ text[i], tok_random_text(&seed, text[i], (int)(tok_rand(&seed) % 40)) };
    lm_tok_buf b = { .ctx = c }, one = { .ctx = c };
    LM_CHECK_OK(c, lm_tok_encode_many(c, t, docs, DOCS, LM_TOK_ADD, &b, start));
    LM_CHECK(start[DOCS] == b.n);
    for (int i = 0; i < DOCS; i++) {
        one.n = 0;
        LM_CHECK_OK(c, lm_tok_encode(t, docs[i].p, docs[i].n, LM_TOK_ADD, &one));
        LM_CHECK(one.n == start[i + 1] - start[i] && (!one.n || !memcmp(one.id, b.id + start[i], one.n * sizeof *one.id)));
    }
    size_t was = b.n;
    memcpy(text[333], "bad \xff", 6);
    docs[333].n = 5;
    LM_CHECK_ERR(c, lm_tok_encode_many(c, t, docs, DOCS, 0, &b, start), LM_E_DATA, "document 333: the text is not UTF-8 at byte 4");
    LM_CHECK(b.n == was);
    LM_CHECK_OK(c, lm_tok_encode_many(c, t, docs, 0, 0, &b, start));
    lm_tok_buf_free(&b);
    lm_tok_buf_free(&one);
    lm_tok_free(t);
    lm_ctx_free(c);
}

/* Words longer than any cache or array: against the property that ids decode to the text, and against the same text cut where words end. */
static void test_long_words(void) {
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_(c, "gpt2", ".json", NULL);
    if (!t) return;
    size_t n = 300000;
    char *p = lm_alloc(c, LM_MEM_MISC, n);
    uint64_t seed = 11;
    for (int kind = 0; p && kind < 4; kind++) {
        for (size_t i = 0; i < n; i++) p[i] = kind == 0 ? 'a' : kind == 1 ? "ab"[i & 1] : kind == 2 ? ' ' : (char)('a' + tok_rand(&seed) % 26);
        round_trip(c, t, p, n, 0);
    }
    lm_free(c, p);
    lm_tok_free(t);
    lm_ctx_free(c);
}

static void test_stream_strips_once(void) {
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_(c, "llama2", ".json", NULL);
    if (!t) return;
    lm_tok_buf b = { .ctx = c };
    lm_str s = { .ctx = c };
    LM_CHECK_OK(c, lm_tok_encode(t, "  two spaces", 12, LM_TOK_ADD, &b));
    LM_CHECK(b.id[0] == 1);
    LM_CHECK_OK(c, lm_tok_decode(t, b.id, b.n, 0, &s));
    LM_CHECK_STR(s.p, "  two spaces");
    lm_str_clear(&s);
    lm_tok_stream st = lm_tok_stream_begin(t, 0);
    for (size_t i = 0; i < b.n; i++) LM_CHECK_OK(c, lm_tok_stream_push(&st, b.id[i], &s));
    LM_CHECK_OK(c, lm_tok_stream_flush(&st, &s));
    LM_CHECK_STR(s.p, "  two spaces");
    lm_str_free(&s);
    lm_tok_buf_free(&b);
    lm_tok_free(t);
    lm_ctx_free(c);
}

LM_TEST_MAIN(LM_T1(test_hf_ids), LM_T1(test_sentencepiece_ids), LM_T1(test_round_trip), LM_T1(test_raw_bytes_with_fallback),
             LM_T1(test_flags), LM_T1(test_save), LM_T1(test_hashes_differ), LM_T1(test_many), LM_T1(test_long_words),
             LM_T1(test_stream_strips_once))
