/* decode.c — ids to bytes, whole or as a stream. */
#include "format/cursor.h"
#include "tok/tok_int.h"

/* The bytes of one id; n = 0 for what is skipped. */
static lm_err bytes_of(const lm_tok *t, lm_ctx *ctx, int32_t id, unsigned flags, bool *begun, const char **p, size_t *n) {
    if (id < 0 || id >= t->n_vocab || t->tok[id].type == LM_TOK_NONE)
        return lm_fail(ctx, LM_E_RANGE, "%s: id %d is not in the vocabulary of %d", t->name, id, t->n_vocab);
    const lm_tok_one *o = &t->tok[id];
    bool control = o->type == LM_TOK_CONTROL || (o->added && t->added[o->added - 1].flags & LM_ADDED_SPECIAL);
    if (control && !(flags & LM_TOK_SPECIAL)) { *n = 0; *p = ""; return LM_OK; }
    *p = t->blob.p + o->piece;
    *n = o->piece_n;
    if (t->strip_first && !*begun && *n) {
        *begun = true;
        if (**p == ' ') { ++*p; --*n; }
    }
    return LM_OK;
}

lm_err lm_tok_decode(const lm_tok *t, const int32_t *id, size_t n, unsigned flags, lm_str *out) {
    size_t was = out->n;
    bool begun = false;
    for (size_t i = 0; i < n; i++) {
        const char *p;
        size_t k;
        lm_err err = bytes_of(t, out->ctx, id[i], flags, &begun, &p, &k);
        if (err) {
            if (out->p) { out->n = was; out->p[was] = 0; }
            return err;
        }
        lm_str_add(out, p, k);
    }
    return lm_str_err(out);
}

lm_tok_stream lm_tok_stream_begin(const lm_tok *t, unsigned flags) { return (lm_tok_stream){ .tok = t, .flags = flags }; }

/* Length of the start of a character at the end of p[0..n) that more bytes could complete; 0 if there is none. */
static int unfinished(const uint8_t *p, size_t n) {
    for (int k = 1; k <= 3 && (size_t)k <= n; k++) {
        uint8_t a = p[n - (size_t)k];
        if (a >= 0xc2 && a <= 0xf4) {
            int want = a < 0xe0 ? 2 : a < 0xf0 ? 3 : 4;
            if (k >= want) return 0;
            /* Fill up with the bytes that a character may continue with: well-formed then means unfinished now. */
            uint8_t c[4] = { 0 };
            memcpy(c, p + n - k, (size_t)k);
            for (int i = k; i < want; i++) c[i] = i == 1 && (a == 0xe0 || a == 0xf0) ? 0xbf : 0x80;
            return lm_utf8_len(c, (size_t)want) ? k : 0;
        }
        if (a < 0x80 || a > 0xbf) return 0;
    }
    return 0;
}

lm_err lm_tok_stream_push(lm_tok_stream *s, int32_t id, lm_str *out) {
    const char *p;
    size_t n;
    bool begun = s->begun;
    LM_TRY(bytes_of(s->tok, out->ctx, id, s->flags, &begun, &p, &n));
    size_t was = out->n;
    lm_str_add(out, s->held, (size_t)s->n_held);
    lm_str_add(out, p, n);
    LM_TRY(lm_str_err(out));
    int hold = unfinished((const uint8_t *)out->p + was, out->n - was);
    out->n -= (size_t)hold;
    memcpy(s->held, out->p + out->n, (size_t)hold);
    out->p[out->n] = 0;
    s->n_held = hold;
    s->begun = begun;
    return LM_OK;
}

lm_err lm_tok_stream_flush(lm_tok_stream *s, lm_str *out) {
    lm_str_add(out, s->held, (size_t)s->n_held);
    LM_TRY(lm_str_err(out));
    s->n_held = 0;
    s->begun = false;
    return LM_OK;
}
