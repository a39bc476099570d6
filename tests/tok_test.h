/* tok_test.h — what the tokenizer tests share: a context, fixtures by name, buffers compared.
 *
 * Lifetime: tok_ctx() lives until tok_done().  Threads: one.  Errors: a failed check. */
#ifndef TOK_TEST_H
#define TOK_TEST_H
#include "test.h"
#include "base/file.h"
#include "format/json.h"
#include "tok/tok.h"
#include <stdio.h>

static inline lm_ctx *tok_ctx(int threads) {
    lm_ctx *c = NULL;
    lm_ctx_opts o = { .n_threads = threads };
    if (lm_ctx_new(&c, &o)) { printf("no context\n"); exit(1); }
    return c;
}
static inline const char *tok_fixture(const char *name) {
    static char path[4][1024];
    static int k;
    char *p = path[k++ & 3];
    snprintf(p, 1024, "%s/tok/%s", LM_FIXTURES, name);
    return p;
}
static inline json_t *tok_json(lm_ctx *c, const char *name) {
    json_t *v = NULL;
    LM_CHECK_OK(c, lm_json_load(c, tok_fixture(name), LM_JSON_ALLOW_NUL, &v));
    return v;
}
/* Are these the ids of the JSON array? Prints the first difference. */
static inline bool tok_same(const lm_tok_buf *b, const json_t *want, const char *what, size_t row) {
    size_t n = json_array_size(want);
    for (size_t i = 0; i < n || i < b->n; i++) {
        long long w = i < n ? (long long)json_integer_value(json_array_get(want, i)) : -1, g = i < b->n ? b->id[i] : -1;
        if (w == g) continue;
        printf("%s row %zu: id %zu is %lld, wanted %lld\n", what, row, i, g, w);
        return false;
    }
    return true;
}
/* A counter-based source of test data: splitmix64. */
static inline uint64_t tok_rand(uint64_t *s) {
    uint64_t z = *s += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
/* Random well-formed text of about n characters, over many scripts, with the fragments that patterns treat specially. */
static inline size_t tok_random_text(uint64_t *s, char *out, int n) {
    static const struct {
        uint32_t lo, hi;
    } pool[] = { { 32, 126 },          { 'a', 'z' },         { 'A', 'Z' },         { '0', '9' },       { 9, 13 },
                 { 32, 32 },           { 0x80, 0x24f },      { 0x300, 0x36f },     { 0x370, 0x5ff },   { 0x600, 0x8ff },
                 { 0x900, 0xdff },     { 0xe00, 0x11ff },    { 0x1e00, 0x206f },   { 0x2150, 0x218f }, { 0x24b0, 0x24f0 },
                 { 0x3000, 0x30ff },   { 0x4e00, 0x4fff },   { 0xac00, 0xadff },   { 0xfb00, 0xffef }, { 0x10400, 0x1044f },
                 { 0x1f1e6, 0x1f64f }, { 0x1d400, 0x1d7ff }, { 0x20000, 0x200ff }, { 0x1c80, 0x1c8f }, { 0x10d40, 0x10d8f },
                 { 0xa7c0, 0xa7ff } };
    static const char *const frag[] = {
        "'s", "'LL", "'re",    "'D",        "'\xc5\xbf",    "don't",         "\r\n", "\n\n", "   ",      " \t\n",        "\xc2\xa0",
        "//", "/\n", "123456", "e\xcc\x81", "\xe2\x96\x81", "<|endoftext|>", "!!",   " 1",   "\xc2\x85", "\xe1\x9a\x80x"
    };
    size_t k = 0;
    for (int i = 0; i < n; i++) {
        uint64_t r = tok_rand(s);
        if (r % 4 == 0) {
            const char *f = frag[(r >> 8) % (sizeof frag / sizeof *frag)];
            memcpy(out + k, f, strlen(f));
            k += strlen(f);
            continue;
        }
        int p = (int)((r >> 8) % (sizeof pool / sizeof *pool));
        uint32_t c = pool[p].lo + (uint32_t)((r >> 24) % (pool[p].hi - pool[p].lo + 1));
        if (c < 0x80) out[k++] = (char)c;
        else if (c < 0x800) {
            out[k++] = (char)(0xc0 | c >> 6);
            out[k++] = (char)(0x80 | (c & 63));
        } else if (c < 0x10000) {
            out[k++] = (char)(0xe0 | c >> 12);
            out[k++] = (char)(0x80 | (c >> 6 & 63));
            out[k++] = (char)(0x80 | (c & 63));
        } else {
            out[k++] = (char)(0xf0 | c >> 18);
            out[k++] = (char)(0x80 | (c >> 12 & 63));
            out[k++] = (char)(0x80 | (c >> 6 & 63));
            out[k++] = (char)(0x80 | (c & 63));
        }
    }
    out[k] = 0;
    return k;
}
#endif
