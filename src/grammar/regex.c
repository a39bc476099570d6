/* regex.c — regular expressions as JavaScript and JSON Schema write them, as far as they are regular.
 *
 * Literals, . (not a newline), classes with ranges and \d \w \s \D \W \S, escapes \n \r \t \f \v \0 \xHH \uHHHH \u{H…} \cX, groups ( ) (?: ) (?<name> ), |,
 * * + ? {n} {n,} {n,m} and their lazy forms (the same language). ^ and $ only at the ends of the whole or of its alternatives. Refused, as no automaton or
 * not decidable here: lookaround, back references, \b, \p{…}, flags.
 * By itself (`--regex`) an expression is the whole text; as JSON Schema's pattern it is searched for, so what is not anchored may have anything around it. */
#include <string.h>
#include "grammar/grammar_int.h"

typedef struct { lm_ast *a; const char *t, *p, *end; int depth; bool search, negated; lm_g_chars *chars; } in;       /* negated: inside [^ ] */
static void fail(in *s, lm_err e, const char *what) {
    if (s->a->err) return;
    const size_t n = (size_t)(s->end - s->t);
    lm_ast_fail(s->a, e, "%s at byte %zu of the regular expression %.*s%s", what, (size_t)(s->p - s->t), (int)(n < 80 ? n : 80), s->t, n > 80 ? "…" : "");
}
static bool more(const in *s) { return s->p < s->end && !s->a->err; }
static uint32_t hex(in *s, int n) {
    uint32_t x = 0;
    for (int i = 0; i < n; i++, s->p++) {
        const char c = s->p < s->end ? *s->p : 0;
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) { fail(s, LM_E_FORMAT, "wanted a hexadecimal digit"); return 0; }
        x = x << 4 | (uint32_t)d;
    }
    return x;
}
/* \s: what JavaScript and others agree on, but for U+FEFF, which is JavaScript's alone */
static const lm_grange digit[] = { { '0', '9' } }, letter[] = { { '0', '9' }, { 'A', 'Z' }, { '_', '_' }, { 'a', 'z' } },
                       space[] = { { 9, 13 }, { 32, 32 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 }, { 0x2000, 0x200A }, { 0x2028, 0x2029 }, { 0x202F, 0x202F },
                                   { 0x205F, 0x205F }, { 0x3000, 0x3000 } };
/* What \S leaves out: also what only other languages' \s has, so that their readers agree. */
static const lm_grange not_space[] = { { 9, 13 }, { 28, 32 }, { 0x85, 0x85 }, { 0xA0, 0xA0 }, { 0x1680, 0x1680 }, { 0x180E, 0x180E }, { 0x2000, 0x200A },
    { 0x2028, 0x2029 },
                                       { 0x202F, 0x202F }, { 0x205F, 0x205F }, { 0x3000, 0x3000 }, { 0xFEFF, 0xFEFF } };
static void add(lm_granges *r, const lm_grange *x, int n, bool not) {
    lm_granges y = { .a = r->a };
    for (int i = 0; i < n; i++) lm_granges_add(not ? &y : r, x[i].lo, x[i].hi);
    if (not && !r->a->err) { lm_granges_invert(&y); for (int i = 0; i < y.n; i++) lm_granges_add(r, y.v[i].lo, y.v[i].hi); }
    lm_granges_free(&y);
}
/* Behind a backslash: a set (true; added to r), or one character. */
static bool escape(in *s, bool in_class, lm_granges *r, uint32_t *c) {
    if (!more(s)) { fail(s, LM_E_FORMAT, "a lone backslash"); return true; }
    const char e = *s->p++;
    *c = (uint8_t)e;
    switch (e) {
    case 'd': case 'D': add(r, digit, LM_COUNT(digit), e == 'D'); return true;
    case 'w': case 'W': add(r, letter, LM_COUNT(letter), e == 'W'); return true;
    case 's': case 'S':                                               /* what remains must be what all agree on, so inside [^ ] the other way round */
        if ((e == 's') != s->negated) add(r, space, LM_COUNT(space), e == 'S'); else add(r, not_space, LM_COUNT(not_space), e == 'S');
        return true;
    case 'n': *c = '\n'; return false;
    case 'r': *c = '\r'; return false;
    case 't': *c = '\t'; return false;
    case 'f': *c = '\f'; return false;
    case 'v': *c = '\v'; return false;
    case 'x': *c = hex(s, 2); return false;
    case 'c':
        if (more(s) && ((*s->p >= 'a' && *s->p <= 'z') || (*s->p >= 'A' && *s->p <= 'Z'))) { *c = (uint32_t)*s->p++ & 31; return false; }
        fail(s, LM_E_FORMAT, "wanted a letter after \\c");
        return true;
    case 'u':
        if (more(s) && *s->p == '{') {
            s->p++;
            int n = 0;
            while (s->p + n < s->end && s->p[n] != '}' && n < 9) n++;
            if (n < 1 || n > 6 || s->p + n >= s->end) { fail(s, LM_E_FORMAT, "wanted 1 to 6 hexadecimal digits in \\u{ }"); return true; }
            *c = hex(s, n);
            s->p++;
        } else {
            *c = hex(s, 4);
            if (*c >= 0xD800 && *c <= 0xDBFF && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
                s->p += 2;
                const uint32_t low = hex(s, 4);
                if (low < 0xDC00 || low > 0xDFFF) fail(s, LM_E_FORMAT, "half of a surrogate pair");
                *c = 0x10000 + ((*c - 0xD800) << 10) + ((low - 0xDC00) & 0x3FF);
            }
        }
        if (*c > 0x10FFFF || (*c >= 0xD800 && *c <= 0xDFFF)) fail(s, LM_E_FORMAT, "this number is no character");
        return false;
    case 'b':
        if (in_class) { *c = 8; return false; }
        fail(s, LM_E_UNSUPPORTED, "\\b (a word boundary)");
        return true;
    case '0':
        if (!more(s) || *s->p < '0' || *s->p > '9') { *c = 0; return false; }
        fail(s, LM_E_UNSUPPORTED, "an octal escape");
        return true;
    case 'p': case 'P': fail(s, LM_E_UNSUPPORTED, "\\p{…} (classes of Unicode)"); return true;
    default: break;
    }
    if ((e >= '1' && e <= '9') || e == 'k') fail(s, LM_E_UNSUPPORTED, "a back reference");
    else if ((e >= 'a' && e <= 'z') || (e >= 'A' && e <= 'Z')) fail(s, LM_E_UNSUPPORTED, "this escape");
    else if ((uint8_t)e >= 0x80) { s->p--; const int k = lm_g_utf8(s->p, (size_t)(s->end - s->p), c); if (!k) fail(s, LM_E_FORMAT, "not UTF-8"); s->p += k ? k : 1; }
    return false;
}
static uint32_t plain(in *s) {
    uint32_t c = 0;
    const int n = lm_g_utf8(s->p, (size_t)(s->end - s->p), &c);
    if (!n) fail(s, LM_E_FORMAT, "not UTF-8");
    s->p += n ? n : 1;
    return c;
}
static int32_t class(in *s) {
    lm_granges r = { .a = s->a };
    const bool not = more(s) && *s->p == '^';
    s->p += not;
    s->negated = not;
    while (more(s) && *s->p != ']') {
        uint32_t lo, hi;
        bool set = false;
        if (*s->p == '\\') { s->p++; set = escape(s, true, &r, &lo); } else lo = plain(s);
        if (s->a->err) break;
        if (s->end - s->p > 1 && s->p[0] == '-' && s->p[1] != ']') {
            if (set) { fail(s, LM_E_FORMAT, "a range that begins with a set"); break; }
            s->p++;
            if (*s->p == '\\') { s->p++; if (escape(s, true, &r, &hi)) fail(s, LM_E_FORMAT, "a range that ends with a set"); } else hi = plain(s);
            if (!s->a->err && hi < lo) fail(s, LM_E_FORMAT, "a range that runs backwards");
        } else hi = lo;
        if (!set && !s->a->err) lm_granges_add(&r, lo, hi);
    }
    s->negated = false;
    if (!more(s)) fail(s, LM_E_FORMAT, "a class without its ]");
    s->p++;
    if (not && !s->a->err) lm_granges_invert(&r);
    const int32_t x = s->a->err ? -1 : s->chars(s->a, r.v, r.n);
    lm_granges_free(&r);
    return x;
}
static int64_t number(in *s) {
    int64_t n = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') { if (n <= LM_GRAMMAR_REPEAT) n = 10 * n + (*s->p - '0'); s->p++; }
    return n;
}
/* {n}, {n,} or {n,m} at p? Anything else in braces is text in JavaScript; it is refused here, as it is a slip most often. */
static int32_t counts(in *s, int32_t x) {
    s->p++;
    if (!more(s) || *s->p < '0' || *s->p > '9') { fail(s, LM_E_FORMAT, "wanted {n}, {n,} or {n,m} (a literal { is \\{)"); return -1; }
    const int64_t min = number(s);
    int64_t max = min;
    if (more(s) && *s->p == ',') { s->p++; max = more(s) && *s->p >= '0' && *s->p <= '9' ? number(s) : -1; }
    if (!more(s) || *s->p != '}') { fail(s, LM_E_FORMAT, "wanted } after the counts"); return -1; }
    if (max >= 0 && max < min) fail(s, LM_E_FORMAT, "the largest count is below the smallest");
    s->p++;
    return lm_g_rep(s->a, x, min, max);
}
static int32_t repeated(in *s, int32_t x) {
    if (!more(s)) return x;
    switch (*s->p) {
    case '*': s->p++; x = lm_g_rep(s->a, x, 0, -1); break;
    case '+': s->p++; x = lm_g_rep(s->a, x, 1, -1); break;
    case '?': s->p++; x = lm_g_rep(s->a, x, 0, 1); break;
    case '{': x = counts(s, x); break;
    default: return x;
    }
    if (more(s) && *s->p == '?') s->p++;                               /* lazy: the same texts */
    if (more(s) && (*s->p == '*' || *s->p == '+' || *s->p == '?' || *s->p == '{')) fail(s, LM_E_FORMAT, "a repetition of a repetition");
    return x;
}
static int32_t alternatives(in *s, bool outer);
static int32_t group(in *s, bool outer) {
    if (s->end - s->p > 1 && *s->p == '?') {
        const char k = s->p[1];
        if (k == ':') s->p += 2;
        else if (k == '<' && s->end - s->p > 2 && s->p[2] != '=' && s->p[2] != '!') {
            while (more(s) && *s->p != '>') s->p++;
            s->p++;
        } else { fail(s, LM_E_UNSUPPORTED, k == '=' || k == '!' || k == '<' ? "lookaround" : "this kind of group"); return -1; }
    }
    const int32_t x = alternatives(s, outer);
    if (!more(s) || *s->p != ')') { fail(s, LM_E_FORMAT, "a ( without its )"); return -1; }
    s->p++;
    return x;
}
/* Where the group that begins at p ends: just behind its ), or NULL. */
static const char *past_group(const in *s) {
    int depth = 0;
    for (const char *q = s->p; q < s->end; q++) {
        if (*q == '\\') q++;
        else if (*q == '[') { for (q++; q < s->end && *q != ']'; q++) if (*q == '\\') q++; }
        else if (*q == '(') depth++;
        else if (*q == ')' && !--depth) return q + 1;
    }
    return NULL;
}
static int32_t sequence(in *s, bool outer) {
    lm_glist l = { .a = s->a };
    /* an alternative that is one group: anchors inside it are at the ends too */
    const char *past = outer && more(s) && *s->p == '(' ? past_group(s) : NULL;
    if (past && (past == s->end || *past == '|' || *past == ')')) {
        s->p++;
        return group(s, true);
    }
    bool begins = false, ends = false;
    while (more(s) && *s->p == '^') { if (!outer) fail(s, LM_E_UNSUPPORTED, "^ inside the expression"); begins = true; s->p++; }
    while (more(s) && *s->p != '|' && *s->p != ')') {
        int32_t x;
        const char c = *s->p;
        if (c == '$') {
            s->p++;
            if (!outer || (more(s) && *s->p != '|' && *s->p != ')' && *s->p != '$')) fail(s, LM_E_UNSUPPORTED, "$ inside the expression");
            ends = true;
            continue;
        }
        if (c == '^') { fail(s, LM_E_UNSUPPORTED, "^ inside the expression"); break; }
        if (c == '*' || c == '+' || c == '?' || c == '{') { fail(s, LM_E_FORMAT, "nothing to repeat"); break; }
        s->p++;
        if (c == '(') x = group(s, false);
        else if (c == '[') x = class(s);
        else if (c == '.') {
            lm_granges r = { .a = s->a };
            static const lm_grange line[] = { { '\n', '\n' }, { '\r', '\r' }, { 0x2028, 0x2029 } };
            add(&r, line, LM_COUNT(line), true);
            x = s->a->err ? -1 : s->chars(s->a, r.v, r.n);
            lm_granges_free(&r);
        } else {
            lm_granges r = { .a = s->a };
            uint32_t one;
            if (c == '\\') { if (!escape(s, false, &r, &one) && !s->a->err) lm_granges_add(&r, one, one); }
            else { s->p--; one = plain(s); lm_granges_add(&r, one, one); }
            x = s->a->err ? -1 : s->chars(s->a, r.v, r.n);
            lm_granges_free(&r);
        }
        lm_glist_add(&l, repeated(s, x));
    }
    int32_t x = s->a->err ? -1 : lm_g_seq(s->a, l.v, l.n);
    lm_glist_free(&l);
    if (outer && s->search && !(begins && ends) && !s->a->err) {
        const int32_t any = lm_g_rep(s->a, s->chars(s->a, &(lm_grange){ 0, 0x10FFFF }, 1), 0, -1);
        x = begins ? LM_G_SEQ(s->a, x, any) : ends ? LM_G_SEQ(s->a, any, x) : LM_G_SEQ(s->a, any, x, any);
    }
    return x;
}
static int32_t alternatives(in *s, bool outer) {
    lm_glist l = { .a = s->a };
    if (++s->depth > LM_GRAMMAR_DEPTH / 2) fail(s, LM_E_RANGE, "parentheses nested too deep");
    while (!s->a->err) {
        lm_glist_add(&l, sequence(s, outer));
        if (!more(s) || *s->p != '|') break;
        s->p++;
    }
    s->depth--;
    const int32_t x = s->a->err ? -1 : lm_g_alt(s->a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}
int32_t lm_g_regex(lm_ast *a, const char *re, size_t n, bool search, lm_g_chars *chars) {
    in s = { .a = a, .t = re, .p = re, .end = re + n, .search = search, .chars = chars };
    const int32_t x = alternatives(&s, true);
    if (!a->err && s.p < s.end) fail(&s, LM_E_FORMAT, "a ) without its (");
    return a->err ? -1 : x;
}
static lm_err parse(lm_ast *a, const char *text, size_t n) {
    while (n && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;      /* from a file */
    a->root = lm_g_rule(a, "the expression", 14);
    lm_g_define(a, a->root, lm_g_regex(a, text, n, false, lm_g_class));
    return a->err;
}
const lm_grammar_row lm_grammar_regex = { .name = "regex", .what = "a regular expression, JavaScript's notation, for the whole text", .parse = parse };
