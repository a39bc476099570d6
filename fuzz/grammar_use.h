/* grammar_use.h — what the grammar fuzzers do: compile a text in one notation, then follow what stands behind a line "%%%" token by token. At every step the mask must
 * say what feeding the token's bytes says. */
#ifndef LM_FUZZ_GRAMMAR_USE_H
#define LM_FUZZ_GRAMMAR_USE_H
#include "grammar/grammar.h"
#include <stdlib.h>
#include <string.h>
static const char *const fuzz_words[] = { "a", "b", "ab", "abc", "\"", "\\", "\\n", "\\u00", "{", "}", "{\"", "\":", "\": ", ",", ", \"", "[", "]", "],",
    "true", "false", "null", "0", "1", "12", "-", ".5", "e+1",
                                          " ", "\n", "\n  ", "x", "name", "z", "(", ")", "+", "\xC3", "\xA9", "\xC3\xA9", "\xE2\x82", "\xAC\xF0\x9F",
                                              "\x98\x80", "2024-", "T", "Z", "aaaaaaaaaaaaaaaaaaaa",
                                          "\"}", "\"]}", "\"a\":1" };
enum { FUZZ_WORDS = (int)(sizeof fuzz_words / sizeof *fuzz_words) };
static inline void fuzz_grammar(const char *kind, const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    static lm_trie *t;
    static const int32_t eos = FUZZ_WORDS;
    if (!ctx) {
        lm_piece piece[FUZZ_WORDS + 1];
        for (int i = 0; i < FUZZ_WORDS; i++) piece[i] = (lm_piece){ fuzz_words[i], strlen(fuzz_words[i]) };
        piece[FUZZ_WORDS] = (lm_piece){ NULL, 0 };
        if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }) || lm_trie_new(&t, ctx, piece, FUZZ_WORDS + 1, &eos, 1)) exit(2);
    }
    static const char cut[] = "\n%%%\n";
    const uint8_t *m = size ? memmem(data, size, cut, sizeof cut - 1) : NULL;
    const size_t n = m ? (size_t)(m - data) : size;
    const uint8_t *text = m ? m + sizeof cut - 1 : data;
    size_t n_text = m ? size - n - (sizeof cut - 1) : size;
    lm_grammar *g; lm_masker *k; lm_matcher *x, *y;
    if (lm_grammar_new(&g, ctx, kind, "fuzz", (const char *)data, n)) { if (!*lm_error(ctx)) abort(); return; }
    if (lm_masker_new(&k, ctx, g, t)) exit(2);
    if (!lm_matcher_new(&x, k)) {
        if (lm_matcher_new(&y, k)) exit(2);
        for (int step = 0; step < 8; step++) {
            const uint32_t *mask;
            if (lm_matcher_mask(x, &mask)) break;                              /* too ambiguous: an error is fine */
            uint32_t keep[(FUZZ_WORDS + 32) / 32];
            memcpy(keep, mask, sizeof keep);
            int may = 0, first = -1;
            for (int i = 0; i < FUZZ_WORDS; i++) {
                bool ok;
                lm_matcher_copy(y, x);
                if (lm_matcher_bytes(y, fuzz_words[i], strlen(fuzz_words[i]), &ok)) { may = 0; break; }
                if (ok != (keep[i >> 5] >> (i & 31) & 1)) abort();
                if (ok && (first < 0 || (n_text && (text[0] % 7 == may)))) first = i;
                may += ok;
            }
            if (lm_matcher_complete(x) != (keep[eos >> 5] >> (eos & 31) & 1)) abort();
            if (n_text) { text++; n_text--; }
            if (!may || lm_matcher_accept(x, first)) break;
        }
        bool ok;
        if (!lm_matcher_bytes(x, text, n_text < 64 ? n_text : 64, &ok) && ok) (void)lm_matcher_complete(x);
        lm_matcher_free(y); lm_matcher_free(x);
    }
    lm_masker_free(k); lm_grammar_free(g);
}
#endif
