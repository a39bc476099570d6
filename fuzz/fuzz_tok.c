/* Tokenizer files of any kind, then (behind a line "%%%") a text: open, encode with every mix of flags, decode whole and as a stream, save
 * and open again. */
#include "tok/tok.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char cut[] = "\n%%%\n";

static void use(lm_ctx *ctx, const lm_tok *t, const char *text, size_t n) {
    for (unsigned flags = 0; flags < 8; flags++) {
        lm_tok_buf a = { .ctx = ctx }, b = { .ctx = ctx };
        lm_str whole = { .ctx = ctx }, parts = { .ctx = ctx };
        lm_err e = lm_tok_encode(t, text, n, flags, &a), f = lm_tok_encode(t, text, n, flags, &b);
        if (e != f || a.n != b.n || (a.n && memcmp(a.id, b.id, a.n * sizeof *a.id))) abort();              /* with a cold cache and with a warm one */
        if (e && a.n) abort();
        if (!e) {
            if (lm_tok_decode(t, a.id, a.n, LM_TOK_SPECIAL, &whole)) abort();
            lm_tok_stream s = lm_tok_stream_begin(t, LM_TOK_SPECIAL);
            for (size_t i = 0; i < a.n; i++)
                if (a.id[i] < 0 || a.id[i] >= lm_tok_vocab(t) || lm_tok_stream_push(&s, a.id[i], &parts)) abort();
            if (lm_tok_stream_flush(&s, &parts) || whole.n != parts.n || (whole.n && memcmp(whole.p, parts.p, whole.n))) abort();
        }
        lm_str_free(&whole);
        lm_str_free(&parts);
        lm_tok_buf_free(&a);
        lm_tok_buf_free(&b);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    const uint8_t *m = NULL;
    for (size_t i = 0; i + sizeof cut - 1 <= size; i++)
        if (!memcmp(data + i, cut, sizeof cut - 1)) m = data + i;
    size_t n = m ? (size_t)(m - data) : size;
    const char *text = m ? (const char *)m + sizeof cut - 1 : (const char *)data;
    size_t text_n = m ? size - n - (sizeof cut - 1) : size < 256 ? size : 256;
    lm_tok *t, *u;
    if (lm_tok_open_mem(ctx, "fuzz", data, n, &(lm_tok_opts){ .kind = "cl100k" }, &t)) return 0;
    if (text_n > 4096) text_n = 4096;
    use(ctx, t, text, text_n);
    lm_str j = { .ctx = ctx };
    if (!lm_tok_to_json(ctx, t, &j) && !lm_tok_open_mem(ctx, "again", j.p, j.n, NULL, &u)) {
        lm_hash128_t a = lm_tok_hash(t), b = lm_tok_hash(u);
        if (a.lo != b.lo || a.hi != b.hi) abort();
        lm_tok_free(u);
    }
    lm_str_free(&j);
    lm_tok_free(t);
    return 0;
}
