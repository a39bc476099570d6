/* jinja_str.c — strings as Python has them: counted in code points, sliced and searched without losing which byte came from where. */
#define _GNU_SOURCE 1                                               /* memmem */
#include <utf8proc.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"
#include "tok/unicode.h"
#include "chat/jinja_case.inc"

/* ---- making ---- */
static jstr *wrap(lmj *j, const char *p, size_t n) {
    static const jstr none = { .p = "" };
    jstr *s = lmj_alloc(j, sizeof *s);
    if (!s) return (jstr *)(uintptr_t)&none;
    *s = (jstr){ .p = p, .n = n, .chars = -1 };
    return s;
}
jv lmj_str_of(lmj *j, const char *p, size_t n, bool marked) {
    char *q = lmj_alloc(j, n + 1);
    jstr *s = wrap(j, q ? q : "", q ? n : 0);
    if (!q) return jv_s(s);
    if (n) memcpy(q, p, n);
    if (!j->err) s->marked = marked;                                 /* else s is the empty one of all */
    return jv_s(s);
}
jv lmj_lit(lmj *j, const char *text) { return jv_s(wrap(j, text, strlen(text))); }
jstr *lmj_sub(lmj *j, const jstr *s, size_t from, size_t to) {
    jstr *r = wrap(j, s->p + from, to - from);
    if (j->err) return r;
    r->marked = s->marked;
    if (s->mark) r->mark = s->mark + from;
    return r;
}
int64_t lmj_chars(jstr *s) {
    if (s->chars >= 0) return s->chars;
    int64_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += (s->p[i] & 0xc0) != 0x80;
    return s->chars = n;
}
size_t lmj_byte_at(jstr *s, int64_t chars) {
    if ((size_t)lmj_chars(s) == s->n) return (size_t)chars;
    size_t i = 0;
    while (chars-- > 0) { i++; while (i < s->n && (s->p[i] & 0xc0) == 0x80) i++; }
    return i;
}

/* ---- buffers ---- */
static bool room(jbuf *b, size_t more) {
    if (b->j->err) return false;
    if (b->n + more <= b->cap) return true;
    size_t cap = b->cap ? 2 * b->cap : 64;
    while (cap < b->n + more) cap *= 2;
    char *p = lmj_alloc(b->j, cap);
    uint8_t *m = b->m ? lmj_alloc(b->j, cap) : NULL;
    if (!p || (b->m && !m)) return false;
    if (b->n) { memcpy(p, b->p, b->n); if (m) memcpy(m, b->m, b->n); }
    b->p = p; b->m = m; b->cap = cap;
    return true;
}
static bool differ(jbuf *b) {                                        /* marks begin to differ from byte to byte */
    if (b->m) return true;
    if (!(b->m = lmj_alloc(b->j, b->cap))) return false;
    memset(b->m, b->marked, b->n);
    return true;
}
void lmj_put(jbuf *b, const char *p, size_t n, bool marked) {
    if (!n || !room(b, n) || !lmj_step(b->j, (int64_t)(n / 64))) return;
    if (!b->n && !b->m) b->marked = marked;
    if ((b->m || b->marked != marked) && !differ(b)) return;
    memcpy(b->p + b->n, p, n);
    if (b->m) memset(b->m + b->n, marked, n);
    b->n += n;
}
void lmj_puts(jbuf *b, const char *text) { lmj_put(b, text, strlen(text), false); }
void lmj_put_sub(jbuf *b, const jstr *s, size_t from, size_t to) {
    if (!s->mark) { lmj_put(b, s->p + from, to - from, s->marked); return; }
    if (to <= from || !room(b, to - from) || !lmj_step(b->j, (int64_t)((to - from) / 64)) || !differ(b)) return;
    memcpy(b->p + b->n, s->p + from, to - from);
    memcpy(b->m + b->n, s->mark + from, to - from);
    b->n += to - from;
}
void lmj_put_char(jbuf *b, uint32_t c, bool marked) {
    uint8_t p[4];
    const int k = lm_utf8_put(c, p);
    lmj_put(b, (const char *)p, (size_t)k, marked);
}
jv lmj_done(jbuf *b) {
    jstr *s = wrap(b->j, b->n ? b->p : "", b->n);
    if (b->j->err) return jv_s(s);
    s->mark = b->m; s->marked = b->marked;
    return jv_s(s);
}

/* ---- letters ---- */
static bool among(uint32_t c, const uint32_t (*r)[2], int n) {
    int lo = 0, hi = n;
    while (lo < hi) { const int m = (lo + hi) / 2; if (c > r[m][1]) lo = m + 1; else hi = m; }
    return lo < n && c >= r[lo][0];
}
bool lmj_space(uint32_t c) { return c < 128 ? c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x1f) : lm_uc_space(c); }
bool lmj_alpha(uint32_t c) { return lm_uc_in(c, LM_UC_SET_L); }
bool lmj_digit(uint32_t c) { return lm_uc_cat(c) == LM_UC_ND || among(c, digit_too, LM_COUNT(digit_too)); }
bool lmj_numeric(uint32_t c) { return lm_uc_in(c, LM_UC_SET_N) || among(c, numeric_too, LM_COUNT(numeric_too)); }
bool lmj_is_lower(uint32_t c) { return lm_uc_cat(c) == LM_UC_LL || among(c, lower_too, LM_COUNT(lower_too)); }
bool lmj_is_upper(uint32_t c) { return lm_uc_cat(c) == LM_UC_LU || among(c, upper_too, LM_COUNT(upper_too)); }
bool lmj_printable(uint32_t c) {
    if (c == ' ') return true;
    const unsigned not_so = LM_UC_BIT(LM_UC_CC) | LM_UC_BIT(LM_UC_CF) | LM_UC_BIT(LM_UC_CS) | LM_UC_BIT(LM_UC_CO) | LM_UC_BIT(LM_UC_CN) | LM_UC_BIT(LM_UC_ZL) |
                            LM_UC_BIT(LM_UC_ZP) | LM_UC_BIT(LM_UC_ZS);
    return !lm_uc_in(c, not_so);
}
static const uint32_t *many_of(uint32_t c, bool title) {
    int lo = 0, hi = LM_COUNT(many);
    if (c < 0xdf) return NULL;
    while (lo < hi) { const int m = (lo + hi) / 2; if (c > many[m].c) lo = m + 1; else hi = m; }
    return lo < LM_COUNT(many) && many[lo].c == c ? title ? many[lo].title : many[lo].up : NULL;
}
static int mapped(uint32_t c, const uint32_t *m, uint32_t simple, uint32_t out[3]) {
    if (!m) { out[0] = simple; return 1; }
    int n = 0;
    while (n < 3 && m[n]) { out[n] = m[n]; n++; }
    if (!n) out[n++] = c;
    return n;
}
int lmj_upper(uint32_t c, uint32_t out[3]) { return mapped(c, many_of(c, false), (uint32_t)utf8proc_toupper((utf8proc_int32_t)c), out); }
int lmj_title(uint32_t c, uint32_t out[3]) { return mapped(c, many_of(c, true), (uint32_t)utf8proc_totitle((utf8proc_int32_t)c), out); }
int lmj_lower(uint32_t c, uint32_t out[3]) {
    if (c == 0x130) { out[0] = 'i'; out[1] = 0x307; return 2; }
    out[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}
int lmj_fold(uint32_t c, uint32_t out[9]) {
    if (c < 0xb5) { out[0] = c - 'A' < 26u ? c + 32 : c; return 1; }
    int lo = 0, hi = LM_COUNT(folds);
    while (lo < hi) { const int m = (lo + hi) / 2; if (c > folds[m].c) lo = m + 1; else hi = m; }
    if (lo < LM_COUNT(folds) && folds[lo].c == c) return mapped(c, folds[lo].to, 0, out);
    uint32_t up[3];
    int n = 0;
    for (int k = 0, m = lmj_upper(c, up); k < m; k++) n += lmj_lower(up[k], out + n);
    return n;
}
static bool cased(uint32_t c) { return lmj_is_lower(c) || lmj_is_upper(c) || lm_uc_cat(c) == LM_UC_LT; }
static bool ignorable(uint32_t c) {
    return lm_uc_in(c, LM_UC_BIT(LM_UC_MN) | LM_UC_BIT(LM_UC_ME) | LM_UC_BIT(LM_UC_CF) | LM_UC_BIT(LM_UC_LM) | LM_UC_BIT(LM_UC_SK)) || c == '\'' || c == '.' ||
           c == ':' || c == 0xb7 || c == 0x2019;
}
/* A capital sigma at the end of a word. */
static bool final_sigma(const jstr *s, size_t i) {
    const uint8_t *p = (const uint8_t *)s->p;
    size_t k = i; int n; bool before = false;
    while (k) {
        const uint8_t *b = lm_utf8_prev(p, p + k);
        const uint32_t c = lm_utf8_get(b, &n);
        k = (size_t)(b - p);
        if (!ignorable(c)) { before = cased(c); break; }
    }
    if (!before) return false;
    for (k = i + 2; k < s->n; k += (size_t)n) { const uint32_t c = lm_utf8_get(p + k, &n); if (!ignorable(c)) return !cased(c); }
    return true;
}
jstr *lmj_case(lmj *j, jstr *s, int how) {
    jbuf b = { .j = j };
    bool in_word = false;
    if (!lmj_step(j, (int64_t)(s->n / 8))) return s;
    for (size_t i = 0; i < s->n && !j->err;) {
        int k;
        const uint32_t c = lm_utf8_get((const uint8_t *)s->p + i, &k);
        uint32_t to[3] = { c };
        int n = 1;
        const bool first = how == 'c' ? i == 0 : how == 't' && !in_word;
        if (how == 'u' || (how == 's' && lmj_is_lower(c))) n = lmj_upper(c, to);
        else if (first) n = lmj_title(c, to);
        else if (how != 's' || lmj_is_upper(c)) { if (c == 0x3a3) to[0] = final_sigma(s, i) ? 0x3c2 : 0x3c3; else n = lmj_lower(c, to); }
        in_word = cased(c);
        for (int q = 0; q < n; q++) lmj_put_char(&b, to[q], lmj_mark_at(s, i));
        i += (size_t)k;
    }
    return lmj_done(&b).s;
}

/* ---- methods that others stand on ---- */
static bool in_set(const jstr *set, const char *p, size_t k) {
    for (size_t i = 0; i < set->n;) {
        const size_t m = (size_t)lm_utf8_len((const uint8_t *)set->p + i, set->n - i);
        if (m == k && !memcmp(set->p + i, p, k)) return true;
        i += m ? m : 1;
    }
    return false;
}
jstr *lmj_strip(lmj *j, jstr *s, jv chars, int sides) {
    if (chars.t != JV_MISSING && chars.t != JV_NONE && chars.t != JV_STR) { lmj_fail(j, "strip arg must be None or str"); return s; }
    const jstr *set = chars.t == JV_STR ? chars.s : NULL;
    size_t a = 0, b = s->n;
    int k;
    if (!lmj_step(j, (int64_t)(s->n / 64))) return s;
    while (sides & 1 && a < b) {
        const uint32_t c = lm_utf8_get((const uint8_t *)s->p + a, &k);
        if (set ? !in_set(set, s->p + a, (size_t)k) : !lmj_space(c)) break;
        a += (size_t)k;
        if (set && !lmj_step(j, (int64_t)(set->n / 64) + 1)) return s;
    }
    while (sides & 2 && b > a) {
        const uint8_t *p = lm_utf8_prev((const uint8_t *)s->p, (const uint8_t *)s->p + b);
        const uint32_t c = lm_utf8_get(p, &k);
        if (set ? !in_set(set, (const char *)p, (size_t)k) : !lmj_space(c)) break;
        b -= (size_t)k;
        if (set && !lmj_step(j, (int64_t)(set->n / 64) + 1)) return s;
    }
    return a == 0 && b == s->n ? s : lmj_sub(j, s, a, b);
}
int64_t lmj_find(lmj *j, const jstr *s, const jstr *sub, size_t from) {
    if (from > s->n || j->err) return -1;
    if (!sub->n) return lmj_step(j, 1) ? (int64_t)from : -1;
    const char *p = memmem(s->p + from, s->n - from, sub->p, sub->n);
    const size_t seen = p ? (size_t)(p - s->p) - from : s->n - from; /* what was looked at is what is counted */
    return lmj_step(j, (int64_t)((seen + sub->n) / 64) + 1) && p ? p - s->p : -1;
}
jv lmj_replace(lmj *j, jstr *s, jstr *old, jstr *new, int64_t count) {
    jbuf b = { .j = j };
    size_t at = 0;
    for (int64_t k = 0; count < 0 || k < count; k++) {
        if (!old->n) {                                               /* between all characters */
            if (at > s->n) break;
            lmj_put_str(&b, new);
            if (at == s->n) { at++; break; }
            const size_t e = at + (size_t)lm_utf8_len((const uint8_t *)s->p + at, s->n - at);
            lmj_put_sub(&b, s, at, e);
            at = e;
        } else {
            const int64_t f = lmj_find(j, s, old, at);
            if (f < 0) break;
            lmj_put_sub(&b, s, at, (size_t)f);
            lmj_put_str(&b, new);
            at = (size_t)f + old->n;
        }
        if (!lmj_step(j, 1)) break;
    }
    if (at < s->n) lmj_put_sub(&b, s, at, s->n);
    return lmj_done(&b);
}
static size_t line_break(const jstr *s, size_t i) {
    const unsigned char c = (unsigned char)s->p[i];
    if (c == '\r') return i + 1 < s->n && s->p[i + 1] == '\n' ? 2 : 1;
    if ((c >= 10 && c <= 12) || (c >= 0x1c && c <= 0x1e)) return 1;
    if (c == 0xc2 && i + 1 < s->n && (unsigned char)s->p[i + 1] == 0x85) return 2;
    if (c == 0xe2 && i + 2 < s->n && (unsigned char)s->p[i + 1] == 0x80 && ((unsigned char)s->p[i + 2] | 1) == 0xa9) return 3;
    return 0;
}
jv lmj_splitlines(lmj *j, jstr *s, bool keep) {
    const jv l = lmj_list(j, 0);
    if (!lmj_step(j, (int64_t)(s->n / 64))) return l;
    size_t from = 0;
    for (size_t i = 0; i < s->n && !j->err;) {
        const size_t k = line_break(s, i);
        if (!k) { i++; continue; }
        lmj_push(j, l.l, jv_s(lmj_sub(j, s, from, keep ? i + k : i)));
        from = i += k;
    }
    if (from < s->n && !j->err) lmj_push(j, l.l, jv_s(lmj_sub(j, s, from, s->n)));
    return l;
}
static void turn(jlist *l) { for (int64_t a = 0, b = l->n - 1; a < b; a++, b--) { const jv t = l->v[a]; l->v[a] = l->v[b]; l->v[b] = t; } }
jv lmj_split(lmj *j, jstr *s, jv sep, int64_t max, bool right) {
    const jv l = lmj_list(j, 0);
    if (sep.t != JV_MISSING && sep.t != JV_NONE && sep.t != JV_STR) return lmj_fail(j, "must be str or None, not %s", lmj_kind(sep));
    const jstr *d = sep.t == JV_STR ? sep.s : NULL;
    if (d && !d->n) return lmj_fail(j, "empty separator");
    if (!lmj_step(j, (int64_t)(s->n / 64) + 1)) return l;
    const uint8_t *p = (const uint8_t *)s->p;
    int k;
    if (!right) {
        size_t at = 0;
        while (!j->err) {
            if (!d) while (at < s->n && lmj_space(lm_utf8_get(p + at, &k))) at += (size_t)k;
            if (!d && at == s->n) break;
            size_t e = s->n, next = s->n + 1;
            if (max < 0 || l.l->n < max) {
                if (d) { const char *f = memmem(s->p + at, s->n - at, d->p, d->n); if (f) { e = (size_t)(f - s->p); next = e + d->n; } }
                else for (e = at; e < s->n && !lmj_space(lm_utf8_get(p + e, &k)); e += (size_t)k) next = s->n + 1;
                if (!d) next = e;
            } else if (!d) { lmj_push(j, l.l, jv_s(lmj_sub(j, s, at, s->n))); break; }
            lmj_push(j, l.l, jv_s(lmj_sub(j, s, at, e)));
            if (next > s->n) break;
            at = next;
        }
        return l;
    }
    size_t end = s->n;
    while (!j->err) {
        if (!d) while (end) { const uint8_t *b = lm_utf8_prev(p, p + end); if (!lmj_space(lm_utf8_get(b, &k))) break; end = (size_t)(b - p); }
        if (!d && !end) break;
        size_t from = 0; bool found = false;
        if (max < 0 || l.l->n < max) {
            if (d) {
                for (size_t i = end; i >= d->n && lmj_step(j, (int64_t)(d->n / 64)); i--)
                    if (!memcmp(s->p + i - d->n, d->p, d->n)) { from = i; found = true; break; }
                if (!lmj_step(j, (int64_t)((end - from) / 64) + 1)) break;
            } else {
                for (from = end; from; ) { const uint8_t *b = lm_utf8_prev(p, p + from); if (lmj_space(lm_utf8_get(b, &k))) break; from = (size_t)(b - p); }
                found = from > 0;
            }
        } else if (!d) { lmj_push(j, l.l, jv_s(lmj_sub(j, s, 0, end))); break; }
        lmj_push(j, l.l, jv_s(lmj_sub(j, s, from, end)));
        if (!found) break;
        end = d ? from - d->n : from;
    }
    turn(l.l);
    return l;
}
