/* shard_write.c — a shard in one pass: head, ids as they come, then offsets and tail. */
#include "data/shard.h"
#include <string.h>

#define BLOCK 8192                         /* ids converted at a time */

struct lm_shard_out {
    lm_ctx *ctx;
    lm_out *o;
    lm_hasher *hash;
    bool wide;
    uint8_t head[LM_SHARD_HEAD];
    int64_t *doc; int64_t n_docs, cap;     /* ends of documents; doc[0] = 0 */
    int64_t n_tokens, n_bytes;
    uint16_t narrow[BLOCK];
};

void lm_shard_abort(lm_shard_out *w) {
    if (!w) return;
    lm_out_abort(w->o);
    lm_hasher_free(w->hash);
    lm_free(w->ctx, w->doc);
    lm_free(w->ctx, w);
}
static lm_err put(lm_shard_out *w, const void *p, size_t n) {
    lm_hasher_add(w->hash, p, n);
    return lm_out_write(w->o, p, n);
}
lm_err lm_shard_create(lm_shard_out **out, lm_ctx *ctx, const char *path, const lm_shard_kind *k) {
    lm_shard_out *w = lm_calloc(ctx, LM_MEM_DATA, 1, sizeof *w);
    if (!w) return LM_E_NOMEM;
    w->ctx = ctx;
    w->wide = lm_vocab_wide(k->vocab);
    w->cap = 1024;
    w->doc = lm_alloc(ctx, LM_MEM_DATA, (size_t)w->cap * sizeof *w->doc);
    lm_err err = w->doc ? LM_OK : LM_E_NOMEM;
    if (!err && !(w->hash = lm_hasher_new())) err = lm_fail(ctx, LM_E_NOMEM, "out of memory: writing '%s'", path);
    if (!err) err = lm_out_open(&w->o, ctx, path);
    if (!err) {
        const uint32_t version = LM_SHARD_VERSION, bits = w->wide ? 32 : 16;
        w->doc[0] = 0;
        memcpy(w->head, "loamshrd", 8);
        memcpy(w->head + 8, &version, 4);
        memcpy(w->head + 12, &bits, 4);
        memcpy(w->head + 16, &k->vocab, 4);
        memcpy(w->head + 20, &k->eos, 4);
        memcpy(w->head + 24, &k->tok.lo, 8);
        memcpy(w->head + 32, &k->tok.hi, 8);
        err = put(w, w->head, sizeof w->head);
    }
    if (err) { lm_shard_abort(w); return err; }
    *out = w;
    return LM_OK;
}
lm_err lm_shard_add(lm_shard_out *w, const int32_t *ids, size_t n) {
    w->n_tokens += (int64_t)n;
    if (w->wide) return put(w, ids, n * sizeof *ids);
    for (size_t k; n; n -= k, ids += k) {
        k = n < BLOCK ? n : BLOCK;
        for (size_t i = 0; i < k; i++) w->narrow[i] = (uint16_t)ids[i];
        LM_TRY(put(w, w->narrow, k * sizeof *w->narrow));
    }
    return LM_OK;
}
lm_err lm_shard_end_doc(lm_shard_out *w, int64_t bytes) {
    if (w->n_docs + 1 == w->cap) {
        int64_t *p = lm_realloc(w->ctx, LM_MEM_DATA, w->doc, (size_t)w->cap * 2 * sizeof *p);
        if (!p) return LM_E_NOMEM;
        w->doc = p;
        w->cap *= 2;
    }
    w->doc[++w->n_docs] = w->n_tokens;
    w->n_bytes += bytes;
    return LM_OK;
}
lm_shard_sum lm_shard_so_far(const lm_shard_out *w) { return (lm_shard_sum){ .tokens = w->n_tokens, .docs = w->n_docs, .bytes = w->n_bytes }; }

static lm_err finish(lm_shard_out *w, lm_shard_sum *sum) {
    static const uint8_t zero[8];
    size_t over = (size_t)w->n_tokens * (w->wide ? 4 : 2) % 8;
    if (over) LM_TRY(put(w, zero, 8 - over));
    LM_TRY(put(w, w->doc, (size_t)(w->n_docs + 1) * sizeof *w->doc));
    lm_hash128_t all = lm_hasher_get(w->hash);
    uint8_t b[LM_SHARD_HEAD + LM_SHARD_TAIL] = {0}, *t = b + LM_SHARD_HEAD;
    memcpy(b, w->head, LM_SHARD_HEAD);
    memcpy(t, "loamtail", 8);
    memcpy(t + 8, &w->n_tokens, 8);
    memcpy(t + 16, &w->n_docs, 8);
    memcpy(t + 24, &w->n_bytes, 8);
    memcpy(t + 32, &all.lo, 8);
    memcpy(t + 40, &all.hi, 8);
    lm_hash128_t own = lm_hash128(b, sizeof b - 16);
    memcpy(t + LM_SHARD_TAIL - 16, &own.lo, 8);
    memcpy(t + LM_SHARD_TAIL - 8, &own.hi, 8);
    LM_TRY(lm_out_write(w->o, t, LM_SHARD_TAIL));
    *sum = (lm_shard_sum){ w->n_tokens, w->n_docs, w->n_bytes, lm_out_tell(w->o), all };
    return LM_OK;
}
lm_err lm_shard_finish(lm_shard_out *w, lm_shard_sum *sum) {
    lm_shard_sum s;
    lm_err err = finish(w, &s);
    if (!err) {
        err = lm_out_commit(w->o);
        w->o = NULL;
    }
    lm_shard_abort(w);
    if (!err) *sum = s;
    return err;
}
