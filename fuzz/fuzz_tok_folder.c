/* A tokenizer's folder: the first byte says which file the rest is; the others are good. */
#define _GNU_SOURCE 1                       /* memmem */
#include "scratch.h"
#include "tok/tok.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
static const struct { char key; const char *file, *good;
} part[] = { { 't', "tokenizer_config.json",
               "{\"tokenizer_class\": \"GPT2Tokenizer\", \"eos_token\": \"</s>\", \"added_tokens_decoder\": {\"4\": {\"content\": "
               "\"</s>\", \"special\": true}}}" },
             { 's', "special_tokens_map.json", "{\"eos_token\": \"</s>\"}" },
             { 'g', "generation_config.json", "{\"eos_token_id\": [4]}" },
             { 'a', "added_tokens.json", "{\"</s>\": 4}" },
             { 'v', "vocab.json", "{\"a\": 0, \"b\": 1, \"ab\": 2, \"\xc4\xa0\": 3}" },
             { 'm', "merges.txt", "#version: 0.2\na b\n" },
             { 'j', "chat_template.jinja", "{{ x }}" } };
static const char json[] = "{\"added_tokens\": [{\"id\": 3, \"content\": \"</s>\", \"special\": true}], \"model\": {\"type\": \"BPE\", "
                           "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2}, \"merges\": [\"a b\"]}}";
static void use(lm_ctx *ctx, const char *dir) {
    lm_tok *t;
    if (lm_tok_open(ctx, dir, NULL, &t)) { if (!*lm_error(ctx)) abort(); return; }
    lm_tok_buf a = { .ctx = ctx };
    lm_str s = { .ctx = ctx };
    if (!lm_tok_encode(t, "ab a</s>", 8, LM_TOK_ADD | LM_TOK_SPECIAL, &a)) {
        for (size_t i = 0; i < a.n; i++) if (a.id[i] < 0 || a.id[i] >= lm_tok_vocab(t)) abort();
        if (lm_tok_decode(t, a.id, a.n, LM_TOK_SPECIAL, &s)) abort();
    }
    lm_tok_buf_free(&a); lm_str_free(&s); lm_tok_free(t);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    if (!size) return 0;
    for (int pair = 0; pair < 2; pair++) {
        const char *dir = pair ? "p" : "j";
        char name[64];
        if (lm_dir_make(ctx, scratch(dir))) exit(2);
        for (int i = 0; i < LM_COUNT(part); i++) {
            const bool this = part[i].key == (char)*data;
            if (!pair && (part[i].key == 'v' || part[i].key == 'm' || part[i].key == 'a')) continue;
            snprintf(name, sizeof name, "%s/%s", dir, part[i].file);
            scratch_put(name, this ? (const char *)data + 1 : part[i].good, this ? size - 1 : strlen(part[i].good));
        }
        if (!pair) scratch_put("j/tokenizer.json", json, sizeof json - 1);
        use(ctx, scratch(dir));
    }
    return 0;
}
