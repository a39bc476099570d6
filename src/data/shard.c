/* shard.c — reading a shard: hostile until its head, tail and offsets have been checked. */
#include "data/shard.h"
#include "format/cursor.h"
#include "tok/tok.h"
#include <string.h>

static lm_err bad(lm_ctx *ctx, const char *name, const char *what) { return lm_fail(ctx, LM_E_FORMAT, "%s: %s", name, what); }

/* Bytes that a shard of these counts has; false: more than a file can have. */
static bool size_of(uint64_t tokens, uint64_t docs, bool wide, uint64_t *ids, uint64_t *all) {
    const uint64_t most = (uint64_t)1 << 60;
    if (tokens > most || docs >= most) return false;
    *ids = (tokens * (wide ? 4 : 2) + 7) & ~(uint64_t)7;
    *all = LM_SHARD_HEAD + *ids + (docs + 1) * 8 + LM_SHARD_TAIL;
    return true;
}
static lm_hash128_t ends_hash(const uint8_t *head, const uint8_t *tail) {
    uint8_t b[LM_SHARD_HEAD + LM_SHARD_TAIL - 16];
    memcpy(b, head, LM_SHARD_HEAD);
    memcpy(b + LM_SHARD_HEAD, tail, LM_SHARD_TAIL - 16);
    return lm_hash128(b, sizeof b);
}

lm_err lm_shard_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_shard *out) {
    const uint8_t *b = p;
    if (n < 8 || memcmp(b, "loamshrd", 8)) return bad(ctx, name, "is not a shard of token ids (it does not begin with \"loamshrd\")");
    if (n < LM_SHARD_HEAD + 8 + LM_SHARD_TAIL) return bad(ctx, name, "is cut off: shorter than the emptiest shard");
    lm_cursor h = lm_cursor_of(b + 8, LM_SHARD_HEAD - 8), t = lm_cursor_of(b + n - LM_SHARD_TAIL, LM_SHARD_TAIL);
    const uint8_t *tail = t.p;
    uint32_t version = 0, bits = 0, vocab = 0;
    int32_t eos = 0;
    uint64_t n_tokens = 0, n_docs = 0, n_bytes = 0, ids, all;
    lm_shard s = {0};
    lm_hash128_t own = {0};
    bool ok = lm_take_u32(&h, &version) && lm_take_u32(&h, &bits) && lm_take_u32(&h, &vocab) && lm_take_i32(&h, &eos) &&
              lm_take_u64(&h, &s.tok.lo) && lm_take_u64(&h, &s.tok.hi);
    if (!ok) return bad(ctx, name, "is cut off in its head");
    if (version != LM_SHARD_VERSION)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: shard version %u, this program reads version %d", name, version, (int)LM_SHARD_VERSION);
    if (memcmp(tail, "loamtail", 8)) return bad(ctx, name, "does not end with a shard's tail: it is cut off, or something follows it");
    t.p += 8;
    if (!(lm_take_u64(&t, &n_tokens) && lm_take_u64(&t, &n_docs) && lm_take_u64(&t, &n_bytes) && lm_take_u64(&t, &s.hash.lo) &&
          lm_take_u64(&t, &s.hash.hi)))
        return bad(ctx, name, "is cut off in its tail");
    t.p = tail + LM_SHARD_TAIL - 16;
    if (!(lm_take_u64(&t, &own.lo) && lm_take_u64(&t, &own.hi))) return bad(ctx, name, "is cut off in its tail");
    if (!lm_hash_same(own, ends_hash(b, tail))) return bad(ctx, name, "head or tail are damaged: they do not match their hash");
    /* From here on a mistake is the writer's, not the disk's; it is found all the same. */
    if (bits != 16 && bits != 32) return lm_fail(ctx, LM_E_FORMAT, "%s: ids of %u bits; 16 and 32 are known", name, bits);
    if (vocab < 1 || vocab > LM_TOK_MAX_VOCAB || (bits == 16 && vocab > 65536))
        return lm_fail(ctx, LM_E_FORMAT, "%s: a vocabulary of %u ids of %u bits", name, vocab, bits);
    if (eos < -1 || eos >= (int32_t)vocab) return lm_fail(ctx, LM_E_FORMAT, "%s: end-of-text id %d, the vocabulary has %u", name, eos, vocab);
    s.wide = bits == 32;
    if (!size_of(n_tokens, n_docs, s.wide, &ids, &all) || all != n || n_bytes > INT64_MAX)
        return lm_fail(ctx, LM_E_FORMAT, "%s: %zu bytes do not hold %llu ids and %llu documents", name, n, (unsigned long long)n_tokens,
                       (unsigned long long)n_docs);
    s.ids = b + LM_SHARD_HEAD;
    s.doc = (const int64_t *)(const void *)(b + LM_SHARD_HEAD + ids);
    s.n_tokens = (int64_t)n_tokens;
    s.n_docs = (int64_t)n_docs;
    s.n_bytes = (int64_t)n_bytes;
    s.vocab = (int32_t)vocab;
    s.eos = eos;
    if ((uintptr_t)p % 8) return lm_fail(ctx, LM_E_INTERNAL, "%s: a shard must lie at a multiple of 8 in memory", name);
    bool rises = s.doc[0] == 0 && s.doc[s.n_docs] == s.n_tokens;
    for (int64_t i = 0; i < s.n_docs; i++) rises &= s.doc[i] <= s.doc[i + 1];
    if (!rises) return lm_fail(ctx, LM_E_FORMAT, "%s: document offsets do not rise from 0 to %lld", name, (long long)s.n_tokens);
    *out = s;
    return LM_OK;
}

bool lm_shard_ids(const lm_shard *s, int64_t from, int64_t n, int32_t *dst) {
    uint32_t most = 0, vocab = (uint32_t)s->vocab;
    if (s->wide) {
        const uint32_t *p = (const uint32_t *)s->ids + from;
        for (int64_t i = 0; i < n; i++) { most = p[i] > most ? p[i] : most; dst[i] = (int32_t)p[i]; }
    } else {
        const uint16_t *p = (const uint16_t *)s->ids + from;
        for (int64_t i = 0; i < n; i++) { most = p[i] > most ? p[i] : most; dst[i] = p[i]; }
    }
    return n <= 0 || most < vocab;
}

lm_err lm_shard_verify(lm_ctx *ctx, const char *name, const void *p, size_t n) {
    lm_shard s;
    LM_TRY(lm_shard_parse(ctx, name, p, n, &s));
    if (!lm_hash_same(s.hash, lm_hash128(p, n - LM_SHARD_TAIL))) return bad(ctx, name, "is damaged: the ids or offsets do not match their hash");
    int32_t block[4096];
    for (int64_t i = 0; i < s.n_tokens; i += LM_COUNT(block))
        if (!lm_shard_ids(&s, i, lm_min64(LM_COUNT(block), s.n_tokens - i), block))
            return lm_fail(ctx, LM_E_FORMAT, "%s: an id outside the vocabulary of %d near token %lld", name, s.vocab, (long long)i);
    return LM_OK;
}

/* The last document that begins at or before t: empty ones before it begin there too. */
int64_t lm_shard_doc_of(const lm_shard *s, int64_t t) {
    int64_t lo = 0, hi = s->n_docs;        /* doc[lo] <= t < doc[hi] */
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (s->doc[mid] <= t) lo = mid; else hi = mid;
    }
    return lo;
}
