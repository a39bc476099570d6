/* encode.c — a batch of documents to ids, over the pool; and a tokenizer out of documents. */
#include "data/data_int.h"

/* One by one, in order, so that each document that cannot be encoded is found. */
static lm_err one_by_one(lm_ctx *ctx, const lm_tok *tok, lm_doc_batch *b, lm_tok_buf *ids, size_t *start) {
    for (int i = 0; i < b->n; i++) {
        start[i] = ids->n;
        if (b->doc[i].bad) continue;
        lm_err e = lm_tok_encode(tok, b->doc[i].text, b->doc[i].n, 0, ids);
        if (e == LM_E_NOMEM) return lm_fail(ctx, e, "out of memory: encoding a document of %zu bytes", b->doc[i].n);
        b->doc[i].bad = e;
    }
    start[b->n] = ids->n;
    return LM_OK;
}
lm_err lm_data_encode(lm_ctx *ctx, const lm_tok *tok, lm_doc_batch *b, lm_tok_buf *ids, size_t **out) {
    lm_tok_text *text = lm_alloc(ctx, LM_MEM_DATA, (size_t)b->n * sizeof *text + 1);
    size_t *start = text ? lm_alloc(ctx, LM_MEM_DATA, ((size_t)b->n + 1) * sizeof *start) : NULL;
    lm_err err = start ? LM_OK : LM_E_NOMEM;
    for (int i = 0; i < b->n && !err; i++) text[i] = b->doc[i].bad ? (lm_tok_text){ "", 0 } : (lm_tok_text){ b->doc[i].text, b->doc[i].n };
    if (!err) err = lm_tok_encode_many(ctx, tok, text, (size_t)b->n, 0, ids, start);
    if (err && err != LM_E_NOMEM) err = one_by_one(ctx, tok, b, ids, start);
    lm_free(ctx, text);
    if (err) { lm_free(ctx, start); return err; }
    *out = start;
    return LM_OK;
}
lm_err lm_data_why(lm_ctx *ctx, const lm_tok *tok, lm_docs *d, const lm_doc *doc) {
    if (!doc->text) return lm_docs_why(d, doc);
    lm_tok_buf ids = { .ctx = ctx };
    lm_err e = lm_tok_encode(tok, doc->text, doc->n, 0, &ids);
    lm_tok_buf_free(&ids);
    return lm_docs_blame(d, doc, e ? e : doc->bad);
}

typedef struct { lm_ctx *ctx; lm_tok_trainer *t; int64_t docs; } training;
static lm_err count_words(void *ud, lm_docs *d, lm_doc_batch *b) {
    training *w = ud;
    lm_tok_text *text = lm_alloc(w->ctx, LM_MEM_DATA, (size_t)b->n * sizeof *text);
    if (!text) return LM_E_NOMEM;
    lm_err err = LM_OK;
    for (int i = 0; i < b->n && !err; i++) {
        if (b->doc[i].bad) err = lm_docs_why(d, &b->doc[i]);
        else { text[i] = (lm_tok_text){ b->doc[i].text, b->doc[i].n }; w->docs += b->doc[i].n > 0; }
    }
    if (!err) err = lm_tok_trainer_add(w->t, text, (size_t)b->n);
    lm_free(w->ctx, text);
    return err;
}
lm_err lm_data_train_tokenizer(lm_ctx *ctx, const char *path, int64_t vocab, lm_tok **out) {
    const lm_tok_train_opts o = { .vocab = vocab };
    training w = { .ctx = ctx };
    LM_TRY(lm_tok_trainer_new(ctx, &o, &w.t));
    lm_err err = lm_docs_each(ctx, path, NULL, count_words, &w);
    if (!err && !w.docs) err = lm_fail(ctx, LM_E_DATA, "%s: there is no text in it to make a tokenizer from", path);
    if (!err) err = lm_tok_trainer_finish(w.t, out);
    lm_tok_trainer_free(w.t);
    return err;
}
