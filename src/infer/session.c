/* session.c — a timeline: its tokens and its pages; forking, truncating, saving. */
#include <string.h>
#include "base/file.h"
#include "infer/infer_int.h"
#include "quant/quant.h"

lm_err lm_session_new(lm_session **out, lm_engine *e) {
    lm_session *s = lm_calloc(e->ctx, LM_MEM_KV, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->e = e;
    s->page = lm_alloc(e->ctx, LM_MEM_KV, (size_t)e->pages_per_seq * sizeof *s->page);
    s->id = lm_alloc(e->ctx, LM_MEM_KV, (size_t)e->pages_per_seq * LM_KV_PAGE * sizeof *s->id);
    if (!s->page || !s->id) { lm_session_free(s); return LM_E_NOMEM; }
    *out = s; return LM_OK;
}
static void drop_page(lm_engine *e, int32_t p) { if (!--e->refs[p]) e->free_page[e->n_free++] = p; }
void lm_session_free(lm_session *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n_page; i++) drop_page(s->e, s->page[i]);
    lm_free(s->e->ctx, s->page); lm_free(s->e->ctx, s->id); lm_free(s->e->ctx, s);
}
int64_t lm_session_len(const lm_session *s) { return s->n; }
const int32_t *lm_session_ids(const lm_session *s) { return s->id; }
/* Bytes of one page in a state: page p is there at p times as many. */
static size_t page_bytes(const lm_engine *e, int state) {
    lm_tensor t; size_t all = 0;
    lm_store_name(e->kv, state, &t);
    lm_storage_bytes((lm_dtype)t.dtype, t.quant, LM_PLAIN, t.rank, t.dim, &all);
    return all / (size_t)t.dim[0];
}
/* A page of one's own, with the contents of the shared one. */
static lm_err own_page(lm_session *s, int64_t i) {
    lm_engine *e = s->e;
    int32_t old = s->page[i];
    if (e->refs[old] == 1) return LM_OK;
    if (!e->n_free) return lm_fail(e->ctx, LM_E_NOMEM, "the key-value pool is full: no page for a copy");
    int32_t now = e->free_page[--e->n_free];
    e->refs[now] = 1; e->refs[old]--; s->page[i] = now;
    for (int k = 0; k < lm_store_count(e->kv); k++) {
        if (!lm_engine_pool(e, k)) continue;
        const size_t n = page_bytes(e, k);
        LM_TRY(lm_store_move(e->kv, k, (size_t)now * n, (size_t)old * n, n));
    }
    return LM_OK;
}
lm_err lm_session_fork(const lm_session *s, lm_session **out) {
    lm_session *t;
    LM_TRY(lm_session_new(&t, s->e));
    memcpy(t->page, s->page, (size_t)s->n_page * sizeof *s->page); memcpy(t->id, s->id, (size_t)s->n * sizeof *s->id);
    t->n = s->n; t->n_page = s->n_page;
    for (int64_t i = 0; i < t->n_page; i++) s->e->refs[t->page[i]]++;
    lm_err err = t->n % LM_KV_PAGE ? own_page(t, t->n_page - 1) : LM_OK;
    if (err) { lm_session_free(t); return err; }
    *out = t; return LM_OK;
}
void lm_session_drop(lm_session *s, int64_t n) {
    while (s->n_page > lm_ceil_div(n, LM_KV_PAGE)) drop_page(s->e, s->page[--s->n_page]);
    s->n = n;
}
lm_err lm_session_truncate(lm_session *s, int64_t n) {
    if (n < 0 || n > s->n) return lm_fail(s->e->ctx, LM_E_RANGE, "cannot cut a session of %lld tokens to %lld", (long long)s->n, (long long)n);
    if (n % LM_KV_PAGE) LM_TRY(own_page(s, n / LM_KV_PAGE));             /* the rest of it will be written over */
    lm_session_drop(s, n);
    return LM_OK;
}

/* ---- files: "loamkv2", then the shape and the model that must agree, then ids, then pages by state -------------------------------------- */
typedef struct { char magic[8]; int64_t vocab, n_layer, n_kv, d_head, kv_dtype, n, page_bytes, states; uint64_t model, hash; } header;
static header describe(const lm_session *s) {
    const lm_engine *e = s->e;
    header h = { .magic = "loamkv2",
                 .vocab = e->cfg.vocab,
                 .n_layer = e->n_kv_layer,
                 .n_kv = e->cfg.n_kv,
                 .d_head = e->cfg.d_head,
                 .kv_dtype = e->o.kv == LM_QUANT ? 256 + e->o.kv_quant->gguf_id : (int64_t)e->o.kv,
                 .n = s->n };
    for (int k = 0; k < lm_store_count(e->kv); k++) if (lm_engine_pool(e, k)) { h.states++; h.page_bytes += (int64_t)page_bytes(e, k); }
    return h;
}
/* One state's part of each page, hashed or written. */
static lm_err each_page(const lm_session *s, char *buf, uint64_t *hash, lm_out *o) {
    const lm_engine *e = s->e;
    for (int64_t i = 0; i < s->n_page; i++)
        for (int k = 0; k < lm_store_count(e->kv); k++) {
            if (!lm_engine_pool(e, k)) continue;
            const size_t n = page_bytes(e, k);
            LM_TRY(lm_store_read(e->kv, k, (size_t)s->page[i] * n, buf, n));
            if (o) LM_TRY(lm_out_write(o, buf, n)); else *hash = lm_hash64(buf, n, *hash);
        }
    return LM_OK;
}
static char *page_buf(const lm_engine *e) {
    size_t most = 1;
    for (int k = 0; k < lm_store_count(e->kv); k++) if (lm_engine_pool(e, k) && page_bytes(e, k) > most) most = page_bytes(e, k);
    return lm_alloc(e->ctx, LM_MEM_IO, most);
}
lm_err lm_session_save(const lm_session *s, const char *path) {
    lm_ctx *ctx = s->e->ctx;
    header h = describe(s);
    LM_TRY(lm_engine_model(s->e, &h.model));
    h.hash = lm_hash64(s->id, (size_t)s->n * sizeof *s->id, 0);
    char *buf = page_buf(s->e);
    if (!buf) return LM_E_NOMEM;
    lm_out *o = NULL;
    lm_err err;
    LM_GOTO(each_page(s, buf, &h.hash, NULL), done);
    LM_GOTO(lm_out_open(&o, ctx, path), done);
    LM_GOTO(lm_out_write(o, &h, sizeof h), done);
    LM_GOTO(lm_out_write(o, s->id, (size_t)s->n * sizeof *s->id), done);
    LM_GOTO(each_page(s, buf, &h.hash, o), done);
    err = lm_out_commit(o);
    o = NULL;
done:
    if (o) lm_out_abort(o);
    lm_free(ctx, buf);
    return err;
}
lm_err lm_session_load(lm_session **out, lm_engine *e, const char *path) {
    lm_ctx *ctx = e->ctx;
    lm_file *f;
    LM_TRY(lm_file_open(&f, ctx, path));
    lm_session *s = NULL;
    char *buf = NULL;
    lm_err err;
    header h;
    LM_GOTO(lm_file_pread(f, &h, sizeof h, 0), fail);
    LM_GOTO(lm_session_new(&s, e), fail);
    header want = describe(s);
    if (memcmp(h.magic, want.magic, 8)) { err = lm_fail(ctx, LM_E_FORMAT, "%s is not a saved session", path); goto fail; }
    if (h.vocab != want.vocab || h.n_layer != want.n_layer || h.n_kv != want.n_kv || h.d_head != want.d_head ||
        h.kv_dtype != want.kv_dtype || h.page_bytes != want.page_bytes || h.states != want.states) {
        err = lm_fail(ctx, LM_E_MISMATCH, "%s was saved from another model or with another key-value dtype", path); goto fail;
    }
    LM_GOTO(lm_engine_model(e, &want.model), fail);
    if (h.model != want.model) {
        err = lm_fail(ctx, LM_E_MISMATCH, "%s was saved from a model of this shape with other weights", path); goto fail;
    }
    if (h.n < 0 || h.n > e->o.context) {
        err = lm_fail(ctx, LM_E_RANGE, "%s holds %lld tokens, the context is %lld", path, (long long)h.n, (long long)e->o.context);
        goto fail;
    }
    int64_t pages = lm_ceil_div(h.n, LM_KV_PAGE), size = (int64_t)sizeof h + h.n * 4 + pages * h.page_bytes, at = (int64_t)sizeof h;
    if (lm_file_size(f) != size) {
        err = lm_fail(ctx, LM_E_FORMAT, "%s has %lld bytes, a session of %lld tokens has %lld", path, (long long)lm_file_size(f),
                      (long long)h.n, (long long)size);
        goto fail;
    }
    if (pages > e->n_free) {
        err = lm_fail(ctx, LM_E_NOMEM, "the key-value pool is full: %lld pages are needed, %lld are free", (long long)pages,
                      (long long)e->n_free);
        goto fail;
    }
    LM_GOTO(lm_file_pread(f, s->id, (size_t)h.n * sizeof *s->id, at), fail);
    at += h.n * 4;
    uint64_t hash = lm_hash64(s->id, (size_t)h.n * sizeof *s->id, 0);
    for (int64_t i = 0; i < h.n; i++)
        if (s->id[i] < 0 || s->id[i] >= e->cfg.vocab) {
            err = lm_fail(ctx, LM_E_FORMAT, "%s: token id %d is outside the vocabulary", path, s->id[i]);
            goto fail;
        }
    if (!(buf = page_buf(e))) { err = LM_E_NOMEM; goto fail; }
    for (int64_t i = 0; i < pages; i++) {
        int32_t p = e->free_page[--e->n_free];
        e->refs[p] = 1; s->page[s->n_page++] = p;
        for (int k = 0; k < lm_store_count(e->kv); k++) {
            if (!lm_engine_pool(e, k)) continue;
            const size_t n = page_bytes(e, k);
            LM_GOTO(lm_file_pread(f, buf, n, at), fail);
            LM_GOTO(lm_store_write(e->kv, k, (size_t)p * n, buf, n), fail);
            at += (int64_t)n; hash = lm_hash64(buf, n, hash);
        }
    }
    if (hash != h.hash) { err = lm_fail(ctx, LM_E_FORMAT, "%s is damaged: its hash does not agree", path); goto fail; }
    s->n = h.n;
    lm_file_close(f); lm_free(ctx, buf);
    *out = s; return LM_OK;
fail:
    lm_session_free(s); lm_file_close(f); lm_free(ctx, buf);
    return err;
}
