/* norm.c — normalizers: text to text, before anything is split.
 *
 * Unicode normal forms come from utf8proc, which is given only the stretches that can change: for NFC a character that may move with the one before
 * it, for the other forms what is not ASCII. Characters whose combining class or decomposition is younger than Unicode 9 are kept as they are,
 * because the normalizers that models were trained with do so. */
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

static bool after9(uint32_t c) {
    int lo = 0, hi = lm_uc_n_after9;
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (lm_uc_after9[mid].hi < c) lo = mid + 1;
        else hi = mid;
    }
    return lo < lm_uc_n_after9 && lm_uc_after9[lo].lo <= c;
}

/* NFC: only characters of LM_UC_NFC and the one before them can change. */
static lm_err nfc(lm_ctx *ctx, const uint8_t *p, size_t n, lm_str *out) {
    size_t copied = 0, before = 0;                         /* before: where the character before i begins */
    int k = 0;
    for (size_t i = 0; i < n; before = i, i += (size_t)k) {
        if (p[i] < 0xcc) { k = p[i] < 0x80 ? 1 : 2; continue; }          /* below U+0300 */
        if (!(lm_uc(lm_utf8_get(p + i, &k)) & LM_UC_NFC)) continue;
        size_t s = i, e = i;
        if (i > copied) {
            s = before;
            if (after9(lm_utf8_get(p + s, &k))) s = i;
        }
        while (e < n && lm_uc(lm_utf8_get(p + e, &k)) & LM_UC_NFC) e += (size_t)k;
        lm_str_add(out, p + copied, s - copied);
        LM_TRY(normal_form(ctx, LM_NORM_NFC, p + s, e - s, out));
        copied = i = e;
        k = 0;
    }
    lm_str_add(out, p + copied, n - copied);
    return LM_OK;
}

/* The other forms: stretches of characters that are not ASCII, each with the ASCII character before it, cut at characters of after9(). */
static lm_err unicode_form(lm_ctx *ctx, lm_norm_kind kind, const uint8_t *p, size_t n, lm_str *out) {
    size_t copied = 0, i = 0;
    int k;
    while (i < n) {
        if (p[i] < 0x80) { i++; continue; }
        size_t s = i > copied ? i - 1 : i;
        lm_str_add(out, p + copied, s - copied);
        while (i < n && p[i] >= 0x80) {
            bool alone = after9(lm_utf8_get(p + i, &k));
            if (alone) {
                LM_TRY(normal_form(ctx, kind, p + s, i - s, out));
                lm_str_add(out, p + i, (size_t)k);
                s = i + (size_t)k;
            }
            i += (size_t)k;
        }
        LM_TRY(normal_form(ctx, kind, p + s, i - s, out));
        copied = i;
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

lm_err lm_norm_run(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, bool prepend, lm_str *out) {
    lm_str *two[2] = { out, &s->raw };
    int to = t->n_norm % 2 ? 0 : 1;                        /* so that the last one writes to out */
    for (int i = 0; i < t->n_norm; i++, to = !to) {
        const lm_tok_norm *m = &t->norm[i];
        lm_str *o = two[to];
        lm_str_clear(o);
        switch (m->kind) {
        case LM_NORM_NFC: LM_TRY(nfc(ctx, p, n, o)); break;
        case LM_NORM_NFD: case LM_NORM_NFKC: case LM_NORM_NFKD: LM_TRY(unicode_form(ctx, m->kind, p, n, o)); break;
        case LM_NORM_PREPEND: if (n && prepend) lm_str_add(o, m->a, m->a_n); lm_str_add(o, p, n); break;
        case LM_NORM_REPLACE: LM_TRY(replace(m, s, ctx, p, n, o)); break;
        case LM_NORM_STRIP: strip(p, n, m->left, m->right, o); break;
        case LM_NORM_BYTES: lm_bytes_to_text(p, n, o); break;
        case LM_NORM_CLEAN: lm_bert_clean(p, n, m->left, m->right, o); break;
        case LM_NORM_UNMARK: lm_bert_unmark(p, n, o); break;
        case LM_NORM_LOWER: lm_lower_run(p, n, o); break;
        }
        if (o->bad) return lm_fail(ctx, LM_E_NOMEM, "out of memory: normalizing %zu bytes", n);
        p = (const uint8_t *)o->p;
        n = o->n;
        if (!p) p = (const uint8_t *)"";
    }
    return LM_OK;
}
