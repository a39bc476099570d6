/* encode.c — text to ids: added tokens, normalizer, words, merges; then the same for many texts over the pool. */
#include "base/pool.h"
#include "format/cursor.h"
#include "tok/tok_int.h"
#include <stdatomic.h>

/* Bytes of well-formed UTF-8 at the start of p. */
static size_t good_prefix(const uint8_t *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint64_t w;
        while (n - i >= 8 && (memcpy(&w, p + i, 8), !(w & 0x8080808080808080u))) i += 8;
        if (i == n) break;
        int k = lm_utf8_len(p + i, n - i);
        if (!k) break;
        i += (size_t)k;
    }
    return i;
}

/* Words of a model that cuts before each meta symbol (finish.c proves that no merge crosses). */
static lm_err meta_words(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_buf *out) {
    size_t from = 0, i = 0;
    bool other = false;                                    /* something else than the meta symbol was seen since `from` */
    while (i < n) {
        const uint8_t *q = memchr(p + i, 0xe2, n - i);
        size_t j = q ? (size_t)(q - p) : n;
        if (j > i) other = true;
        if (j == n) break;
        bool meta = n - j >= 3 && p[j + 1] == 0x96 && p[j + 2] == 0x81;
        if (meta && other) {
            LM_TRY(lm_tok_word(t, s, ctx, p + from, j - from, n - from, out));
            from = j;
            other = false;
        }
        if (!meta) other = true;
        i = j + (meta ? 3 : 1);
    }
    return from < n ? lm_tok_word(t, s, ctx, p + from, n - from, n - from, out) : LM_OK;
}

static lm_err words(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, size_t readable, lm_tok_place at, lm_tok_buf *out) {
    if (t->fast) {
        for (const uint8_t *x = p, *end = p + n, *y; x < end; x = y) {
            y = t->fast(x, end);
            LM_TRY(lm_tok_word(t, s, ctx, x, (size_t)(y - x), readable - (size_t)(x - p), out));
        }
        return LM_OK;
    }
    if (!t->n_pre && t->cut_at_meta) return meta_words(t, s, ctx, p, n, out);
    if (!t->n_pre && t->map_at != -1) return n ? lm_tok_word(t, s, ctx, p, n, readable, out) : LM_OK;
    const uint8_t *base;
    size_t base_n;
    int which;
    LM_TRY(lm_pre_run(t, s, ctx, p, n, at, &base, &base_n, &which));
    bool mapped = t->byte_level && t->map_at < t->n_pre;
    lm_str *raw = base == (const uint8_t *)s->raw.p ? &s->text[1] : &s->raw;
    for (int64_t i = 0; i < s->n_span[which]; i++) {
        lm_tok_span v = s->span[which][i];
        const uint8_t *w = base + v.s;
        size_t k = v.e - v.s, left = base_n - v.s;
        if (mapped) {
            lm_str_clear(raw);
            if (!lm_text_to_bytes((const char *)w, k, raw)) return lm_fail(ctx, LM_E_INTERNAL, "%s: a word left the byte alphabet", t->name);
            if (raw->bad) return lm_fail(ctx, LM_E_NOMEM, "out of memory: splitting a text of %zu bytes", n);
            w = (const uint8_t *)raw->p;
            k = left = raw->n;
        }
        LM_TRY(lm_tok_word(t, s, ctx, w, k, left, out));
    }
    return LM_OK;
}

/* Text between added tokens of the plain kind. */
static lm_err stretch(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, size_t readable, lm_tok_place at,
                      unsigned flags, lm_tok_buf *out) {
    lm_tok_guard at_p = { NULL, NULL };
    const lm_tok_guard *guard = NULL;
    if (s->guard) { at_p = (lm_tok_guard){ s->guard->byte + (p - s->whole), s->guard->id }; guard = &at_p; }
    if (t->n_norm) {
        if (guard && t->normalized.n && memchr(guard->byte, 1, n)) flags &= ~(unsigned)LM_TOK_SPECIAL;     /* which bytes become which is lost */
        guard = NULL;
        LM_TRY(lm_norm_run(t, s, ctx, p, n, at != LM_AT_REST, &s->text[0]));
        p = (const uint8_t *)s->text[0].p;
        n = readable = s->text[0].n;
        if (!n) return LM_OK;
    }
    if (!t->normalized.n) return words(t, s, ctx, p, n, readable, at, out);
    s->n_hit[1] = 0;
    LM_TRY(lm_tok_added_cut(t, &t->normalized, ctx, p, n, flags & LM_TOK_SPECIAL, guard, &s->hit[1], &s->n_hit[1], &s->cap_hit[1]));
    for (int64_t i = 0; i < s->n_hit[1]; i++) {
        lm_tok_hit h = s->hit[1][i];
        if (h.id < 0) LM_TRY(words(t, s, ctx, p + h.s, h.e - h.s, readable - h.s, h.s ? LM_AT_PIECE : at, out));
        else {
            LM_TRY(lm_tok_room(out, 1));
            out->id[out->n++] = h.id;
        }
    }
    return LM_OK;
}

static lm_err good_text(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_place at, unsigned flags,
                        lm_tok_buf *out) {
    if (!t->plain.n) return stretch(t, s, ctx, p, n, n, at, flags, out);
    s->n_hit[0] = 0;
    lm_tok_guard at_p = { NULL, NULL };
    if (s->guard) at_p = (lm_tok_guard){ s->guard->byte + (p - s->whole), s->guard->id };
    LM_TRY(lm_tok_added_cut(t, &t->plain, ctx, p, n, flags & LM_TOK_SPECIAL, s->guard ? &at_p : NULL, &s->hit[0], &s->n_hit[0], &s->cap_hit[0]));
    for (int64_t i = 0; i < s->n_hit[0]; i++) {
        lm_tok_hit h = s->hit[0][i];
        if (h.id < 0) LM_TRY(stretch(t, s, ctx, p + h.s, h.e - h.s, n - h.s, h.s ? LM_AT_PIECE : at, flags, out));
        else {
            LM_TRY(lm_tok_room(out, 1));
            out->id[out->n++] = h.id;
        }
    }
    return LM_OK;
}

static lm_err append(lm_tok_buf *out, const int32_t *id, int n) {
    LM_TRY(lm_tok_room(out, (size_t)n));
    if (n) memcpy(out->id + out->n, id, (size_t)n * sizeof *id);
    out->n += (size_t)n;
    return LM_OK;
}

static lm_err encode(const lm_tok *t, lm_tok_scratch *s, const uint8_t *p, size_t n, unsigned flags, lm_tok_buf *out) {
    lm_ctx *ctx = out->ctx;
    if (flags & LM_TOK_ADD) LM_TRY(append(out, t->prefix, t->n_prefix));
    for (size_t at = 0; at < n;) {
        size_t good = good_prefix(p + at, n - at);
        if (good) LM_TRY(good_text(t, s, ctx, p + at, good, at ? LM_AT_REST : LM_AT_START, flags, out));
        at += good;
        if (at == n) break;
        if (!(flags & LM_TOK_RAW))
            return lm_fail(ctx, LM_E_DATA, "the text is not UTF-8 at byte %zu (0x%02x); encode it as raw bytes, or repair it first", at, p[at]);
        size_t bad = at;
        while (bad < n && !lm_utf8_len(p + bad, n - bad)) bad++;
        LM_TRY(lm_tok_word(t, s, ctx, p + at, bad - at, n - at, out));
        at = bad;
    }
    return flags & LM_TOK_ADD ? append(out, t->suffix, t->n_suffix) : LM_OK;
}

static lm_err check_flags(lm_ctx *ctx, unsigned flags) {
    return flags & ~(unsigned)(LM_TOK_ADD | LM_TOK_SPECIAL | LM_TOK_RAW)
               ? lm_fail(ctx, LM_E_CONFIG, "unknown flags 0x%x for a tokenizer", flags)
               : LM_OK;
}

lm_err lm_tok_encode_guarded(const lm_tok *t, const char *text, size_t n, const lm_tok_guard *guard, unsigned flags, lm_tok_buf *out) {
    LM_TRY(check_flags(out->ctx, flags));
    lm_tok_scratch *s;
    LM_TRY(lm_tok_scratch_get(t, out->ctx, &s));
    size_t was = out->n;
    s->guard = guard; s->whole = (const uint8_t *)text;
    lm_err err = encode(t, s, (const uint8_t *)text, n, flags, out);
    s->guard = NULL;
    if (err) out->n = was;
    lm_tok_scratch_put(t, s);
    return err;
}
lm_err lm_tok_encode(const lm_tok *t, const char *text, size_t n, unsigned flags, lm_tok_buf *out) {
    return lm_tok_encode_guarded(t, text, n, NULL, flags, out);
}

/* ---- many texts ---- */
typedef struct { int ith; size_t at; size_t n; } doc_ids;
typedef struct { lm_tok_scratch *s; lm_tok_buf ids; } worker;
typedef struct {
    const lm_tok *t;
    const lm_tok_text *docs;
    size_t n_docs, group;
    unsigned flags;
    worker *w;
    doc_ids *d;
    _Atomic int failed;                                    /* lm_err of the first failure seen */
    _Atomic size_t failed_doc;
} job;

static void many_tile(void *ud, int64_t tile, int ith) {
    job *j = ud;
    worker *w = &j->w[ith];
    size_t a = (size_t)tile * j->group, b = a + j->group < j->n_docs ? a + j->group : j->n_docs;
    for (size_t i = a; i < b && !atomic_load_explicit(&j->failed, memory_order_relaxed); i++) {
        size_t was = w->ids.n;
        lm_err err = w->s ? LM_OK : lm_tok_scratch_get(j->t, NULL, &w->s);
        if (!err) err = encode(j->t, w->s, (const uint8_t *)j->docs[i].p, j->docs[i].n, j->flags, &w->ids);
        if (err) {
            int none = LM_OK;
            if (atomic_compare_exchange_strong(&j->failed, &none, (int)err)) atomic_store(&j->failed_doc, i);
            return;
        }
        j->d[i] = (doc_ids){ ith, was, w->ids.n - was };
    }
}

lm_err lm_tok_encode_many(lm_ctx *ctx, const lm_tok *t, const lm_tok_text *docs, size_t n_docs, unsigned flags, lm_tok_buf *out, size_t *start) {
    LM_TRY(check_flags(ctx, flags));
    int nth = lm_ctx_threads(ctx);
    job j = { .t = t, .docs = docs, .n_docs = n_docs, .group = n_docs / 4096 + 1, .flags = flags };
    size_t was = out->n, total = 0;
    lm_err err = LM_OK;
    j.w = lm_calloc(ctx, LM_MEM_TOK, (size_t)nth, sizeof *j.w);
    j.d = j.w ? lm_calloc(ctx, LM_MEM_TOK, n_docs + 1, sizeof *j.d) : NULL;
    if (!j.d) { err = LM_E_NOMEM; goto done; }
    lm_pool_tiles(lm_ctx_pool(ctx), (int64_t)((n_docs + j.group - 1) / j.group), many_tile, &j);
    err = (lm_err)atomic_load(&j.failed);
    if (err) {                                             /* again, alone, for its sentence */
        size_t i = atomic_load(&j.failed_doc);
        lm_tok_buf again = { .ctx = ctx };
        lm_err e = lm_tok_encode(t, docs[i].p, docs[i].n, flags, &again);
        lm_tok_buf_free(&again);
        err = e ? lm_fail_in(ctx, e, "document %zu", i) : lm_fail(ctx, err, "document %zu: %s", i, lm_err_text(err));
        goto done;
    }
    for (size_t i = 0; i < n_docs; i++) total += j.d[i].n;
    LM_GOTO(lm_tok_room(out, total), done);
    for (size_t i = 0; i < n_docs; i++) {
        start[i] = out->n;
        if (j.d[i].n) memcpy(out->id + out->n, j.w[j.d[i].ith].ids.id + j.d[i].at, j.d[i].n * sizeof *out->id);
        out->n += j.d[i].n;
    }
    start[n_docs] = out->n;
done:
    if (err) out->n = was;
    for (int i = 0; j.w && i < nth; i++) {
        lm_tok_scratch_put(t, j.w[i].s);
        lm_tok_buf_free(&j.w[i].ids);
    }
    lm_free(ctx, j.w);
    lm_free(ctx, j.d);
    return err;
}
