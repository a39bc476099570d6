/* translate.c — see translate.h. */
#include <string.h>
#include "infer/translate.h"

enum { BEFORE = 16 };                                      /* tokens that what goes on is encoded with, for where words begin */
struct lm_translator {
    lm_ctx *ctx; const lm_tok *ours, *theirs; int32_t *our_of, *their_of; int64_t our_rows, their_rows; double shared;
    lm_str text; lm_tok_buf ids;
};

static bool written(const lm_tok *t, int32_t id) { const lm_tok_type k = lm_tok_type_of(t, id); return k == LM_TOK_NORMAL || k == LM_TOK_ADDED || k == LM_TOK_BYTE; }
const int32_t *lm_translator_ours(const lm_translator *t) { return t->our_of; }
const int32_t *lm_translator_theirs(const lm_translator *t) { return t->their_of; }
double lm_translator_shared(const lm_translator *t) { return t->shared; }
void lm_translator_free(lm_translator *t) {
    if (!t) return;
    lm_str_free(&t->text); lm_tok_buf_free(&t->ids);
    lm_free(t->ctx, t->our_of); lm_free(t->ctx, t->their_of); lm_free(t->ctx, t);
}
/* Tokens of equal bytes, by a table of our pieces; the first of several is the one. */
static lm_err pair(lm_translator *t) {
    const int32_t n = lm_tok_vocab(t->ours), m = lm_tok_vocab(t->theirs);
    size_t cap = 16, len;
    while (cap < (size_t)n * 2) cap *= 2;
    int32_t *table = lm_alloc(t->ctx, LM_MEM_TOK, cap * sizeof *table);
    if (!table) return LM_E_NOMEM;
    for (size_t i = 0; i < cap; i++) table[i] = -1;
    for (int32_t id = 0; id < n && id < t->our_rows; id++) {
        const char *p = lm_tok_piece(t->ours, id, &len);
        if (!p || !len || !written(t->ours, id)) continue;
        size_t at = lm_hash64(p, len, 0) & (cap - 1);
        while (table[at] >= 0) {
            size_t other; const char *q = lm_tok_piece(t->ours, table[at], &other);
            if (other == len && !memcmp(p, q, len)) break;
            at = (at + 1) & (cap - 1);
        }
        if (table[at] < 0) table[at] = id;
    }
    int64_t theirs = 0, both = 0;
    for (int32_t id = 0; id < m && id < t->their_rows; id++) {
        const char *p = lm_tok_piece(t->theirs, id, &len);
        if (!p || !len || !written(t->theirs, id)) continue;
        theirs++;
        for (size_t at = lm_hash64(p, len, 0) & (cap - 1); table[at] >= 0; at = (at + 1) & (cap - 1)) {
            size_t other; const char *q = lm_tok_piece(t->ours, table[at], &other);
            if (other != len || memcmp(p, q, len)) continue;
            if (t->their_of[table[at]] >= 0) break;
            t->our_of[id] = table[at]; t->their_of[table[at]] = id;
            both++;
            break;
        }
    }
    t->shared = theirs ? (double)both / (double)theirs : 0;
    lm_free(t->ctx, table);
    return LM_OK;
}
static int utf8(const unsigned char *p, size_t n) {        /* bytes of the character that begins here; 0: none does */
    const int len = p[0] < 0x80 ? 1 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;
    if (!len || (size_t)len > n) return 0;
    for (int i = 1; i < len; i++) if ((p[i] & 0xc0) != 0x80) return 0;
    return len;
}
static bool can_write(lm_translator *t, const char *text, size_t n) {
    t->ids.n = 0;
    if (lm_tok_encode(t->theirs, text, n, LM_TOK_RAW, &t->ids)) return false;
    const int32_t unk = lm_tok_unk(t->theirs);
    for (size_t i = 0; i < t->ids.n; i++) if (t->ids.id[i] == unk || t->ids.id[i] >= t->their_rows) return false;
    return true;
}
/* Every character of our pieces must be something in theirs. Pieces are encoded together: one of another script is a word of its own anyway. */
static lm_err check(lm_translator *t) {
    const int32_t n = lm_tok_vocab(t->ours);
    t->ids.ctx = NULL;                                     /* no sentences of the encoder's */
    t->text.n = 0;
    for (int32_t id = 0; id < n; id++) {
        size_t len; const char *p = lm_tok_piece(t->ours, id, &len);
        if (!p || !written(t->ours, id) || lm_tok_type_of(t->ours, id) == LM_TOK_BYTE) continue;
        bool whole = len > 0;
        for (size_t i = 0; i < len && whole;) { const int k = utf8((const unsigned char *)p + i, len - i); whole = k > 0; i += (size_t)k; }
        if (whole) { lm_str_add(&t->text, p, len); lm_str_putc(&t->text, '\n'); }
        const bool last = id + 1 == n;
        if (!t->text.n || (t->text.n < 4096 && !last)) continue;
        if (lm_str_err(&t->text)) return LM_E_NOMEM;
        bool ok = can_write(t, t->text.p, t->text.n);
        for (size_t i = 0; i < t->text.n && !ok;) {         /* which one? */
            const int k = utf8((const unsigned char *)t->text.p + i, t->text.n - i);
            if (t->text.p[i] != '\n' && !can_write(t, t->text.p + i, (size_t)k))
                return lm_fail(t->ctx, LM_E_MISMATCH, "the draft's vocabulary cannot write \"%.*s\", which the model's can: it would guess about other texts", k,
                               t->text.p + i);
            i += (size_t)k;
        }
        t->text.n = 0;
    }
    t->ids.ctx = t->ctx;
    return LM_OK;
}
lm_err lm_translator_new(lm_translator **out, lm_ctx *ctx, const lm_tok *ours, int64_t our_rows, const lm_tok *theirs, int64_t their_rows) {
    if (!strcmp(lm_tok_kind(theirs), "WordPiece") || !strcmp(lm_tok_kind(ours), "WordPiece"))
        return lm_fail(ctx, LM_E_MISMATCH, "model and draft have other vocabularies, and WordPiece does not keep where blanks were: nothing can be translated");
    lm_translator *t = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *t);
    if (!t) return LM_E_NOMEM;
    *t = (lm_translator){ .ctx = ctx, .ours = ours, .theirs = theirs, .our_rows = our_rows, .their_rows = their_rows, .text.ctx = ctx, .ids.ctx = ctx };
    lm_err err = LM_E_NOMEM;
    if (!(t->our_of = lm_alloc(ctx, LM_MEM_TOK, (size_t)lm_max64(their_rows, lm_tok_vocab(theirs)) * sizeof *t->our_of)) ||
        !(t->their_of = lm_alloc(ctx, LM_MEM_TOK, (size_t)lm_max64(our_rows, lm_tok_vocab(ours)) * sizeof *t->their_of)))
        goto fail;
    for (int64_t i = 0; i < lm_max64(their_rows, lm_tok_vocab(theirs)); i++) t->our_of[i] = -1;
    for (int64_t i = 0; i < lm_max64(our_rows, lm_tok_vocab(ours)); i++) t->their_of[i] = -1;
    LM_GOTO(check(t), fail);
    LM_GOTO(pair(t), fail);
    *out = t;
    return LM_OK;
fail:
    lm_translator_free(t);
    return err;
}
static lm_err add(lm_tok_buf *b, int32_t id) {
    if (b->n == b->cap) {
        const size_t cap = b->cap ? 2 * b->cap : 64;
        int32_t *p = lm_realloc(b->ctx, LM_MEM_TOK, b->id, cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        b->id = p; b->cap = cap;
    }
    b->id[b->n++] = id;
    return LM_OK;
}
static lm_err put_text(lm_translator *t, lm_tok_buf *out) {
    LM_TRY(lm_str_err(&t->text));
    if (t->text.n) LM_TRY(lm_tok_encode(t->theirs, t->text.p, t->text.n, LM_TOK_RAW, out));
    t->text.n = 0;
    return LM_OK;
}
lm_err lm_translate(lm_translator *t, const int32_t *ids, int64_t n, lm_tok_buf *out) {
    t->text.n = 0;
    if (lm_tok_adds_bos(t->theirs) && lm_tok_bos(t->theirs) >= 0) LM_TRY(add(out, lm_tok_bos(t->theirs)));
    for (int64_t i = 0; i < n; i++) {
        size_t len; const char *p = lm_tok_piece(t->ours, ids[i], &len);
        if (!p) continue;                                  /* a row of the embedding that is no token */
        if (written(t->ours, ids[i])) { lm_str_add(&t->text, p, len); continue; }
        LM_TRY(put_text(t, out));
        if (!i && ids[i] == lm_tok_bos(t->ours)) continue;
        const char *name = lm_tok_spelling(t->ours, ids[i], &len);
        const int32_t id = name ? lm_tok_id(t->theirs, name, len) : -1;
        if (id >= 0 && id < t->their_rows && lm_tok_type_of(t->theirs, id) == LM_TOK_CONTROL) LM_TRY(add(out, id));
    }
    return put_text(t, out);
}
/* The tokens from the end on that are `bytes` bytes; their number, or 0. */
static size_t tail(const lm_translator *t, size_t bytes) {
    size_t k = 0, len;
    while (bytes && k < t->ids.n) {
        if (!lm_tok_piece(t->ours, t->ids.id[t->ids.n - 1 - k], &len) || len > bytes) return 0;
        bytes -= len; k++;
    }
    return bytes ? 0 : k;
}
lm_err lm_translate_on(lm_translator *t, const int32_t *ids, int64_t n, const char *text, size_t bytes, lm_tok_buf *out) {
    if (!bytes) return LM_OK;
    int64_t from = n;
    while (from > 0 && n - from < BEFORE && lm_tok_piece(t->ours, ids[from - 1], &(size_t){ 0 }) && written(t->ours, ids[from - 1])) from--;
    for (;; from = n) {                                    /* after the words before; where those would be other tokens then, by itself */
        t->text.n = 0; t->ids.n = 0;
        for (int64_t i = from; i < n; i++) { size_t len; const char *p = lm_tok_piece(t->ours, ids[i], &len); lm_str_add(&t->text, p, len); }
        lm_str_add(&t->text, text, bytes);
        LM_TRY(lm_str_err(&t->text));
        LM_TRY(lm_tok_encode(t->ours, t->text.p, t->text.n, LM_TOK_RAW, &t->ids));
        const size_t k = tail(t, bytes);
        for (size_t i = t->ids.n - k; i < t->ids.n; i++) {
            if (t->ids.id[i] >= t->our_rows) return LM_OK;
            LM_TRY(add(out, t->ids.id[i]));
        }
        if (k || from == n) return LM_OK;
    }
}
