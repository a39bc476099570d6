/* llama2.c: the input as a checkpoint and as a tokenizer. */
#include "format/llama2c.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_l2c m; lm_l2c_tok t; uint64_t h = 0;
    if (!lm_l2c_parse(ctx, "fuzz.bin", data, size, &m))
        for (int i = 0; i < LM_N_L2C; i++) h += lm_hash64(m.base + m.part[i].offset, m.part[i].bytes, h);
    if (!lm_l2c_tok_parse(ctx, "fuzz.tok", data, size, 0, &t)) {
        for (int i = 0; i < t.n; i++) h += lm_hash64(t.v[i].s, (size_t)t.v[i].n, h);
        lm_l2c_tok_free(ctx, &t);
    }
    return 0;
}
