/* jinja_lex.c — template text to tokens, with white space control as jinja2 does it under trim_blocks and lstrip_blocks.
 *
 * Text before a tag loses its end: all white space before "-", the blanks of its line before a block or comment without "+". A block or comment
 * eats one newline behind it, any tag that ends with "-" all white space. An end of tag inside brackets is not one: "{{ {'a': {}}}}". */
#include <errno.h>
#include <stdlib.h>
#include "chat/jinja_int.h"
#include "format/cursor.h"
#include "tok/unicode.h"

typedef struct { lmj *j; const char *s; size_t n, at; int line; jtoken *tok; int n_tok, cap; bool line_start; char open[256]; int n_open; } lexer;

static jtoken *add(lexer *x, jtok_kind k) {
    if (x->n_tok == x->cap) {
        const int cap = x->cap ? 2 * x->cap : 64;
        jtoken *t = lmj_alloc(x->j, (size_t)cap * sizeof *t);
        if (!t) return NULL;
        if (x->n_tok) memcpy(t, x->tok, (size_t)x->n_tok * sizeof *t);
        x->tok = t; x->cap = cap;
    }
    x->tok[x->n_tok] = (jtoken){ .k = k, .line = x->line };
    return &x->tok[x->n_tok++];
}
static size_t space_at(const lexer *x, size_t i) {                   /* bytes of the white space character there, or 0 */
    if (i >= x->n) return 0;
    int k; const uint32_t c = lm_utf8_get((const uint8_t *)x->s + i, &k);
    return lmj_space(c) ? (size_t)k : 0;
}
static void skip(lexer *x, size_t to) {
    for (; x->at < to; x->at++) x->line += x->s[x->at] == '\n';
}
static void skip_space(lexer *x) { for (size_t k; (k = space_at(x, x->at)) > 0;) skip(x, x->at + k); }
static bool at(const lexer *x, size_t i, const char *what) { const size_t n = strlen(what); return x->n - i >= n && !memcmp(x->s + i, what, n); }
static void data(lexer *x, size_t from, size_t to) {
    if (to <= from) return;
    jtoken *t = add(x, TK_DATA);
    if (t) t->s = lmj_str_of(x->j, x->s + from, to - from, false).s;
}
/* Where text [from, to) before a tag really ends. sign: '-', '+' or 0. */
static size_t before(const lexer *x, size_t from, size_t to, char sign, bool block) {
    if (sign == '-') {
        while (to > from) {
            const uint8_t *b = lm_utf8_prev((const uint8_t *)x->s + from, (const uint8_t *)x->s + to);
            int k;
            if (!lmj_space(lm_utf8_get(b, &k))) break;
            to = (size_t)((const char *)b - x->s);
        }
        return to;
    }
    if (sign == '+' || !block) return to;
    size_t l = to;
    while (l > from && x->s[l - 1] != '\n') l--;
    if (l == from && !x->line_start) return to;
    for (size_t i = l, k; i < to; i += k) if (!(k = space_at(x, i))) return to;
    return l;
}
/* Behind the end of a block or comment: "-" eats white space, "+" nothing, else one newline. */
static void after(lexer *x, char sign, bool block) {
    const size_t from = x->at;
    if (sign == '-') skip_space(x);
    else if (sign != '+' && block && x->at < x->n && x->s[x->at] == '\n') skip(x, x->at + 1);
    x->line_start = x->at > from && x->s[x->at - 1] == '\n';
}
/* {%- raw -%} … {%- endraw -%}: at stands behind "{%" and its sign. False: not a raw tag. */
static bool raw(lexer *x, size_t text_from, size_t text_to) {
    size_t i = x->at, k;
    while ((k = space_at(x, i)) > 0) i += k;
    if (!at(x, i, "raw")) return false;
    i += 3;
    while ((k = space_at(x, i)) > 0) i += k;
    const bool minus = at(x, i, "-%}");
    if (!minus && !at(x, i, "%}")) return false;
    data(x, text_from, text_to);
    skip(x, i + (minus ? 3 : 2));
    const size_t was = x->at;
    if (minus) skip_space(x);
    x->line_start = x->at > was && x->s[x->at - 1] == '\n';
    for (size_t b = x->at; b < x->n; b++) {
        if (!at(x, b, "{%")) continue;
        size_t e = b + 2;
        char sign = 0;
        if (e < x->n && (x->s[e] == '-' || x->s[e] == '+')) sign = x->s[e++];
        while ((k = space_at(x, e)) > 0) e += k;
        if (!at(x, e, "endraw")) continue;
        e += 6;
        while ((k = space_at(x, e)) > 0) e += k;
        char end = 0;
        if (e < x->n && (x->s[e] == '-' || x->s[e] == '+')) end = x->s[e++];
        if (!at(x, e, "%}")) continue;
        data(x, x->at, before(x, x->at, b, sign, true));
        skip(x, e + 2);
        after(x, end, true);
        return true;
    }
    lmj_fail(x->j, "Missing end of raw directive");
    return true;
}
static bool name_char(uint32_t c, bool first) {
    return c < 128 ? c == '_' || (c | 32) - 'a' < 26u || (!first && c - '0' < 10u) : lm_uc_word(c) && !(first && lm_uc_cat(c) == LM_UC_ND);
}
static int hex(lexer *x, size_t i, int n, size_t end, uint32_t *out) {
    *out = 0;
    for (int k = 0; k < n; k++) {
        const char c = i + (size_t)k < end ? x->s[i + (size_t)k] : 0;
        const int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (d < 0) { lmj_fail(x->j, "a truncated escape in a string"); return 0; }
        *out = *out << 4 | (uint32_t)d;
    }
    if (*out > 0x10ffff || (*out >= 0xd800 && *out < 0xe000)) {
        lmj_fail(x->j, "\\%c escape of U+%X, which is no character", n == 2 ? 'x' : n == 4 ? 'u' : 'U', *out);
        return 0;
    }
    return n;
}
/* A string literal: Python's escapes; what is none stays as it is. */
static void string(lexer *x) {
    const char q = x->s[x->at];
    size_t e = x->at + 1;
    while (e < x->n && x->s[e] != q) e += x->s[e] == '\\' ? 2 : 1;
    if (e >= x->n) { lmj_fail(x->j, "unexpected char '%c': the string does not end", q); return; }
    jbuf b = { .j = x->j };
    for (size_t i = x->at + 1; i < e && !x->j->err;) {
        if (x->s[i] != '\\') {
            size_t k = i;
            while (k < e && x->s[k] != '\\') k++;
            lmj_put(&b, x->s + i, k - i, false);
            i = k; continue;
        }
        const unsigned char c = (unsigned char)x->s[i + 1];
        static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
        const char *p = c ? strchr(from, c) : NULL;
        uint32_t u;
        i += 2;
        if (p) { lmj_put(&b, to + (p - from), 1, false); continue; }
        if (c == '\n') continue;
        if (c == 'x' || c == 'u' || c == 'U') { i += (size_t)hex(x, i, c == 'x' ? 2 : c == 'u' ? 4 : 8, e, &u); lmj_put_char(&b, u, false); continue; }
        if (c == 'N') { lmj_fail(x->j, "\\N escapes in strings are not supported"); return; }
        if (c >= '0' && c <= '7') {
            u = c - '0';
            for (int k = 0; k < 2 && i < e && x->s[i] >= '0' && x->s[i] <= '7'; k++) u = u * 8 + (uint32_t)(x->s[i++] - '0');
            lmj_put_char(&b, u, false); continue;
        }
        if (c < 128) { const char two[2] = { '\\', (char)c }; lmj_put(&b, two, 2, false); continue; }
        int k;                                                       /* Python escapes what is not ASCII first, so "\é" is "\\xe9" */
        u = lm_utf8_get((const uint8_t *)x->s + i - 1, &k);
        char t[16];
        snprintf(t, sizeof t, u < 256 ? "\\x%02x" : u < 65536 ? "\\u%04x" : "\\U%08x", u);
        lmj_puts(&b, t);
        i += (size_t)k - 1;
    }
    jtoken *t = add(x, TK_STR);
    const jv v = lmj_done(&b);
    if (t && !x->j->err) t->s = v.s;
    skip(x, e + 1);
}
static size_t digits(const lexer *x, size_t i) {                     /* (\d+_)*\d+: where it ends, or i */
    size_t e = i;
    for (size_t k = i; k < x->n; k++) {
        if (x->s[k] >= '0' && x->s[k] <= '9') e = k + 1;
        else if (x->s[k] != '_' || k == i || x->s[k - 1] == '_') break;
    }
    return e;
}
static void number(lexer *x) {
    const size_t i = x->at;
    char t[512]; size_t n = 0;
    size_t e = digits(x, i);
    const bool after_dot = i && x->s[i - 1] == '.';
    size_t f = e;
    if (f < x->n && x->s[f] == '.' && digits(x, f + 1) > f + 1) f = digits(x, f + 1);
    size_t g = f;
    if (g < x->n && (x->s[g] | 32) == 'e') {
        size_t k = g + 1;
        if (k < x->n && (x->s[k] == '+' || x->s[k] == '-')) k++;
        if (digits(x, k) > k) g = digits(x, k);
    }
    const bool is_float = !after_dot && g > e;
    int base = 10;
    if (is_float) e = g;
    else if (x->s[i] == '0' && i + 1 < x->n && strchr("bBoOxX", x->s[i + 1])) {
        const int want = (x->s[i + 1] | 32) == 'b' ? 2 : (x->s[i + 1] | 32) == 'o' ? 8 : 16;
        size_t k = i + 2, last = i + 1;
        for (; k < x->n; k++) {
            const char c = x->s[k];
            const int d = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : 99;
            if (d < want) last = k;
            else if (c != '_' || x->s[k - 1] == '_') break;
        }
        if (last > i + 1) { base = want; e = last + 1; } else e = i + 1;
    } else if (x->s[i] == '0') {                                     /* zeros only: "01" is two numbers */
        e = i;
        for (size_t k = i; k < x->n; k++) { if (x->s[k] == '0') e = k + 1; else if (x->s[k] != '_' || x->s[k - 1] == '_') break; }
    }
    for (size_t k = base == 10 ? i : i + 2; k < e && n + 1 < sizeof t; k++) if (x->s[k] != '_') t[n++] = x->s[k];
    t[n] = 0;
    jtoken *k = add(x, is_float ? TK_FLOAT : TK_INT);
    if (!k) return;
    errno = 0;
    if (is_float) k->f = strtod(t, NULL);
    else { k->i = strtoll(t, NULL, base); if (errno == ERANGE) lmj_fail(x->j, "the integer %.40s has more than 64 bits", t); }
    skip(x, e);
}
/* Inside {{ }} or {% %}: one token, or the end of the tag. */
static bool inside(lexer *x, bool block, bool *ends) {
    const char *const end = block ? "%}" : "}}";
    *ends = false;
    if (!x->n_open) {
        const char c = x->s[x->at];
        const char sign = c == '-' || (block && c == '+') ? c : 0;
        if (at(x, x->at + (sign != 0), end)) {
            add(x, block ? TK_BLOCK_END : TK_VAR_END);
            skip(x, x->at + 2 + (sign != 0));
            after(x, sign, block);
            return *ends = true;
        }
    }
    if (space_at(x, x->at)) { skip_space(x); return true; }
    int k; const uint32_t c = lm_utf8_get((const uint8_t *)x->s + x->at, &k);
    if (c - '0' < 10u) { number(x); return true; }
    if (name_char(c, true)) {
        size_t e = x->at;
        while (e < x->n && name_char(lm_utf8_get((const uint8_t *)x->s + e, &k), e == x->at)) e += (size_t)k;
        jtoken *t = add(x, TK_NAME);
        if (t) t->s = lmj_str_of(x->j, x->s + x->at, e - x->at, false).s;
        skip(x, e);
        return true;
    }
    if (c == '\'' || c == '"') { string(x); return true; }
    static const char *const ops[] = { "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", ">", "<", "=", ".", ":",
        "|", ",", ";" };
    for (int i = 0; i < LM_COUNT(ops); i++) {
        if (!at(x, x->at, ops[i])) continue;
        const char o = *ops[i];
        if (strchr("([{", o)) {
            if (x->n_open == (int)sizeof x->open) { lmj_fail(x->j, "brackets nested deeper than %d", (int)sizeof x->open); return false; }
            x->open[x->n_open++] = o == '(' ? ')' : o == '[' ? ']' : '}';
        } else if (strchr(")]}", o)) {
            if (!x->n_open) { lmj_fail(x->j, "unexpected '%c'", o); return false; }
            if (x->open[--x->n_open] != o) { lmj_fail(x->j, "unexpected '%c', expected '%c'", o, x->open[x->n_open]); return false; }
        }
        jtoken *t = add(x, TK_OP);
        if (t) snprintf(t->op, sizeof t->op, "%s", ops[i]);
        skip(x, x->at + strlen(ops[i]));
        return true;
    }
    lmj_fail(x->j, "unexpected char '%.*s'", k, x->s + x->at);
    return false;
}
static void tag(lexer *x) {
    const size_t from = x->at;
    size_t b = from;
    while (b < x->n && !(x->s[b] == '{' && b + 1 < x->n && strchr("{%#", x->s[b + 1]) && x->s[b + 1])) b++;
    if (b == x->n) { data(x, from, b); skip(x, b); return; }
    const char kind = x->s[b + 1];
    size_t e = b + 2;
    char sign = 0;
    if (e < x->n && (x->s[e] == '-' || x->s[e] == '+')) sign = x->s[e++];
    const size_t to = before(x, from, b, sign, kind != '{');
    skip(x, e);
    x->j->line = x->line;
    if (kind == '#') {
        data(x, from, to);
        for (size_t c = x->at; c < x->n; c++) {
            /* the first "#}" that can be reached, with its sign if one stands before it */
            const char s = x->s[c] == '-' || x->s[c] == '+' ? x->s[c] : 0;
            if (!at(x, c + (s != 0), "#}")) continue;
            skip(x, c + 2 + (s != 0));
            after(x, s, true);
            return;
        }
        lmj_fail(x->j, "Missing end of comment tag");
        return;
    }
    if (kind == '%' && raw(x, from, to)) return;
    data(x, from, to);
    add(x, kind == '%' ? TK_BLOCK_BEGIN : TK_VAR_BEGIN);
    x->n_open = 0;
    for (bool ends = false; !ends;) {
        if (x->at >= x->n) return;                                   /* the parser says what it was waiting for */
        x->j->line = x->line;
        if (!inside(x, kind == '%', &ends) || x->j->err) return;
    }
}
jtoken *lmj_lex(lmj *j, const char *src, size_t n, int *n_tok) {
    char *s = lmj_alloc(j, n + 1);                                   /* one kind of newline; the last one is dropped */
    if (!s) return NULL;
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        if (src[i] == '\r') { s[m++] = '\n'; i += i + 1 < n && src[i + 1] == '\n'; }
        else s[m++] = src[i];
    }
    if (m && s[m - 1] == '\n') m--;
    lexer x = { .j = j, .s = s, .n = m, .line = 1, .line_start = true };
    while (x.at < x.n && !j->err) tag(&x);
    add(&x, TK_EOF);
    *n_tok = x.n_tok;
    return x.tok;
}
