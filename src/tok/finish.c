/* finish.c — from what a loader filled to a tokenizer that works. */
#define _GNU_SOURCE 1      /* memmem */
#include "tok/tok_int.h"

/* The bytes a token stands for, appended to the blob (or shared with its text). */
static lm_err piece_of(lm_tok *t, int32_t id) {
    lm_tok_one *o = &t->tok[id];
    size_t n;
    const char *s = lm_tok_text_of(t, id, &n);
    o->piece = o->text;
    o->piece_n = o->text_n;
    if (o->type == LM_TOK_NONE || o->type == LM_TOK_CONTROL || o->type == LM_TOK_UNKNOWN) return LM_OK;
    /* an added token stands for its own text */
    if (o->added && (t->byte_level || !(t->added[o->added - 1].flags & LM_ADDED_EXACT))) return LM_OK;
    if (o->type == LM_TOK_BYTE) {
        char b = (char)lm_tok_byte_token(s, n);
        o->piece = (uint32_t)t->blob.n;
        o->piece_n = 1;
        lm_str_putc(&t->blob, b);
        return lm_str_err(&t->blob);
    }
    if (t->wp_prefix) {
        lm_str b = { .ctx = t->ctx };
        lm_wordpiece_piece(t, s, n, &b);
        lm_err err = lm_str_err(&b);
        if (!err) {
            o->piece = (uint32_t)t->blob.n; o->piece_n = (uint32_t)b.n;
            lm_str_add(&t->blob, b.p, b.n);
            err = lm_str_err(&t->blob);
        }
        lm_str_free(&b);
        return err;
    }
    if (t->byte_level) {
        lm_str b = { .ctx = t->ctx };
        bool ok = lm_text_to_bytes(s, n, &b);
        lm_err err = lm_str_err(&b);
        if (!err && ok) {
            o->piece = (uint32_t)t->blob.n;
            o->piece_n = (uint32_t)b.n;
            lm_str_add(&t->blob, b.p, b.n);
            err = lm_str_err(&t->blob);
        } else o->raw = true;
        lm_str_free(&b);
        return err;
    }
    if (!t->dec_from || !memmem(s, n, t->dec_from, strlen(t->dec_from))) return LM_OK;
    size_t from_n = strlen(t->dec_from), to_n = strlen(t->dec_to), at = 0;
    lm_str b = { .ctx = t->ctx };
    for (const char *x; at < n && (x = memmem(s + at, n - at, t->dec_from, from_n)); at = (size_t)(x - s) + from_n) {
        lm_str_add(&b, s + at, (size_t)(x - s) - at);
        lm_str_add(&b, t->dec_to, to_n);
    }
    lm_str_add(&b, s + at, n - at);
    lm_err err = lm_str_err(&b);
    if (!err) {
        o->piece = (uint32_t)t->blob.n;
        o->piece_n = (uint32_t)b.n;
        lm_str_add(&t->blob, b.p, b.n);
        err = lm_str_err(&t->blob);
    }
    lm_str_free(&b);
    return err;
}

static lm_err pieces(lm_tok *t) {
    for (int32_t id = 0; id < t->n_all; id++) {
        if (t->blob.n > UINT32_MAX - 4 * LM_TOK_MAX_PIECE) return lm_fail(t->ctx, LM_E_FORMAT, "%s: more than 4 GiB of tokens", t->name);
        LM_TRY(piece_of(t, id));
    }
    return LM_OK;
}

static void byte_ids(lm_tok *t) {
    for (int b = 0; b < 256; b++) {
        if (t->byte_level) {
            uint8_t c = (uint8_t)b;
            t->byte_id[b] = lm_tok_find_key(t, &c, 1);
        } else if (t->byte_fallback) {
            char s[] = "<0x00>";
            s[3] = "0123456789ABCDEF"[b >> 4];
            s[4] = "0123456789ABCDEF"[b & 15];
            t->byte_id[b] = lm_tok_find_text(t, s, 6);
        }
    }
}

/* U+2581 separates words if no merge joins something else with a U+2581 behind it; then words can be merged (and cached) one by one. */
static bool meta_separates(const lm_tok *t) {
    if (t->byte_level || lm_tok_find_key(t, "\xe2\x96\x81", 3) < 0) return false;
    for (size_t i = 0; i < t->n_merge; i++) {
        size_t ln, rn;
        const char *l = lm_tok_key_of(t, t->merge[i].left, &ln), *r = lm_tok_key_of(t, t->merge[i].right, &rn);
        bool left_meta = ln >= 3 && !memcmp(l + ln - 3, "\xe2\x96\x81", 3), right_meta = rn >= 3 && !memcmp(r, "\xe2\x96\x81", 3);
        if (right_meta && !left_meta) return false;
    }
    return !t->ignore_merges;
}

static lm_err hash_all(lm_tok *t) {
    lm_hasher *h = lm_hasher_new();
    if (!h) return lm_fail(t->ctx, LM_E_NOMEM, "out of memory: hashing a tokenizer");
    uint32_t head[] = { 1,           (uint32_t)t->n_vocab, t->byte_level,         t->byte_fallback,     t->ignore_merges,
                        t->fuse_unk, (uint32_t)t->unk,     (uint32_t)t->n_prefix, (uint32_t)t->n_suffix };
    lm_hasher_add(h, head, sizeof head);
    for (int32_t id = 0; id < t->n_vocab; id++) {
        const lm_tok_one *o = &t->tok[id];
        uint32_t x[] = { o->text_n, o->type != LM_TOK_NONE, o->added ? t->added[o->added - 1].flags + 1 : 0 };
        lm_hasher_add(h, x, sizeof x);
        lm_hasher_add(h, t->blob.p + o->text, o->text_n);
    }
    for (size_t i = 0; i < t->n_merge; i++)
        if (t->merge[i].left < t->n_vocab && t->merge[i].right < t->n_vocab) lm_hasher_add(h, &t->merge[i], 2 * sizeof(int32_t));
    if (t->wp_prefix) { lm_hasher_add(h, t->wp_prefix, strlen(t->wp_prefix) + 1); lm_hasher_add(h, &t->wp_max_chars, sizeof t->wp_max_chars); }
    const char *json[] = { t->json_norm, t->json_pre, t->json_dec };
    for (int i = 0; i < LM_COUNT(json); i++) lm_hasher_add(h, json[i], strlen(json[i]) + 1);
    if (t->n_prefix) lm_hasher_add(h, t->prefix, (size_t)t->n_prefix * sizeof *t->prefix);
    if (t->n_suffix) lm_hasher_add(h, t->suffix, (size_t)t->n_suffix * sizeof *t->suffix);
    t->hash = lm_hasher_get(h);
    lm_hasher_free(h);
    return LM_OK;
}

lm_err lm_tok_finish(lm_tok *t, const lm_tok_opts *opts, bool derive) {
    if (!t->n_vocab) return lm_fail(t->ctx, LM_E_FORMAT, "%s: an empty vocabulary", t->name);
    if (!t->by_text.slot) LM_TRY(lm_tok_index_text(t));
    LM_TRY(lm_tok_compile(t));
    LM_TRY(pieces(t));
    LM_TRY(lm_tok_index_key(t));
    byte_ids(t);
    if (derive) LM_TRY(lm_tok_derive(t));
    LM_TRY(lm_tok_table(t));
    t->cut_at_meta = meta_separates(t);
    LM_TRY(lm_tok_added_build(t));
    LM_TRY(lm_tok_compile_post(t, opts));
    return hash_all(t);
}
