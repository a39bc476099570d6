/* test_tok_split.c — splitting: every hand-written pattern against PCRE2 running the pattern, every pre-tokenizer step against Hugging
 * Face's pieces, the translation of patterns, and its limits. */
#include "tok_test.h"
#include "tok/tok_int.h"
#include "tok/unicode.h"

/* One known pattern on one text; false and a line on a difference. */
static bool same_cuts(lm_ctx *c, const lm_split_row *row, const lm_regex *re, lm_regex_state *st, const char *text, size_t n) {
    const uint8_t *p = (const uint8_t *)text, *end = p + n, *at = p;
    size_t from = 0, s, e;
    bool found;
    while (at < end) {
        const uint8_t *next = row->fn(at, end);
        if (lm_regex_next(re, st, c, p, n, &from, &s, &e, &found) || !found) {
            printf("%s: no match at %zu of \"%s\"\n", row->name, (size_t)(at - p), text);
            return false;
        }
        if (s != (size_t)(at - p) || e != (size_t)(next - p)) {
            printf("%s: [%zu, %zu), the pattern says [%zu, %zu) of \"%s\"\n", row->name, (size_t)(at - p), (size_t)(next - p), s, e, text);
            return false;
        }
        at = next;
    }
    return true;
}

static void test_known_patterns(void) {
    lm_ctx *c = tok_ctx(1);
    json_t *S = tok_json(c, "strings.json");
    lm_regex_state *st = NULL;
    LM_NEED_OK(c, lm_regex_state_new(c, &st));
    for (const lm_split_row *row = lm_split_rows; row->name; row++) {
        lm_regex *re = NULL;
        LM_CHECK_OK(c, lm_regex_new(c, row->pattern, strlen(row->pattern), &re));
        if (!re) continue;
        int bad = 0;
        for (size_t i = 0; i < json_array_size(S) && bad < 3; i++) {
            const json_t *s = json_array_get(S, i);
            bad += !same_cuts(c, row, re, st, json_string_value(s), json_string_length(s));
        }
        char text[1024];
        uint64_t seed = 5;
        for (int i = 0; i < 2500 && bad < 3; i++)
            bad += !same_cuts(c, row, re, st, text, tok_random_text(&seed, text, 1 + (int)(tok_rand(&seed) % 40)));
        /* Short texts over the characters that matter, all of them. */
        static const char *const set[] = { " ", "\n", "\r", "\t", "a", "B", "s", "'", "1", "!", "/", "\xcc\x81", "\xca\xb0", "\xc2\xa0" };
        for (int a = 0; a < LM_COUNT(set) && bad < 3; a++)
            for (int b = 0; b < LM_COUNT(set); b++)
                for (int d = 0; d < LM_COUNT(set); d++)
                    for (int f = 0; f < LM_COUNT(set) && bad < 3; f++) {
                        int k = snprintf(text, sizeof text, "%s%s%s%s", set[a], set[b], set[d], set[f]);
                        bad += !same_cuts(c, row, re, st, text, (size_t)k);
                    }
        LM_CHECK(bad == 0);
        lm_regex_free(re);
    }
    lm_regex_state_free(st);
    lm_json_free(S);
    lm_ctx_free(c);
}

/* Every code point between two letters, behind a space and behind a mark. */
static void test_all_code_points(void) {
    lm_ctx *c = tok_ctx(1);
    lm_regex_state *st = NULL;
    LM_NEED_OK(c, lm_regex_state_new(c, &st));
    static char text[0x1200 * 16];
    const char *names[] = { "gpt2", "qwen2", "o200k" };
    for (int k = 0; k < 3; k++) {
        const lm_split_row *row = lm_split_by_name(names[k]);
        lm_regex *re = NULL;
        LM_CHECK_OK(c, lm_regex_new(c, row->pattern, strlen(row->pattern), &re));
        int bad = 0;
        for (uint32_t base = 0; re && base < 0x20000 && bad < 3; base += 256) {
            size_t n = 0;
            for (uint32_t u = base; u < base + 256; u++) {
                if (u >= 0xd800 && u < 0xe000) continue;
                text[n++] = 'a';
                n += (size_t)lm_utf8_put(u, (uint8_t *)text + n);
                text[n++] = ' ';
                n += (size_t)lm_utf8_put(u, (uint8_t *)text + n);
                text[n++] = 'B';
            }
            text[n] = 0;
            bad += !same_cuts(c, row, re, st, text, n);
        }
        LM_CHECK(bad == 0);
        lm_regex_free(re);
    }
    lm_regex_state_free(st);
    lm_ctx_free(c);
}

/* Pieces recorded from Hugging Face: lengths in bytes, or the pieces. */
static bool same_pieces(lm_ctx *c, const lm_tok *t, const char *text, size_t n, const json_t *want) {
    lm_tok_scratch *s = NULL;
    const uint8_t *base;
    size_t base_n;
    int which;
    bool ok = true;
    lm_str one = { .ctx = c };
    if (lm_tok_scratch_get(t, c, &s) || lm_pre_run(t, s, c, (const uint8_t *)text, n, LM_AT_START, &base, &base_n, &which)) return false;
    size_t k = 0, m = json_array_size(want);
    for (int64_t i = 0; ok && i < s->n_span[which]; i++, k++) {
        lm_tok_span v = s->span[which][i];
        const json_t *w = json_array_get(want, k);
        if (!w) { ok = false; break; }
        /* Hugging Face shows the byte alphabet; here it is only written where later steps see it */
        lm_str_clear(&one);
        if (t->byte_level && t->map_at == t->n_pre) lm_bytes_to_text(base + v.s, v.e - v.s, &one);
        else lm_str_add(&one, base + v.s, v.e - v.s);
        ok = json_is_integer(w) ? (size_t)json_integer_value(w) == one.n
                                : json_string_length(w) == one.n && !memcmp(json_string_value(w), one.p, one.n);
    }
    lm_str_free(&one);
    lm_tok_scratch_put(t, s);
    return ok && k == m;
}

static void test_pieces(void) {
    lm_ctx *c = tok_ctx(1);
    json_t *S = tok_json(c, "strings.json"), *X = tok_json(c, "pieces.json");
    LM_CHECK(json_array_size(X) > 40);
    for (size_t i = 0; i < json_array_size(X); i++) {
        const json_t *x = json_array_get(X, i), *rows = json_object_get(x, "pieces");
        char *pre = json_dumps(json_object_get(x, "pre"), JSON_COMPACT);
        lm_tok *t = NULL;
        LM_NEED_OK(c, lm_tok_new(c, "pieces", &t));
        LM_CHECK_OK(c, lm_tok_set_pipeline(t, NULL, pre, NULL, NULL));
        LM_CHECK_OK(c, lm_tok_compile(t));
        int bad = 0;
        for (size_t k = 0; k < json_array_size(rows); k++) {
            const json_t *s = json_array_get(S, k), *want = json_array_get(rows, k);
            if (!json_is_array(want) || same_pieces(c, t, json_string_value(s), json_string_length(s), want)) continue;
            if (bad++ < 2) printf("%s: string %zu \"%s\"\n", pre, k, json_string_value(s));
        }
        LM_CHECK(bad == 0);
        lm_tok_free(t);
        free(pre);
    }
    lm_json_free(S);
    lm_json_free(X);
    lm_ctx_free(c);
}

static void test_refused_patterns(void) {
    lm_ctx *c = tok_ctx(1);
    static const struct { const char *pattern, *why; lm_err err;
    } bad[] = { { "(*LIMIT_MATCH=9)a", "control verbs", LM_E_UNSUPPORTED },
                { "(?P<x>a)", "kind of group", LM_E_UNSUPPORTED },
                { "(a)\\1", "not translated", LM_E_UNSUPPORTED },
                { "\\C", "not translated", LM_E_UNSUPPORTED },
                { "[a", "without ]", LM_E_UNSUPPORTED },
                { "(a", "without )", LM_E_UNSUPPORTED },
                { "a)", "too many", LM_E_UNSUPPORTED },
                { "[[:alpha:]]", "POSIX", LM_E_UNSUPPORTED },
                { "\\p{Nonsense}", "unknown property", LM_E_FORMAT },
                { "a\\", "backslash at the end", LM_E_UNSUPPORTED },
                { "x{999999}", "too large", LM_E_UNSUPPORTED },
                { "\\x{110000}", "not a code point", LM_E_UNSUPPORTED },
                { "(?i:Fi|x)", "joined letter", LM_E_UNSUPPORTED },
                { "*a", "quantifier", LM_E_FORMAT },
                { "\xff", "UTF-8", LM_E_FORMAT } };
    for (int i = 0; i < LM_COUNT(bad); i++) {
        lm_regex *re = NULL;
        LM_CHECK_ERR(c, lm_regex_new(c, bad[i].pattern, strlen(bad[i].pattern), &re), bad[i].err, bad[i].why);
        LM_CHECK(re == NULL);
    }
    lm_ctx_free(c);
}

static void test_match_limit(void) {
    lm_ctx *c = tok_ctx(1);
    lm_regex *re = NULL;
    lm_regex_state *st = NULL;
    LM_NEED_OK(c, lm_regex_new(c, "(a+)+$", 6, &re));
    LM_NEED_OK(c, lm_regex_state_new(c, &st));
    char text[64];
    memset(text, 'a', 60);
    text[60] = '!';
    size_t from = 0, s, e;
    bool found;
    LM_CHECK_ERR(c, lm_regex_next(re, st, c, (uint8_t *)text, 61, &from, &s, &e, &found), LM_E_DATA, "gave up");
    lm_regex_state_free(st);
    lm_regex_free(re);
    lm_ctx_free(c);
}

static void test_byte_alphabet(void) {
    bool seen[512] = { false };
    for (int b = 0; b < 256; b++) {
        uint32_t u = lm_byte_char((uint8_t)b);
        LM_CHECK(u < 512 && !seen[u] && lm_char_byte(u) == b);
        if (u < 512) seen[u] = true;
    }
    LM_CHECK(lm_byte_char(' ') == 0x120 && lm_byte_char('\n') == 0x10a && lm_byte_char(0xad) == 0x143 && lm_char_byte(' ') == -1 &&
             lm_char_byte(0x144) == -1);
    LM_CHECK(lm_tok_byte_token("<0x0A>", 6) == 10 && lm_tok_byte_token("<0xfF>", 6) == -1 && lm_tok_byte_token("<0x-1>", 6) == -1 &&
             lm_tok_byte_token("<0x0A>>", 7) == -1);
}

LM_TEST_MAIN(LM_T1(test_known_patterns), LM_T1(test_all_code_points), LM_T1(test_pieces), LM_T1(test_refused_patterns),
             LM_T1(test_match_limit), LM_T1(test_byte_alphabet))
