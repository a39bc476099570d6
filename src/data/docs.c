/* docs.c — see docs.h.
 *
 * One buffer holds a batch: whole records, then a tail, the beginning of the next record, which moves to the front when the next batch is asked for.
 *
 *   buf  | record | record | … | record | tail → scan → (read on here) |      records may be of several files, the tail is of the open one */
#include "base/pool.h"
#include "data/docs.h"
#include "data/stream.h"
#include "format/cursor.h"
#include "format/json.h"
#include <stdio.h>

#define CHUNK ((size_t)1 << 20)

struct lm_docs {
    lm_ctx *ctx;
    const lm_text_files *in;
    char *field;
    lm_stream *s;                         /* of in->v[cur]; NULL: not open */
    int cur;
    int64_t taken;                        /* by files that are finished */
    bool jsonl;
    int64_t line, record, offset;         /* of the tail */
    char *buf; size_t cap, have, tail, scan;
    lm_doc *doc; int n, cap_doc;
    lm_doc_at start;
};

lm_err lm_docs_open(lm_docs **out, lm_ctx *ctx, const lm_text_files *in, const char *field) {
    lm_docs *d = lm_calloc(ctx, LM_MEM_DATA, 1, sizeof *d);
    if (!d) return LM_E_NOMEM;
    d->ctx = ctx;
    d->in = in;
    if (!(d->field = lm_strdup(ctx, LM_MEM_DATA, field ? field : "text"))) { lm_free(ctx, d); return LM_E_NOMEM; }
    *out = d;
    return LM_OK;
}
static void drop_batch(lm_docs *d) {
    for (int i = 0; i < d->n; i++) lm_json_free(d->doc[i].json);
    d->n = 0;
}
void lm_docs_close(lm_docs *d) {
    if (!d) return;
    drop_batch(d);
    lm_stream_close(d->s);
    lm_free(d->ctx, d->doc);
    lm_free(d->ctx, d->buf);
    lm_free(d->ctx, d->field);
    lm_free(d->ctx, d);
}
void lm_docs_start(lm_docs *d, lm_doc_at at) {
    d->start = at;
    for (; d->cur < at.input && d->cur < d->in->n; d->cur++) d->taken += d->in->v[d->cur].size;
}
int64_t lm_docs_taken(const lm_docs *d) { return d->taken + (d->s ? lm_stream_taken(d->s) : 0); }

/* ---- one document ------------------------------------------------------------------------------------------------- */
static size_t good_utf8(const char *s, size_t n) {
    const uint8_t *p = (const uint8_t *)s;
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
/* Give doc its text, or say why not. ctx is NULL on a worker. */
static lm_err parse(const lm_docs *d, lm_ctx *ctx, lm_doc *doc) {
    size_t good = good_utf8(doc->raw, doc->raw_n);
    if (good < doc->raw_n)
        return lm_fail(ctx, LM_E_DATA, "not UTF-8 at byte %lld of the file (0x%02x)", (long long)(doc->offset + (int64_t)good),
                       (unsigned char)doc->raw[good]);
    if (!doc->line) {
        doc->text = doc->raw;
        doc->n = doc->raw_n;
        return LM_OK;
    }
    json_t *v;
    lm_err e = lm_json_parse(ctx, "JSON", doc->raw, doc->raw_n, LM_JSON_ALLOW_NUL, &v);
    if (e) return e == LM_E_NOMEM ? e : LM_E_DATA;
    lm_jv root = lm_json_root(ctx, "JSON", v);
    const char *text;
    size_t n;
    e = lm_json_str(&root, d->field, LM_JSON_NEED, NULL, &text, &n);
    if (e) { lm_json_free(v); return e == LM_E_NOMEM ? e : LM_E_DATA; }
    doc->json = v;
    doc->text = text;
    doc->n = n;
    return LM_OK;
}
lm_err lm_docs_blame(lm_docs *d, const lm_doc *doc, lm_err code) {
    const char *path = d->in->v[doc->at_file.input].path;
    return doc->line ? lm_fail_in(d->ctx, code, "%s:%lld", path, (long long)doc->line) : lm_fail_in(d->ctx, code, "%s", path);
}
lm_err lm_docs_why(lm_docs *d, const lm_doc *doc) {
    lm_doc again = { .raw = doc->raw, .raw_n = doc->raw_n, .line = doc->line, .offset = doc->offset };
    lm_err e = parse(d, d->ctx, &again);
    lm_json_free(again.json);
    return lm_docs_blame(d, doc, e ? e : LM_E_INTERNAL);
}
static void parse_tile(void *ud, int64_t i, int ith) {
    (void)ith;
    lm_docs *d = ud;
    d->doc[i].bad = parse(d, NULL, &d->doc[i]);
}

/* ---- records out of bytes ----------------------------------------------------------------------------------------- */
static lm_err put(lm_docs *d, size_t at, size_t n) {
    lm_doc_at where = { d->cur, d->record++ };
    if (lm_doc_before(where, d->start)) return LM_OK;
    if (d->n == d->cap_doc) {
        int cap = d->cap_doc ? 2 * d->cap_doc : 256;
        lm_doc *v = lm_realloc(d->ctx, LM_MEM_DATA, d->doc, (size_t)cap * sizeof *v);
        if (!v) return LM_E_NOMEM;
        d->doc = v;
        d->cap_doc = cap;
    }
    d->doc[d->n++] = (lm_doc){ .at_file = where, .at = at, .raw_n = n, .line = d->jsonl ? d->line : 0, .offset = d->offset };
    return LM_OK;
}
static lm_err put_line(lm_docs *d, size_t end) {
    size_t n = end - d->tail, blank = 0;
    d->line++;
    while (n && d->buf[d->tail + n - 1] == '\r') n--;
    while (blank < n && (d->buf[d->tail + blank] == ' ' || d->buf[d->tail + blank] == '\t')) blank++;
    return blank < n ? put(d, d->tail, n) : LM_OK;
}
static lm_err cut_lines(lm_docs *d) {
    for (const char *nl; d->scan < d->have && (nl = memchr(d->buf + d->scan, '\n', d->have - d->scan));) {
        size_t end = (size_t)(nl - d->buf);
        LM_TRY(put_line(d, end));
        d->offset += (int64_t)(end + 1 - d->tail);
        d->tail = d->scan = end + 1;
    }
    d->scan = d->have;
    return LM_OK;
}
static lm_err room(lm_docs *d) {
    if (d->cap - d->have >= CHUNK) return LM_OK;
    size_t cap = d->cap + d->cap / 2 + 2 * CHUNK;
    char *p = lm_realloc(d->ctx, LM_MEM_DATA, d->buf, cap);
    if (!p) return LM_E_NOMEM;
    d->buf = p;
    d->cap = cap;
    return LM_OK;
}
static bool named(const char *path, const char *suffix) {
    size_t n = lm_stream_bare(path), k = strlen(suffix);
    return n > k && !memcmp(path + n - k, suffix, k);
}
/* Open the next file and look at its first bytes. */
static lm_err begin_file(lm_docs *d) {
    const char *path = d->in->v[d->cur].path;
    LM_TRY(lm_stream_open(&d->s, d->ctx, path));
    d->line = d->record = d->offset = 0;
    d->tail = d->have;
    for (size_t got; d->have - d->tail < 4; d->have += got) {
        LM_TRY(room(d));
        LM_TRY(lm_stream_read(d->s, d->buf + d->have, CHUNK, &got));
        if (!got) break;
    }
    if (d->have - d->tail >= 3 && !memcmp(d->buf + d->tail, "\xef\xbb\xbf", 3)) { d->tail += 3; d->offset = 3; }
    d->scan = d->tail;
    d->jsonl = named(path, ".jsonl") || named(path, ".ndjson") || named(path, ".json") ||
               (!named(path, ".txt") && d->have > d->tail && d->buf[d->tail] == '{');
    return LM_OK;
}
static lm_err end_file(lm_docs *d) {
    if (d->have > d->tail) LM_TRY(d->jsonl ? put_line(d, d->have) : put(d, d->tail, d->have - d->tail));
    d->tail = d->scan = d->have;
    lm_stream_close(d->s);
    d->s = NULL;
    d->taken += d->in->v[d->cur++].size;
    return LM_OK;
}
static lm_err too_long(lm_docs *d) {
    const char *path = d->in->v[d->cur].path;
    if (d->jsonl)
        return lm_fail(d->ctx, LM_E_DATA, "%s:%lld: the line is longer than %d MiB; one JSON object a line is wanted", path,
                       (long long)d->line + 1, (int)(LM_DATA_MAX_LINE >> 20));
    return lm_fail(d->ctx, LM_E_DATA, "%s: one document of more than %d MiB; split it into files, or into JSONL lines", path,
                   (int)(LM_DATA_MAX_DOC >> 20));
}
static void to_front(lm_docs *d) {
    size_t n = d->have - d->tail;
    if (n && d->tail) memmove(d->buf, d->buf + d->tail, n);
    d->scan -= d->tail;
    d->have = n;
    d->tail = 0;
}
static lm_err gather(lm_docs *d, size_t want) {
    to_front(d);
    for (;;) {
        if (!d->s && d->cur >= d->in->n) return LM_OK;
        if (!d->s) LM_TRY(begin_file(d));
        size_t got;
        if (d->jsonl) LM_TRY(cut_lines(d));
        if (d->n && d->have >= want) return LM_OK;
        if (!d->n) to_front(d);                          /* nothing but empty lines and what is skipped */
        if (d->have - d->tail > (size_t)(d->jsonl ? LM_DATA_MAX_LINE : LM_DATA_MAX_DOC)) return too_long(d);
        LM_TRY(room(d));
        LM_TRY(lm_stream_read(d->s, d->buf + d->have, CHUNK, &got));
        d->have += got;
        if (!got) LM_TRY(end_file(d));
    }
}
lm_err lm_docs_next(lm_docs *d, size_t want, lm_doc_batch *b) {
    drop_batch(d);
    LM_TRY(gather(d, want));
    for (int i = 0; i < d->n; i++) d->doc[i].raw = d->buf + d->doc[i].at;
    lm_pool_tiles(lm_ctx_pool(d->ctx), d->n, parse_tile, d);
    for (int i = 0; i < d->n; i++)
        if (d->doc[i].bad == LM_E_NOMEM)
            return lm_fail(d->ctx, LM_E_NOMEM, "out of memory: reading %s", d->in->v[d->doc[i].at_file.input].path);
    *b = (lm_doc_batch){ d->doc, d->n };
    return LM_OK;
}

lm_err lm_docs_each(lm_ctx *ctx, const char *path, const char *field, lm_docs_fn *fn, void *ud) {
    lm_text_files in;
    lm_docs *d = NULL;
    lm_doc_batch b;
    LM_TRY(lm_text_files_find(ctx, &path, 1, &in));
    lm_err err;
    LM_GOTO(lm_docs_open(&d, ctx, &in, field), done);
    for (;;) {
        LM_GOTO(lm_docs_next(d, lm_docs_want(ctx), &b), done);
        if (!b.n) break;
        LM_GOTO(fn(ud, d, &b), done);
    }
done:
    lm_docs_close(d);
    lm_text_files_free(&in);
    return err;
}
