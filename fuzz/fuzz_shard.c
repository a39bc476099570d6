/* Shards of token ids: whatever the bytes, reading stays inside them, and what opens is whole in itself. */
#include "data/shard.h"
#include <stdlib.h>
#include <string.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Head and tail again with a hash that fits, so that what lies behind the check is reached. */
static void seal(uint8_t *p, size_t n) {
    uint8_t b[LM_SHARD_HEAD + LM_SHARD_TAIL - 16];
    memcpy(b, p, LM_SHARD_HEAD);
    memcpy(b + LM_SHARD_HEAD, p + n - LM_SHARD_TAIL, LM_SHARD_TAIL - 16);
    lm_hash128_t h = lm_hash128(b, sizeof b);
    memcpy(p + n - 16, &h.lo, 8);
    memcpy(p + n - 8, &h.hi, 8);
}
static void use(lm_ctx *ctx, const uint8_t *p, size_t n) {
    lm_shard s;
    if (lm_shard_parse(ctx, "fuzz.shard", p, n, &s)) return;
    int32_t id[64];
    int64_t last = 0;
    for (int64_t t = 0; t < s.n_tokens; t += 64) {
        int64_t k = lm_min64(64, s.n_tokens - t), d = lm_shard_doc_of(&s, t);
        if (lm_shard_ids(&s, t, k, id)) for (int64_t i = 0; i < k; i++) if (id[i] < 0 || id[i] >= s.vocab) abort();
        if (d < last || d >= s.n_docs || s.doc[d] > t || s.doc[d + 1] <= t) abort();
        last = d;
    }
    if (!lm_shard_verify(ctx, "fuzz.shard", p, n) && !lm_hash_same(s.hash, lm_hash128(p, n - LM_SHARD_TAIL))) abort();
}
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    use(ctx, data, size);
    if (size < LM_SHARD_HEAD + LM_SHARD_TAIL || size > 1 << 20) return 0;
    uint8_t *p = malloc(size);
    if (!p) return 0;
    memcpy(p, data, size);
    seal(p, size);
    use(ctx, p, size);
    free(p);
    return 0;
}
