/* gbnf.c — GBNF, the grammar notation that llama.cpp's users know.
 *
 *     root   ::= "yes" | "no" (" because " reason)?      # the first rule is root
 *     reason ::= [a-z ]{1,40} "."
 *
 * Literals, classes ([a-z], [^"\\], . for any character) with the escapes \n \r \t \\ \" \[ \] \- \^ \xHH \uHHHH \UHHHHHHHH, groups, | and
 * * + ? {n} {n,} {n,m} {,m}. A rule ends with its line, but for lines inside parentheses and after ::= or |; a line that begins with | goes on.
 * Characters are code points; comments run from # to the end of the line. Tokens in angle brackets (<think>) are refused: a grammar here is over text. */
#include <stdlib.h>
#include <string.h>
#include "grammar/grammar_int.h"

typedef struct { lm_ast *a; const char *t, *p, *end; int depth; int32_t *table, n_table; } in;       /* table: rules by name, 1 + number */
static void fail(in *s, lm_err e, const char *what) {
    int line = 1, col = 1;
    for (const char *q = s->t; q < s->p && q < s->end; q++) if (*q == '\n') { line++; col = 1; } else col++;
    lm_ast_fail(s->a, e, "line %d, column %d: %s", line, col, what);
}
static bool more(const in *s) { return s->p < s->end && !s->a->err; }
static void blank(in *s, bool newlines) {
    while (s->p < s->end) {
        if (*s->p == '#') while (s->p < s->end && *s->p != '\n' && *s->p != '\r') s->p++;
        else if (*s->p == ' ' || *s->p == '\t' || (newlines && (*s->p == '\n' || *s->p == '\r'))) s->p++;
        else break;
    }
}
static bool word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'; }
static size_t name_len(const in *s) { size_t n = 0; while (s->p + n < s->end && word(s->p[n])) n++; return n; }
static int32_t rule_of(in *s, const char *name, size_t n) {
    lm_ast *a = s->a;
    if (a->err) return -1;
    if (2 * (a->n_rule + 1) > s->n_table) {
        const int32_t m = s->n_table ? 2 * s->n_table : 256;
        int32_t *t = lm_calloc(a->ctx, LM_MEM_MISC, (size_t)m, sizeof *t);
        if (!t) { a->err = LM_E_NOMEM; return -1; }
        for (int32_t r = 0; r < a->n_rule; r++) {
            uint64_t h = lm_hash64(a->rule[r].name, strlen(a->rule[r].name), 0);
            while (t[h & (uint64_t)(m - 1)]) h++;
            t[h & (uint64_t)(m - 1)] = r + 1;
        }
        lm_free(a->ctx, s->table);
        s->table = t; s->n_table = m;
    }
    uint64_t h = lm_hash64(name, n, 0);
    for (int32_t r; (r = s->table[h & (uint64_t)(s->n_table - 1)]); h++)
        if (!strncmp(a->rule[r - 1].name, name, n) && !a->rule[r - 1].name[n]) return r - 1;
    const int32_t r = lm_g_rule(a, name, n);
    if (r >= 0) s->table[h & (uint64_t)(s->n_table - 1)] = r + 1;
    return r;
}
static uint32_t hex(in *s, int n) {
    uint32_t x = 0;
    for (int i = 0; i < n; i++, s->p++) {
        const char c = s->p < s->end ? *s->p : 0;
        const int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0) { fail(s, LM_E_FORMAT, "wanted hexadecimal digits after \\x, \\u or \\U"); return 0; }
        x = x << 4 | (uint32_t)d;
    }
    if (x > 0x10FFFF || (x >= 0xD800 && x <= 0xDFFF)) fail(s, LM_E_FORMAT, "this number is no character");
    return x;
}
static uint32_t character(in *s) {
    uint32_t c = 0;
    if (*s->p != '\\') {
        const int n = lm_g_utf8(s->p, (size_t)(s->end - s->p), &c);
        if (!n) fail(s, LM_E_FORMAT, "the text is not UTF-8");
        s->p += n ? n : 1;
        return c;
    }
    const char e = s->p + 1 < s->end ? s->p[1] : 0;
    s->p += 2;
    switch (e) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'x': return hex(s, 2);
    case 'u': return hex(s, 4);
    case 'U': return hex(s, 8);
    case '\\': case '"': case '[': case ']': case '-': case '^': case '/': return (uint32_t)e;
    default: s->p -= 1; fail(s, LM_E_FORMAT, "unknown escape"); return 0;
    }
}
static int encode(uint32_t c, char *p) {
    if (c < 0x80) { p[0] = (char)c; return 1; }
    const int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--, c >>= 6) p[i] = (char)(0x80 | (c & 0x3F));
    p[0] = (char)((0xFF00 >> n & 0xFF) | c);
    return n;
}
static int32_t literal(in *s) {
    lm_str t = { .ctx = s->a->ctx };
    s->p++;
    while (more(s) && *s->p != '"' && *s->p != '\n') {
        char b[4];
        const int n = encode(character(s), b);
        lm_str_add(&t, b, (size_t)n);
    }
    if (!s->a->err && (s->p == s->end || *s->p != '"')) fail(s, LM_E_FORMAT, "the literal does not end");
    s->p++;
    if (lm_str_err(&t)) lm_ast_fail(s->a, LM_E_NOMEM, "out of memory");
    const int32_t x = s->a->err ? -1 : lm_g_text(s->a, t.p ? t.p : "", t.n);
    lm_str_free(&t);
    return x;
}
static int32_t class(in *s) {
    lm_granges r = { .a = s->a };
    s->p++;
    const bool not = s->p < s->end && *s->p == '^';
    s->p += not;
    while (more(s) && *s->p != ']') {
        const uint32_t lo = character(s);
        uint32_t hi = lo;
        if (s->p + 1 < s->end && *s->p == '-' && s->p[1] != ']') { s->p++; hi = character(s); }
        if (hi < lo) fail(s, LM_E_FORMAT, "the range runs backwards");
        lm_granges_add(&r, lo, hi);
    }
    if (!s->a->err && s->p == s->end) fail(s, LM_E_FORMAT, "the class does not end");
    s->p++;
    const int32_t x = s->a->err ? -1 : not ? lm_g_not(s->a, r.v, r.n) : lm_g_class(s->a, r.v, r.n);
    lm_granges_free(&r);
    return x;
}
static int64_t number(in *s) {
    int64_t n = 0;
    while (s->p < s->end && *s->p >= '0' && *s->p <= '9') { if (n <= LM_GRAMMAR_REPEAT) n = 10 * n + (*s->p - '0'); s->p++; }
    return n;
}
static int32_t repeated(in *s, int32_t x, bool nested) {
    for (;;) {
        blank(s, nested);
        const char c = s->p < s->end && !s->a->err ? *s->p : 0;
        if (c == '*') { s->p++; x = lm_g_rep(s->a, x, 0, -1); }
        else if (c == '+') { s->p++; x = lm_g_rep(s->a, x, 1, -1); }
        else if (c == '?') { s->p++; x = lm_g_rep(s->a, x, 0, 1); }
        else if (c == '{') {
            s->p++; blank(s, nested);
            const bool has = s->p < s->end && *s->p >= '0' && *s->p <= '9';
            const int64_t min = number(s);
            int64_t max = min;
            blank(s, nested);
            if (s->p < s->end && *s->p == ',') {
                s->p++; blank(s, nested);
                max = s->p < s->end && *s->p >= '0' && *s->p <= '9' ? number(s) : -1;
                if (!has && max < 0) fail(s, LM_E_FORMAT, "wanted a number in { }");
            } else if (!has) fail(s, LM_E_FORMAT, "wanted a number after {");
            blank(s, nested);
            if (!s->a->err && (s->p == s->end || *s->p != '}')) fail(s, LM_E_FORMAT, "wanted } after the counts");
            if (!s->a->err && max >= 0 && max < min) fail(s, LM_E_FORMAT, "the largest count is below the smallest");
            s->p++;
            x = lm_g_rep(s->a, x, min, max);
        } else return x;
    }
}
static int32_t alternatives(in *s, bool nested);
static int32_t sequence(in *s, bool nested) {
    lm_glist l = { .a = s->a };
    for (;;) {
        blank(s, nested);
        if (!more(s)) break;
        const char c = *s->p;
        int32_t x;
        if (c == '"') x = literal(s);
        else if (c == '[') x = class(s);
        else if (c == '.') { s->p++; x = lm_g_class(s->a, &(lm_grange){ 0, 0x10FFFF }, 1); }
        else if (c == '(') {
            s->p++;
            x = alternatives(s, true);
            if (!s->a->err && (s->p == s->end || *s->p != ')')) fail(s, LM_E_FORMAT, "a ( without its )");
            s->p++;
        } else if (word(c)) {
            const size_t n = name_len(s);
            x = lm_g_call(s->a, rule_of(s, s->p, n));
            s->p += n;
        } else {
            if (c == '<' || c == '!') fail(s, LM_E_UNSUPPORTED, "tokens in a grammar (<…>) are not supported: a grammar here is over text");
            else if (c == '*' || c == '+' || c == '?' || c == '{') fail(s, LM_E_FORMAT, "nothing to repeat");
            break;
        }
        lm_glist_add(&l, repeated(s, x, nested));
    }
    const int32_t x = s->a->err ? -1 : lm_g_seq(s->a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}
static int32_t alternatives(in *s, bool nested) {
    lm_glist l = { .a = s->a };
    if (++s->depth > LM_GRAMMAR_DEPTH) fail(s, LM_E_RANGE, "parentheses nested too deep");
    while (!s->a->err) {
        blank(s, true);
        lm_glist_add(&l, sequence(s, nested));
        const char *at = s->p;
        blank(s, true);                                                /* a line that begins with | goes on */
        if (s->p < s->end && *s->p == '|') { s->p++; continue; }
        if (!nested) s->p = at;
        break;
    }
    s->depth--;
    const int32_t x = s->a->err ? -1 : lm_g_alt(s->a, l.v, l.n);
    lm_glist_free(&l);
    return x;
}
static void rule(in *s) {
    const size_t n = name_len(s);
    if (!n) { fail(s, LM_E_FORMAT, "wanted the name of a rule"); return; }
    const int32_t r = rule_of(s, s->p, n);
    const char *at = s->p;
    s->p += n;
    blank(s, false);
    if (s->a->err) return;
    if (s->end - s->p < 3 || memcmp(s->p, "::=", 3)) { fail(s, LM_E_FORMAT, "wanted ::= after the name of a rule"); return; }
    if (s->a->rule[r].node >= 0) { s->p = at; fail(s, LM_E_CONFIG, "this rule is defined a second time"); return; }
    s->p += 3;
    lm_g_define(s->a, r, alternatives(s, false));
    blank(s, false);
    if (more(s) && *s->p != '\n' && *s->p != '\r') fail(s, LM_E_FORMAT, "the rule does not end here, and nothing known follows");
}
static lm_err parse(lm_ast *a, const char *text, size_t n) {
    in s = { .a = a, .t = text, .p = text, .end = text + n };
    for (blank(&s, true); more(&s); blank(&s, true)) rule(&s);
    for (int32_t r = 0; r < a->n_rule; r++) if (a->rule[r].name && !strcmp(a->rule[r].name, "root")) a->root = r;
    lm_free(a->ctx, s.table);
    if (a->root < 0) lm_ast_fail(a, LM_E_CONFIG, "there is no rule called root");
    return a->err;
}
const lm_grammar_row lm_grammar_gbnf = { .name = "gbnf", .what = "rules in llama.cpp's notation", .parse = parse };
