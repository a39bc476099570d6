/* bench_loader.c — tokens a second that one thread gets out of shards: windows in shuffled order, targets, positions, document marks.
 * usage: bench_loader FOLDER [million tokens, 64] [mean document length, 400]     writes a scratch data set into FOLDER/loader-bench, removed at the end */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/file.h"
#include "data/data.h"
#include "data/shard.h"

static lm_err make(lm_ctx *ctx, const char *dir, int64_t tokens, int64_t mean, int32_t vocab) {
    char path[600];
    lm_shard_out *w;
    lm_shard_sum s;
    int32_t block[4096];
    lm_rng r = lm_rng_of(1, "bench loader");
    LM_TRY(lm_dir_make(ctx, dir));
    snprintf(path, sizeof path, "%s/00000.shard", dir);
    LM_TRY(lm_shard_create(&w, ctx, path, &(lm_shard_kind){ .vocab = vocab, .eos = 0 }));
    for (int64_t n = 0, d = 0; n < tokens; d++) {
        int64_t len = 1 + (int64_t)lm_rng_below(r, (uint64_t)d, (uint64_t)(2 * mean));
        for (int64_t i = 0; i < len; i += 4096) {
            int64_t k = lm_min64(4096, len - i);
            for (int64_t j = 0; j < k; j++) block[j] = (int32_t)((uint64_t)(n + i + j) * 2654435761u % (uint64_t)vocab);
            LM_TRY(lm_shard_add(w, block, (size_t)k));
        }
        LM_TRY(lm_shard_end_doc(w, 4 * len));
        n += len;
    }
    LM_TRY(lm_shard_finish(w, &s));
    char hex[33], text[1024];
    lm_hash_hex(s.hash, hex);
    snprintf(path, sizeof path, "%s/index.json", dir);
    snprintf(text, sizeof text,
             "{\"format\": \"loam shards\", \"version\": 1, \"vocab\": %d, \"tokenizer\": {\"hash\": "
             "\"00000000000000000000000000000000\"}, \"tokens\": %lld, \"documents\": %lld, \"bytes\": %lld, "
             "\"shards\": [{\"file\": \"00000.shard\", \"tokens\": %lld, \"documents\": %lld, \"bytes\": %lld, \"hash\": \"%s\"}]}",
             vocab, (long long)s.tokens, (long long)s.docs, (long long)s.bytes, (long long)s.tokens, (long long)s.docs, (long long)s.bytes,
             hex);
    return lm_file_write_atomic(ctx, path, text, strlen(text));
}
static lm_err measure(lm_ctx *ctx, const char *dir, int64_t seq, bool mask, double *best) {
    lm_shards *s;
    lm_loader *l;
    lm_batch b;
    LM_TRY(lm_shards_open(&s, ctx, dir));
    lm_source src = { s, 1, 0, 0 };
    LM_TRY(lm_loader_new(&l, ctx, &(lm_loader_opts){ .sources = &src, .n_source = 1, .seq = seq, .seed = 1, .mask_docs = mask, .shuffle = true }));
    LM_TRY(lm_batch_alloc(ctx, &b, lm_max64(1, 32768 / seq), seq));
    *best = 0;
    uint64_t at = 0;
    for (int rep = 0; rep < 8; rep++) {
        int64_t n = 0;
        double t0 = lm_now(), t = t0;
        for (; t - t0 < 0.1; t = lm_now(), at += (uint64_t)b.n_seq) { LM_TRY(lm_loader_fill(l, &b, at)); n += b.n; }
        double rate = (double)n / (t - t0);
        if (rate > *best) *best = rate;
    }
    lm_batch_free(ctx, &b);
    lm_loader_free(l);
    lm_shards_close(s);
    return LM_OK;
}
int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: bench_loader FOLDER [million tokens] [mean document length]\n"); return 2; }
    char dir[512];
    int64_t tokens = (argc > 2 ? atoll(argv[2]) : 64) * 1000000, mean = argc > 3 ? atoll(argv[3]) : 400;
    snprintf(dir, sizeof dir, "%s/loader-bench", argv[1]);
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    lm_err e = LM_OK;
    const int32_t vocab[] = { 50257, 151936 };
    const int64_t seq[] = { 32, 128, 256, 1024, 4096 };
    for (int v = 0; v < 2 && !e; v++) {
        e = make(ctx, dir, tokens, mean, vocab[v]);
        for (int i = 0; i < LM_COUNT(seq) && !e; i++)
            for (int mask = 0; mask < 2 && !e; mask++) {
                double rate;
                e = measure(ctx, dir, seq[i], mask, &rate);
                if (!e)
                    printf("{\"ids\": \"u%d\", \"seq\": %lld, \"mask_docs\": %s, \"mtokens_s\": %.0f}\n", vocab[v] > 65536 ? 32 : 16,
                           (long long)seq[i], mask ? "true" : "false", rate / 1e6);
            }
        if (!e) e = lm_dir_remove(ctx, dir);
    }
    if (e) fprintf(stderr, "%s\n", lm_error(ctx));
    lm_ctx_free(ctx);
    return e != LM_OK;
}
