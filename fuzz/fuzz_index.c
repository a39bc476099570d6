/* Folders whose parts are named by a JSON file. The first byte says of what kind; sections are parted by a line "%%%".
 *   's'  model.safetensors.index.json, then the bytes of shard a.safetensors (absent: a good one); b.safetensors is always good
 *   'd'  index.json of tokenized shards; 00000.shard is good
 *   'r'  resume.json of an unfinished tokenization */
#define _GNU_SOURCE 1
#include "scratch.h"
#include "data/data.h"
#include "format/safetensors.h"
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void tensors(lm_ctx *ctx) {
    static const char one[] = "{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}  12345678",
                      two[] = "{\"y\":{\"dtype\":\"I8\",\"shape\":[],\"data_offsets\":[0,1]}}      1";
    uint8_t buf[160]; uint64_t n;
    memset(buf, 0, sizeof buf);
    n = sizeof one - 1 - 8; memcpy(buf, &n, 8); memcpy(buf + 8, one, sizeof one - 1);
    scratch_put("a.safetensors", buf, 8 + sizeof one - 1);
    n = sizeof two - 1 - 1; memcpy(buf, &n, 8); memcpy(buf + 8, two, sizeof two - 1);
    scratch_put("b.safetensors", buf, 8 + sizeof two - 1);
    (void)ctx;
}
static void safetensors(lm_ctx *ctx, const uint8_t *p, size_t n) {
    const size_t all = n;
    const uint8_t *more = scratch_cut(p, &n);
    lm_st *st;
    tensors(ctx);
    if (more) scratch_put("a.safetensors", more, all - (size_t)(more - p));
    scratch_put("model.safetensors.index.json", p, n);
    if (lm_st_open(&st, ctx, scratch_dir)) return;
    for (int i = 0; i < lm_st_count(st); i++) {
        const lm_st_tensor *t = lm_st_at(st, i);
        char b[64];
        if (lm_st_find(st, t->name) != t || t->shard < 0 || t->shard >= lm_st_shards(st)) abort();
        if (lm_st_read(st, t, b, 0, t->bytes < 64 ? t->bytes : 64)) abort();
    }
    lm_st_close(st);
}
static lm_tok *tok_of(lm_ctx *ctx) {
    static lm_tok *tok;
    lm_tok_text d = { "ab ab ab", 8 };
    if (!tok && lm_tok_train(ctx, &(lm_tok_train_opts){ .vocab = 258 }, &d, 1, &tok)) exit(2);
    return tok;
}
static void shards(lm_ctx *ctx, const char *name, const uint8_t *p, size_t n) {
    lm_shards *s;
    if (!lm_exists(scratch("d/00000.shard"))) {
        scratch_put("in.txt", "ab ba abba", 10);
        const char *in = scratch("in.txt");
        if (lm_data_tokenize(ctx, tok_of(ctx), &(lm_tokenize_opts){ .out = scratch("d"), .in = &in, .n_in = 1, .add_eos = true })) exit(2);
    }
    char all[64]; snprintf(all, sizeof all, "d/%s", name);
    scratch_put(all, p, n);
    int32_t id[16];
    if (lm_shards_open(&s, ctx, scratch("d"))) return;
    const int64_t tokens = lm_shards_tokens(s);
    if (lm_shards_get(s, 0, tokens < 16 ? tokens : 16, id)) abort();
    for (int64_t t = 0; t < tokens; t++) if (lm_shards_doc_start(s, t) > t) abort();
    lm_shards_verify(s);
    lm_shards_close(s);
}
static void resume(lm_ctx *ctx, const uint8_t *p, size_t n) {
    scratch_put("in2.txt", "ab ba abba", 10);
    const char *in = scratch("in2.txt");
    lm_shards *s;
    if (lm_dir_make(ctx, scratch("r"))) exit(2);
    unlink(scratch("r/index.json"));
    scratch_put("r/resume.json", p, n);
    if (lm_data_tokenize(ctx, tok_of(ctx), &(lm_tokenize_opts){ .out = scratch("r"), .in = &in, .n_in = 1, .add_eos = true })) return;
    if (lm_shards_open(&s, ctx, scratch("r")) || lm_shards_verify(s)) abort();       /* whatever the journal said, what is finished is whole */
    lm_shards_close(s);
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    if (!size) return 0;
    scratch("");
    if (*data == 's') safetensors(ctx, data + 1, size - 1);
    else if (*data == 'd') shards(ctx, "index.json", data + 1, size - 1);
    else if (*data == 'r') resume(ctx, data + 1, size - 1);
    return 0;
}
