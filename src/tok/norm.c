/* norm.c — normalizers: text to text, before anything is split.
 *
 * Unicode normal forms come from utf8proc. Only stretches that can change are given to it: a stretch begins at an ASCII character (which never
 * joins with what is before it) and holds a byte that starts a character from U+0300 on (for NFC; from U+0080 for the other forms). */
#define _GNU_SOURCE 1      /* memmem */
#include "tok/tok_int.h"
#include "tok/unicode.h"
#include <utf8proc.h>

static lm_err normal_form(lm_ctx *ctx, lm_norm_kind kind, const uint8_t *p, size_t n, lm_str *out) {
    utf8proc_option_t o = UTF8PROC_STABLE | (kind == LM_NORM_NFC || kind == LM_NORM_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE);
    if (kind == LM_NORM_NFKC || kind == LM_NORM_NFKD) o |= UTF8PROC_COMPAT;
    if (n > PTRDIFF_MAX / 32) return lm_fail(ctx, LM_E_NOMEM, "out of memory: normalizing %zu bytes", n);
    int32_t few[256], *buf = few;
    utf8proc_ssize_t k = utf8proc_decompose(p, (utf8proc_ssize_t)n, buf, LM_COUNT(few), o);
    if (k > LM_COUNT(few)) {
        buf = lm_alloc(out->ctx, LM_MEM_TOK, (size_t)(k + 1) * sizeof *buf);      /* one more: reencode ends with a NUL */
        if (!buf) return lm_fail(ctx, LM_E_NOMEM, "out of memory: normalizing %zu bytes", n);
        k = utf8proc_decompose(p, (utf8proc_ssize_t)n, buf, k, o);
    } else if (k == LM_COUNT(few)) {
        buf = lm_alloc(out->ctx, LM_MEM_TOK, (size_t)(k + 1) * sizeof *buf);
        if (!buf) return lm_fail(ctx, LM_E_NOMEM, "out of memory: normalizing %zu bytes", n);
        memcpy(buf, few, sizeof few);
    }
    if (k > 0) k = utf8proc_reencode(buf, k, o);
    if (k >= 0) lm_str_add(out, buf, (size_t)k);
    if (buf != few) lm_free(out->ctx, buf);
    return k < 0 ? lm_fail(ctx, LM_E_DATA, "normalizing failed: %s", utf8proc_errmsg(k)) : lm_str_err(out);
}

static lm_err unicode_form(lm_ctx *ctx, lm_norm_kind kind, const uint8_t *p, size_t n, lm_str *out) {
    const uint8_t low = kind == LM_NORM_NFC ? 0xcc : 0x80;    /* bytes below cannot be touched */
    size_t copied = 0, i = 0;
    while (i < n) {
        if (p[i] < low) { i++; continue; }
        size_t s = i, e = i;
        while (s > copied && p[s] >= 0x80) s--;
        while (e < n && p[e] >= 0x80) e++;
        lm_str_add(out, p + copied, s - copied);
        LM_TRY(normal_form(ctx, kind, p + s, e - s, out));
        copied = i = e;
    }
    lm_str_add(out, p + copied, n - copied);
    return LM_OK;
}

static void strip(const uint8_t *p, size_t n, bool left, bool right, lm_str *out) {
    const uint8_t *s = p, *e = p + n;
    int k;
    while (left && s < e && lm_uc_space(lm_utf8_get(s, &k))) s += k;
    while (right && e > s) {
        const uint8_t *b = lm_utf8_prev(s, e);
        if (!lm_uc_space(lm_utf8_get(b, &k))) break;
        e = b;
    }
    lm_str_add(out, s, (size_t)(e - s));
}

static lm_err replace(const lm_tok_norm *m, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_str *out) {
    size_t at = 0, from = 0, a, b;
    bool found;
    if (!m->re) {
        for (const uint8_t *x; at < n && (x = memmem(p + at, n - at, m->a, m->a_n)); at = (size_t)(x - p) + m->a_n) {
            lm_str_add(out, p + at, (size_t)(x - p) - at);
            lm_str_add(out, m->b, m->b_n);
        }
    } else while (n) {
        LM_TRY(lm_regex_next(m->re, s->re, ctx, p, n, &from, &a, &b, &found));
        if (!found) break;
        lm_str_add(out, p + at, a - at);
        lm_str_add(out, m->b, m->b_n);
        at = b;
    }
    lm_str_add(out, p + at, n - at);
    return LM_OK;
}

lm_err lm_norm_run(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_str *out) {
    lm_str *two[2] = { out, &s->raw };
    int to = t->n_norm % 2 ? 0 : 1;                        /* so that the last one writes to out */
    for (int i = 0; i < t->n_norm; i++, to = !to) {
        const lm_tok_norm *m = &t->norm[i];
        lm_str *o = two[to];
        lm_str_clear(o);
        switch (m->kind) {
        case LM_NORM_NFC: case LM_NORM_NFD: case LM_NORM_NFKC: case LM_NORM_NFKD: LM_TRY(unicode_form(ctx, m->kind, p, n, o)); break;
        case LM_NORM_PREPEND: if (n) lm_str_add(o, m->a, m->a_n); lm_str_add(o, p, n); break;
        case LM_NORM_REPLACE: LM_TRY(replace(m, s, ctx, p, n, o)); break;
        case LM_NORM_STRIP: strip(p, n, m->left, m->right, o); break;
        case LM_NORM_BYTES: lm_bytes_to_text(p, n, o); break;
        }
        if (o->bad) return lm_fail(ctx, LM_E_NOMEM, "out of memory: normalizing %zu bytes", n);
        p = (const uint8_t *)o->p;
        n = o->n;
        if (!p) p = (const uint8_t *)"";
    }
    return LM_OK;
}
