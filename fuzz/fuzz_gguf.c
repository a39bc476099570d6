/* GGUF: a whole file; every key through every getter, every tensor's bytes read, every block of a known format as numbers. */
#include "format/gguf.h"
#include "quant/quant.h"
#include <stdlib.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_gguf *g; uint64_t h = 0; const void *m;
    if (lm_gguf_open_mem(&g, ctx, "fuzz.gguf", data, size)) return 0;
    for (int i = 0; i < lm_gguf_count(g); i++) {
        const lm_gguf_tensor *t = lm_gguf_at(g, i);
        if (lm_gguf_find(g, t->name) != t || lm_gguf_map(g, t, &m)) abort();
        h += lm_hash64(m, (size_t)t->bytes, h);
        const lm_quant *q = lm_quant_by_gguf(t->type->id);
        float y[256];
        for (int64_t k = 0; q && k < t->bytes; k += q->comp[0].block_bytes)
            q->to_float(q, (const void *const[]){ (const uint8_t *)m + k }, q->block, y);
    }
    for (int i = 0; i < lm_gguf_n_keys(g); i++) {
        lm_gguf_type type, item; int64_t n, v; double d; bool b; const char *s; size_t len; lm_gguf_nums a; lm_gguf_strs ss;
        const char *k = lm_gguf_key(g, i, &type, &item, &n);
        if (!lm_gguf_has(g, k)) abort();
        lm_gguf_int(g, k, true, 0, -5, 5, &v); lm_gguf_num(g, k, true, 0, &d); lm_gguf_bool(g, k, true, false, &b);
        if (!lm_gguf_str(g, k, true, NULL, &s, &len)) h += lm_hash64(s, len + 1, h);
        if (!lm_gguf_arr_int(g, k, true, &a)) for (int64_t j = -1; j <= a.n; j++) h += (uint64_t)lm_gguf_nums_int(&a, j);
        if (!lm_gguf_arr_num(g, k, true, &a)) for (int64_t j = -1; j <= a.n; j++) h += lm_gguf_nums_num(&a, j) > 0;
        if (!lm_gguf_arr_str(g, k, true, &ss)) for (int64_t j = 0; j < ss.n; j++) { s = lm_gguf_strs_at(&ss, j, &len); h += lm_hash64(s, len, h); }
    }
    lm_gguf_close(g);
    return 0;
}
