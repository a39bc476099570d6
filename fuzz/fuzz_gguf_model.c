/* GGUF metadata as what they describe: a model's configuration for every family, and a tokenizer, used. */
#include "format/gguf.h"
#include "model/model.h"
#include "tok/tok.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static lm_err add(void *ud, const char *name, const lm_type *t, lm_role role) {
    (void)ud;
    (void)role;
    if (!*name || t->rank < 1) abort();
    return LM_OK;
}
static void config(lm_ctx *ctx, lm_gguf *g) {
    for (int i = 0; lm_models[i]; i++) {
        lm_cfg c = { .model = lm_models[i], .bos = -1 };
        if (lm_models[i]->from_gguf(ctx, g, &c) || lm_cfg_check(ctx, &c) || c.n_layer > 4) continue;
        const lm_err e = lm_model_params(ctx, &c, add, NULL);
        if (e && e != LM_E_CONFIG) abort();
    }
}
static void tokenizer(lm_ctx *ctx, lm_gguf *g) {
    static const char text[] = "The end, caf\xc3\xa9 \xe6\xb0\xb4 <s> 12";
    lm_tok *t;
    if (lm_tok_open_gguf(ctx, "fuzz.gguf", g, NULL, &t)) return;
    lm_tok_buf a = { .ctx = ctx };
    lm_str s = { .ctx = ctx };
    if (!lm_tok_encode(t, text, sizeof text - 1, LM_TOK_ADD | LM_TOK_SPECIAL, &a)) {
        for (size_t i = 0; i < a.n; i++) if (a.id[i] < 0 || a.id[i] >= lm_tok_vocab(t)) abort();
        if (lm_tok_decode(t, a.id, a.n, LM_TOK_SPECIAL, &s)) abort();
    }
    lm_tok_buf_free(&a); lm_str_free(&s); lm_tok_free(t);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_gguf *g;
    if (lm_gguf_open_mem(&g, ctx, "fuzz.gguf", data, size)) return 0;
    config(ctx, g);
    tokenizer(ctx, g);
    lm_gguf_close(g);
    return 0;
}
