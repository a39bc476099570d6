/* str.c — the growable string, JSON escapes, nearest names. */
#include "base/base.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

/* Room for n more bytes and the final NUL. */
static bool grow(lm_str *s, size_t n) {
    size_t need;
    if (s->bad) return false;
    if (!lm_add_ok(s->n, n, &need) || !lm_add_ok(need, 1, &need)) {
        lm_fail(s->ctx, LM_E_NOMEM, "out of memory: a string of %zu and %zu bytes", s->n, n);
        s->bad = true;
        return false;
    }
    if (need <= s->cap) return true;
    size_t cap = s->cap < 64 ? 64 : s->cap;
    while (cap < need) if (!lm_mul_ok(cap, 2, &cap)) cap = need;
    char *p = lm_realloc(s->ctx, LM_MEM_MISC, s->p, cap);
    if (!p) { s->bad = true; return false; }
    s->p = p;
    s->cap = cap;
    return true;
}

void lm_str_add(lm_str *s, const void *bytes, size_t n) {
    if (!grow(s, n)) return;
    if (n) memcpy(s->p + s->n, bytes, n);
    s->n += n;
    s->p[s->n] = 0;
}

void lm_str_puts(lm_str *s, const char *text) { lm_str_add(s, text, strlen(text)); }
void lm_str_putc(lm_str *s, char c) { lm_str_add(s, &c, 1); }

void lm_str_printf(lm_str *s, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) s->bad = true;
    else if (grow(s, (size_t)n)) {
        vsnprintf(s->p + s->n, (size_t)n + 1, fmt, again);
        s->n += (size_t)n;
    }
    va_end(again);
}

void lm_str_clear(lm_str *s) {
    s->n = 0;
    if (s->p) s->p[0] = 0;
}

void lm_str_free(lm_str *s) {
    lm_free(s->ctx, s->p);
    *s = (lm_str){ .ctx = s->ctx };
}

lm_err lm_str_err(const lm_str *s) { return s->bad ? LM_E_NOMEM : LM_OK; }

/* Length of the valid UTF-8 sequence at p, or minus the length of the bad part (at least 1) that one U+FFFD stands for. */
static int utf8_at(const unsigned char *p, size_t n) {
    unsigned c = p[0], lo = 0x80, hi = 0xBF;
    int len = c < 0x80 ? 1 : c >= 0xC2 && c <= 0xDF ? 2 : c >= 0xE0 && c <= 0xEF ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (!len) return -1;
    if (c == 0xE0) lo = 0xA0;
    if (c == 0xED) hi = 0x9F;
    if (c == 0xF0) lo = 0x90;
    if (c == 0xF4) hi = 0x8F;
    for (int i = 1; i < len; i++, lo = 0x80, hi = 0xBF)
        if ((size_t)i >= n || p[i] < lo || p[i] > hi) return -i;
    return len;
}

void lm_str_json(lm_str *s, const char *text, size_t n) {
    const unsigned char *p = (const unsigned char *)text;
    lm_str_putc(s, '"');
    size_t i = 0, from = 0;               /* [from, i) is clean and not yet copied */
    while (i < n) {
        int len = utf8_at(p + i, n - i);
        bool plain = len > 1 || (len == 1 && p[i] >= 0x20 && p[i] != '"' && p[i] != '\\');
        if (plain) { i += (size_t)len; continue; }
        lm_str_add(s, p + from, i - from);
        static const char from_c[] = "\"\\\b\f\n\r\t", to_c[] = "\"\\bfnrt";
        const char *k = len == 1 && p[i] ? strchr(from_c, p[i]) : NULL;
        if (len < 0) lm_str_puts(s, "\xEF\xBF\xBD");
        else if (k) { lm_str_putc(s, '\\'); lm_str_putc(s, to_c[k - from_c]); }
        else lm_str_printf(s, "\\u%04x", p[i]);
        from = i += (size_t)(len < 0 ? -len : len);
    }
    if (n > from) lm_str_add(s, p + from, n - from);
    lm_str_putc(s, '"');
}

#define LONGEST 96
static int fold(char c) { return c == '_' ? '-' : tolower((unsigned char)c); }

/* Edits (insert, delete, replace, swap of neighbours) between a and b; both shorter than LONGEST. */
static int edits(const char *a, const char *b) {
    int row[3][LONGEST + 1], la = (int)strlen(a), lb = (int)strlen(b);
    int *before = row[0], *prev = row[1], *cur = row[2];
    for (int j = 0; j <= lb; j++) { prev[j] = j; before[j] = 0; }
    for (int i = 1; i <= la; i++) {
        cur[0] = i;
        for (int j = 1; j <= lb; j++) {
            int d = prev[j - 1] + (fold(a[i - 1]) != fold(b[j - 1]));
            if (prev[j] + 1 < d) d = prev[j] + 1;
            if (cur[j - 1] + 1 < d) d = cur[j - 1] + 1;
            if (i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) && fold(a[i - 2]) == fold(b[j - 1]) && before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            cur[j] = d;
        }
        int *t = before; before = prev; prev = cur; cur = t;
    }
    return prev[lb];
}

const char *lm_nearest(const char *word, const char *const *names, int n) {
    size_t lw = strlen(word);
    if (!lw || lw >= LONGEST) return NULL;
    const char *best = NULL;
    int best_d = 1 + (int)lw / 3;         /* farther than a third of the word is no help */
    for (int i = 0; i < n; i++) {
        size_t ln = strlen(names[i]);
        if (ln >= LONGEST) continue;
        int d = edits(word, names[i]);
        if (d >= (int)(lw > ln ? lw : ln)) continue;      /* nothing in common */
        if (d < best_d || (d == best_d && !best)) { best = names[i]; best_d = d; }
    }
    if (best) return best;
    for (int i = 0; i < n; i++)           /* an abbreviation is near too */
        if (lw >= 3 && !strncmp(word, names[i], lw)) return names[i];
    return NULL;
}
