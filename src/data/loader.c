/* loader.c — sequence number i, out of nothing but (seed, i):
 *
 *   i → source s and its k-th draw (mix.h) → epoch e = k / windows, place j = k mod windows → window permute(seed, s, e; j) → ids, targets, documents
 *
 * Window w of a source is its tokens w*T … w*T+T-1, each with the token after it as target. A rest of less than T tokens at the end of a
 * source is left out. */
#include "data/data_int.h"
#include "data/mix.h"
#include <string.h>

typedef struct { const lm_shards *shards; int64_t first, end, windows; lm_rng rng; } source;
struct lm_loader {
    lm_ctx *ctx;
    source *src; int n;
    lm_mix mix;
    int64_t seq, epoch;
    bool mask_docs, shuffle;
};

/* ---- batches ------------------------------------------------------------------------------------------------------ */
lm_err lm_batch_alloc(lm_ctx *ctx, lm_batch *b, int64_t n_seq, int64_t seq) {
    if (n_seq < 1 || seq < 1 || n_seq > INT32_MAX / seq)
        return lm_fail(ctx, LM_E_RANGE, "a batch of %lld sequences of %lld tokens: wanted at least one and less than 2^31 tokens",
                       (long long)n_seq, (long long)seq);
    int64_t n = n_seq * seq;
    int32_t *p = lm_calloc(ctx, LM_MEM_DATA, (size_t)n, 4 * sizeof *p);
    if (!p) return LM_E_NOMEM;
    *b = (lm_batch){ .n_seq = n_seq, .seq = seq, .n = n, .tokens = p, .target = p + n, .pos = p + 2 * n, .start = p + 3 * n };
    return LM_OK;
}
void lm_batch_free(lm_ctx *ctx, lm_batch *b) {
    lm_free(ctx, b->tokens);
    *b = (lm_batch){0};
}

/* ---- the loader --------------------------------------------------------------------------------------------------- */
static lm_err set_source(lm_loader *l, int i, const lm_source *from, uint64_t seed) {
    int64_t all = lm_shards_tokens(from->shards), first = from->first, count = from->count ? from->count : all - first;
    if (first < 0 || count < 0 || first > all || count > all - first)
        return lm_fail(l->ctx, LM_E_RANGE, "source %d: %lld tokens from %lld on are wanted, there are %lld", i, (long long)count,
                       (long long)first, (long long)all);
    if (count < l->seq)
        return lm_fail(l->ctx, LM_E_DATA, "source %d has %lld tokens: not one sequence of %lld", i, (long long)count, (long long)l->seq);
    lm_rng r = lm_rng_of(seed, "data order");
    r.stream = lm_hash64(&i, sizeof i, r.stream);
    l->src[i] = (source){ from->shards, first, first + count, count / l->seq, r };
    l->epoch += l->src[i].windows;
    return LM_OK;
}
lm_err lm_loader_new(lm_loader **out, lm_ctx *ctx, const lm_loader_opts *o) {
    if (o->seq < 1 || o->seq > INT32_MAX) return lm_fail(ctx, LM_E_CONFIG, "sequences of %lld tokens: wanted at least 1", (long long)o->seq);
    if (o->n_source < 1 || o->n_source > LM_MIX_SOURCES)
        return lm_fail(ctx, LM_E_CONFIG, "%d data sources; wanted 1 to %d", o->n_source, (int)LM_MIX_SOURCES);
    lm_loader *l = lm_calloc(ctx, LM_MEM_DATA, 1, sizeof *l);
    if (!l) return LM_E_NOMEM;
    *l = (lm_loader){ .ctx = ctx, .n = o->n_source, .seq = o->seq, .mask_docs = o->mask_docs, .shuffle = o->shuffle };
    l->src = lm_calloc(ctx, LM_MEM_DATA, (size_t)o->n_source, sizeof *l->src);
    double *w = l->src ? lm_calloc(ctx, LM_MEM_DATA, (size_t)o->n_source, sizeof *w) : NULL;
    lm_err err = w ? LM_OK : LM_E_NOMEM;
    for (int i = 0; i < o->n_source && !err; i++) {
        err = set_source(l, i, &o->sources[i], o->seed);
        w[i] = o->sources[i].weight;
    }
    if (!err) err = lm_mix_new(ctx, w, o->n_source, &l->mix);
    lm_free(ctx, w);
    if (err) { lm_loader_free(l); return err; }
    *out = l;
    return LM_OK;
}
void lm_loader_free(lm_loader *l) {
    if (!l) return;
    lm_mix_free(l->ctx, &l->mix);
    lm_free(l->ctx, l->src);
    lm_free(l->ctx, l);
}
int64_t lm_loader_epoch_seqs(const lm_loader *l) { return l->epoch; }

/* First token of sequence i. */
static int64_t window_of(const lm_loader *l, uint64_t i, const source **src) {
    uint64_t k;
    const source *s = *src = &l->src[lm_mix_at(&l->mix, i, &k)];
    uint64_t n = (uint64_t)s->windows, epoch = k / n, w = k % n;
    if (l->shuffle) {
        lm_rng r = s->rng;
        r.stream = lm_hash64(&epoch, sizeof epoch, r.stream);
        w = lm_rng_permute(r, w, n);
    }
    return s->first + (int64_t)w * l->seq;
}
/* Rows t0 … t1-1 of a window are one document, as far as it is in the window. */
static void one_doc(lm_batch *b, int64_t row, int64_t t0, int64_t t1) {
    int32_t *restrict pos = b->pos + row, *restrict start = b->start + row;
    for (int32_t t = (int32_t)t0; t < (int32_t)t1; t++) { pos[t] = t - (int32_t)t0; start[t] = (int32_t)(row + t0); }
}
static void mark_docs(const lm_shards *s, lm_batch *b, int64_t row, int64_t at, int64_t seq) {
    int seg = lm_seg_of(s, at);
    const lm_seg *g = &s->seg[seg];
    int64_t d = lm_shard_doc_of(&g->s, at - g->first);
    for (int64_t t = 0; t < seq;) {
        int64_t end = g->first + g->s.doc[d + 1] - at;     /* of the document, in rows of the window */
        if (end > t) {
            one_doc(b, row, t, lm_min64(end, seq));
            if (end <= seq) b->target[row + end - 1] = -1;  /* what follows is of another document */
            t = end;
        }
        for (d++; d == g->s.n_docs && t < seq; d = 0) g = &s->seg[++seg];
    }
}
static lm_err fill_row(const lm_loader *l, lm_batch *b, int64_t r, uint64_t i) {
    const source *src;
    const int64_t seq = l->seq, row = r * seq, at = window_of(l, i, &src);
    int32_t *x = b->tokens + row, *y = b->target + row;
    LM_TRY(lm_shards_get(src->shards, at, seq, x));
    memcpy(y, x + 1, (size_t)(seq - 1) * sizeof *y);
    y[seq - 1] = -1;
    if (at + seq < src->end) LM_TRY(lm_shards_get(src->shards, at + seq, 1, &y[seq - 1]));
    if (l->mask_docs) mark_docs(src->shards, b, row, at, seq);
    else one_doc(b, row, 0, seq);
    int64_t n = 0;
    for (int64_t t = 0; t < seq; t++) n += y[t] >= 0;
    b->n_target += n;
    return LM_OK;
}
lm_err lm_loader_fill(const lm_loader *l, lm_batch *b, uint64_t first) {
    if (b->seq != l->seq)
        return lm_fail(l->ctx, LM_E_SHAPE, "a batch of sequences of %lld tokens, the loader makes %lld", (long long)b->seq,
                       (long long)l->seq);
    if (first > UINT64_MAX - (uint64_t)b->n_seq) return lm_fail(l->ctx, LM_E_RANGE, "sequence number %llu is too large", (unsigned long long)first);
    b->n_target = 0;
    for (int64_t r = 0; r < b->n_seq; r++) LM_TRY(fill_row(l, b, r, first + (uint64_t)r));
    return LM_OK;
}
