/* train_count.c — how often each word occurs, by all threads; sums do not depend on who counted what. */
#include "base/pool.h"
#include "format/cursor.h"
#include "tok/train.h"
#include <stdatomic.h>

static lm_err grow(lm_ctx *ctx, lm_count_table *c) {
    uint64_t size = c->w ? 2 * (c->mask + 1) : 1 << 12;
    lm_count_word *w = lm_calloc(ctx, LM_MEM_TOK, size, sizeof *w);
    if (!w) return LM_E_NOMEM;
    for (uint64_t i = 0; c->w && i <= c->mask; i++) {
        if (!c->w[i].count) continue;
        uint64_t k = c->w[i].hash & (size - 1);
        while (w[k].count) k = (k + 1) & (size - 1);
        w[k] = c->w[i];
    }
    lm_free(ctx, c->w);
    c->w = w;
    c->mask = size - 1;
    return LM_OK;
}

lm_err lm_count_add(lm_ctx *ctx, lm_count_table *c, const uint8_t *p, size_t n, int64_t count) {
    if (!c->w || 2 * c->n > c->mask) LM_TRY(grow(ctx, c));
    uint64_t h = lm_hash64(p, n, 0), i = h & c->mask;
    for (; c->w[i].count; i = (i + 1) & c->mask) {
        lm_count_word *w = &c->w[i];
        if (w->hash == h && w->n == n && !memcmp(c->blob.p + w->at, p, n)) { w->count += count; return LM_OK; }
    }
    if (n > UINT32_MAX) return LM_E_RANGE;
    size_t at = c->blob.n;
    lm_str_add(&c->blob, p, n);
    LM_TRY(lm_str_err(&c->blob));
    c->w[i] = (lm_count_word){ h, at, (uint32_t)n, count };
    c->n++;
    return LM_OK;
}

void lm_count_free(lm_ctx *ctx, lm_count_table *c) {
    lm_free(ctx, c->w);
    lm_str_free(&c->blob);
    c->w = NULL;
    c->n = c->mask = 0;
}

typedef struct {
    lm_tok_trainer *t;
    const lm_tok_text *docs;
    size_t n, group;
    lm_tok_scratch **s;                                    /* one per thread, made when needed */
    _Atomic int failed;
    _Atomic size_t failed_doc;
} job;

static lm_err count_doc(lm_tok_trainer *t, lm_count_table *c, lm_tok_scratch **s, const uint8_t *p, size_t n) {
    if (!lm_utf8_ok(p, n)) return LM_E_DATA;
    if (t->tok->fast) {
        for (const uint8_t *x = p, *end = p + n, *y; x < end; x = y) {
            y = t->tok->fast(x, end);
            LM_TRY(lm_count_add(t->ctx, c, x, (size_t)(y - x), 1));
        }
        return LM_OK;
    }
    if (!*s) LM_TRY(lm_tok_scratch_get(t->tok, NULL, s));
    const uint8_t *base;
    size_t base_n;
    int which;
    LM_TRY(lm_pre_run(t->tok, *s, t->ctx, p, n, LM_AT_START, &base, &base_n, &which));
    for (int64_t i = 0; i < (*s)->n_span[which]; i++) {
        lm_tok_span v = (*s)->span[which][i];
        LM_TRY(lm_count_add(t->ctx, c, base + v.s, v.e - v.s, 1));
    }
    return LM_OK;
}

static void tile(void *ud, int64_t k, int ith) {
    job *j = ud;
    size_t a = (size_t)k * j->group, b = a + j->group < j->n ? a + j->group : j->n;
    for (size_t i = a; i < b && !atomic_load_explicit(&j->failed, memory_order_relaxed); i++) {
        lm_err err = count_doc(j->t, &j->t->table[ith], &j->s[ith], (const uint8_t *)j->docs[i].p, j->docs[i].n);
        int none = LM_OK;
        if (err && atomic_compare_exchange_strong(&j->failed, &none, (int)err)) atomic_store(&j->failed_doc, i);
    }
}

lm_err lm_tok_trainer_add(lm_tok_trainer *t, const lm_tok_text *docs, size_t n) {
    if (t->finished) return lm_fail(t->ctx, LM_E_CONFIG, "this trainer has finished");
    job j = { .t = t, .docs = docs, .n = n, .group = n / 4096 + 1 };
    j.s = lm_calloc(t->ctx, LM_MEM_TOK, (size_t)t->n_table, sizeof *j.s);
    if (!j.s) return LM_E_NOMEM;
    lm_pool_tiles(lm_ctx_pool(t->ctx), (int64_t)((n + j.group - 1) / j.group), tile, &j);
    for (int i = 0; i < t->n_table; i++) lm_tok_scratch_put(t->tok, j.s[i]);
    lm_free(t->ctx, j.s);
    lm_err err = (lm_err)atomic_load(&j.failed);
    if (!err) return LM_OK;
    t->finished = true;                                    /* some documents are counted, some are not: of no use any more */
    size_t i = atomic_load(&j.failed_doc);
    return err == LM_E_DATA && !lm_utf8_ok(docs[i].p, docs[i].n) ? lm_fail(t->ctx, err, "document %zu is not UTF-8",
        i) : lm_fail_in(t->ctx, err, "document %zu", i);
}
