/* regex_translate.c — from Oniguruma's (Ruby's) syntax to PCRE2's.
 *
 * One pass over the pattern with a stack for groups. What is rewritten:
 *   \p{X} \P{X} \s \S \d \D \w \W   classes spelled out: PCRE2's own property, plus what Unicode gave that category after PCRE2's tables
 *   \h \H \v                         hexadecimal digit, its complement, vertical tab (PCRE2 has other meanings)
 *   \b \B                            between the \w above
 *   [a[b]c] [a&&b]                   nested sets and intersections, as alternatives and lookaheads
 *   x{1,3}+  x{,3}                   Ruby: one or more times x{1,3}; zero to three
 *   \p{Han}                          the script alone (PCRE2 takes its extensions too)
 * Without case, Oniguruma also matches one letter by two (ss by U+00DF, fi by U+FB01): patterns where that could happen are refused.
 * ^ and $ match at line ends in Ruby, hence PCRE2_MULTILINE. Anything else with a letter behind a backslash or a "(?" is refused. */
#define _GNU_SOURCE 1      /* memmem */
#include "format/cursor.h"
#include "tok/regex.h"
#include "tok/unicode.h"
#include <string.h>

enum { MAX_PATTERN = 16 << 10, MAX_DEPTH = 64 };
/* last: the literal ASCII letter before, in lower case */
typedef struct { lm_ctx *ctx; const char *all, *p, *end; bool caseless; char last; } tr;

#define SPACES "\\t-\\r \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
/* Oniguruma counts the Latin-1 superscripts and fractions as \w where it stands alone, but not in a class. */
#define WORD_ALONE "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define WORD_MORE "\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"

static lm_err refuse(const tr *t, const char *what) {
    return lm_fail(t->ctx, LM_E_UNSUPPORTED, "regular expression \"%.*s\" at byte %d: %s",
                   (int)lm_min64(t->end - t->all, 200), t->all, (int)(t->p - t->all), what);
}

static void since14(lm_str *out, unsigned set) {
    for (int i = 0; i < lm_uc_n_since14; i++) {
        const lm_uc_range *r = &lm_uc_since14[i];
        if (!((set >> r->cat) & 1)) continue;
        if (r->lo == r->hi) lm_str_printf(out, "\\x{%x}", r->lo);
        else lm_str_printf(out, "\\x{%x}-\\x{%x}", r->lo, r->hi);
    }
}
static void word_items(lm_str *out, bool alone) {
    if (alone) lm_str_puts(out, WORD_ALONE);
    lm_str_puts(out, "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}" WORD_MORE);
    since14(out, LM_UC_SET_L | LM_UC_SET_M | LM_UC_BIT(LM_UC_ND) | LM_UC_BIT(LM_UC_NL) | LM_UC_BIT(LM_UC_PC));
}

/* The categories a property name stands for; 0 = not a category (a script: PCRE2 knows or refuses it). */
static unsigned category_set(const char *s, size_t n) {
    static const struct { const char *longer; const char *shorter;
    } alias[] = { { "Letter", "L" },
                  { "Mark", "M" },
                  { "Number", "N" },
                  { "Punctuation", "P" },
                  { "Symbol", "S" },
                  { "Separator", "Z" },
                  { "Other", "C" },
                  { "Uppercase_Letter", "Lu" },
                  { "Lowercase_Letter", "Ll" },
                  { "Titlecase_Letter", "Lt" },
                  { "Modifier_Letter", "Lm" },
                  { "Other_Letter", "Lo" },
                  { "Decimal_Number", "Nd" },
                  { "Letter_Number", "Nl" },
                  { "Other_Number", "No" } };
    for (int i = 0; i < LM_COUNT(alias); i++)
        if (strlen(alias[i].longer) == n && !memcmp(alias[i].longer, s, n)) { s = alias[i].shorter; n = strlen(s); break; }
    unsigned set = 0;
    if (n == 1 || n == 2)
        for (int c = 0; c < LM_UC_N; c++)
            if (!strncmp(lm_uc_names[c], s, n)) set |= LM_UC_BIT(c);
    return set;
}

/* {Name} or {^Name} after \p: the items of a class. *neg is turned round by '^'. */
static lm_err property(tr *t, lm_str *items, bool *neg) {
    if (t->p == t->end || *t->p != '{') return refuse(t, "wanted {Name} after \\p");
    const char *close = memchr(t->p, '}', (size_t)(t->end - t->p));
    if (!close) return refuse(t, "no } after \\p{");
    const char *s = t->p + 1;
    if (s < close && *s == '^') { s++; *neg = !*neg; }
    size_t n = (size_t)(close - s);
    if (!n || n > 40) return refuse(t, "wanted a property name in \\p{}");
    for (size_t i = 0; i < n; i++)
        if (!((s[i] | 32) >= 'a' && (s[i] | 32) <= 'z') && s[i] != '_') return refuse(t, "wanted a property name in \\p{}");
    unsigned set = category_set(s, n);
    if (set & (LM_UC_BIT(LM_UC_CN) | LM_UC_BIT(LM_UC_CS))) return refuse(t, "unassigned and surrogate code points cannot be asked for");
    if (set) {
        for (int c = 0; c < LM_UC_N; c++)
            if ((set >> c) & 1) lm_str_printf(items, "\\p{%s}", lm_uc_names[c]);
        since14(items, set);
    } else lm_str_printf(items, "\\p{sc:%.*s}", (int)n, s);   /* a script, and not its extensions, which PCRE2's \p{Han} has */
    t->p = close + 1;
    return LM_OK;
}

static int hex(char c) { return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1; }

/* \x41 \x{41} \u0041 after the letter: one code point. */
static lm_err code_point(tr *t, char kind, uint32_t *c) {
    uint32_t v = 0;
    int n = 0, want = kind == 'u' ? 4 : 2;
    bool braces = kind == 'x' && t->p < t->end && *t->p == '{';
    if (braces) { t->p++; want = 6; }
    while (n < want && t->p < t->end && hex(*t->p) >= 0) { v = v * 16 + (uint32_t)hex(*t->p++); n++; }
    if (!n || (kind == 'u' && n != 4)) return refuse(t, "malformed hexadecimal escape");
    if (braces && (t->p == t->end || *t->p++ != '}')) return refuse(t, "no } in \\x{");
    if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000) || (kind == 'x' && !braces && v > 0x7f)) return refuse(t, "not a code point");
    *c = v;
    return LM_OK;
}

/* After a backslash. A class: its items in `items`, *neg, *is_class. Else one literal in `items`. */
static lm_err escape(tr *t, lm_str *items, bool alone, bool *is_class, bool *neg) {
    if (t->p == t->end) return refuse(t, "a backslash at the end");
    char c = *t->p++;
    *is_class = true;
    *neg = false;
    switch (c) {
    case 'P': *neg = true; return property(t, items, neg);
    case 'p': return property(t, items, neg);
    case 'S': *neg = true; lm_str_puts(items, SPACES); return LM_OK;
    case 's': lm_str_puts(items, SPACES); return LM_OK;
    case 'D': *neg = true; lm_str_puts(items, "\\p{Nd}"); since14(items, LM_UC_BIT(LM_UC_ND)); return LM_OK;
    case 'd': lm_str_puts(items, "\\p{Nd}"); since14(items, LM_UC_BIT(LM_UC_ND)); return LM_OK;
    case 'W': *neg = true; word_items(items, alone); return LM_OK;
    case 'w': word_items(items, alone); return LM_OK;
    case 'H': *neg = true; lm_str_puts(items, "0-9a-fA-F"); return LM_OK;
    case 'h': lm_str_puts(items, "0-9a-fA-F"); return LM_OK;
    default: break;
    }
    *is_class = false;
    uint32_t cp = 0;
    switch (c) {
    case 'v': lm_str_puts(items, "\\x{b}"); return LM_OK;
    case 'n': case 'r': case 't': case 'f': case 'a': case 'e': lm_str_printf(items, "\\%c", c); return LM_OK;
    case 'x': case 'u': LM_TRY(code_point(t, c, &cp)); lm_str_printf(items, "\\x{%x}", cp); return LM_OK;
    default: break;
    }
    if ((uint8_t)c >= 0x80) { lm_str_putc(items, c); return LM_OK; }                            /* the rest of the character follows as it is */
    if ((c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z')) { t->p--; return refuse(t, "an escape that is not translated"); }
    lm_str_printf(items, "\\%c", c);
    return LM_OK;
}

/* One side of && (or the whole class): plain items and alternatives, as an expression for one character. */
static void operand(lm_str *out, const lm_str *items, const lm_str *alts, bool neg) {
    if (!alts->n) { lm_str_puts(out, neg ? "[^" : "["); lm_str_add(out, items->p, items->n); lm_str_putc(out, ']'); return; }
    lm_str_puts(out, neg ? "(?:(?!" : "(?:");
    if (items->n) { lm_str_putc(out, '['); lm_str_add(out, items->p, items->n); lm_str_puts(out, "]"); lm_str_add(out, alts->p, alts->n); }
    else lm_str_add(out, alts->p + 1, alts->n - 1);                                             /* without the first bar */
    lm_str_puts(out, neg ? ")(?s:.))" : ")");
}

static lm_err class_(tr *t, lm_str *out, int depth);

static lm_err class_items(tr *t, lm_str *items, lm_str *alts, lm_str *looks, int depth, bool neg) {
    bool first = true;
    for (;; first = false) {
        if (t->p == t->end) return refuse(t, "a class without ]");
        char c = *t->p;
        if (c == ']' && !first) { t->p++; break; }
        if (c == '&' && t->end - t->p > 1 && t->p[1] == '&') {
            if (!items->n && !alts->n) return refuse(t, "nothing before &&");
            lm_str_puts(looks, "(?=");
            operand(looks, items, alts, false);
            lm_str_putc(looks, ')');
            lm_str_clear(items);
            lm_str_clear(alts);
            t->p += 2;
            continue;
        }
        t->p++;
        if (c == '[') {
            if (t->p < t->end && *t->p == ':') return refuse(t, "POSIX classes are not translated");
            lm_str_putc(alts, '|');
            LM_TRY(class_(t, alts, depth + 1));
        } else if (c == '\\') {
            bool is_class, n;
            lm_str one = { .ctx = t->ctx };
            lm_err err = escape(t, &one, false, &is_class, &n);
            if (!err && n) { lm_str_puts(alts, "|[^"); lm_str_add(alts, one.p, one.n); lm_str_putc(alts, ']'); }
            else if (!err) lm_str_add(items, one.p, one.n);
            if (!err) err = lm_str_err(&one);
            lm_str_free(&one);
            LM_TRY(err);
        } else if (c == ']') lm_str_puts(items, "\\]");
        else lm_str_putc(items, c);
    }
    if (!items->n && !alts->n) return refuse(t, neg ? "an empty class" : "an empty class or side of &&");
    return LM_OK;
}

/* t->p is behind '['. */
static lm_err class_(tr *t, lm_str *out, int depth) {
    if (depth > MAX_DEPTH) return refuse(t, "classes nested too deeply");
    bool neg = t->p < t->end && *t->p == '^';
    t->p += neg;
    lm_str items = { .ctx = t->ctx }, alts = { .ctx = t->ctx }, looks = { .ctx = t->ctx };
    lm_err err = class_items(t, &items, &alts, &looks, depth, neg);
    if (!err) {
        if (looks.n) {
            lm_str_puts(out, neg ? "(?:(?!" : "(?:");
            lm_str_add(out, looks.p, looks.n);
            operand(out, &items, &alts, false);
            lm_str_puts(out, neg ? ")(?s:.))" : ")");
        } else operand(out, &items, &alts, neg);
        if (items.bad || alts.bad || looks.bad) err = LM_E_NOMEM;
    }
    lm_str_free(&items);
    lm_str_free(&alts);
    lm_str_free(&looks);
    return err;
}

/* Put text into the middle of out. */
static void insert(lm_str *out, size_t at, const char *text) {
    size_t k = strlen(text), tail = out->n - at;
    lm_str_puts(out, text);                                /* makes the room */
    if (out->bad) return;
    memmove(out->p + at + k, out->p + at, tail);
    memcpy(out->p + at, text, k);
}

/* {n}, {n,}, {n,m}, {,m} at t->p, or a literal brace. */
static lm_err braces(tr *t, lm_str *out, size_t atom) {
    const char *s = t->p + 1;
    unsigned long v[2] = { 0, 0 };
    int digits[2] = { 0, 0 }, k = 0;
    for (; s < t->end && *s != '}'; s++) {
        if (*s == ',' && !k) { k = 1; continue; }
        if (*s < '0' || *s > '9') { digits[0] = digits[1] = 0; break; }
        if (++digits[k] > 5) return refuse(t, "a repeat count that is too large");
        v[k] = v[k] * 10 + (unsigned long)(*s - '0');
    }
    if (s == t->end || *s != '}' || (!digits[0] && !digits[1])) { lm_str_puts(out, "\\{"); t->p++; return LM_OK; }
    if (!k) lm_str_printf(out, "{%lu}", v[0]);
    else if (!digits[1]) lm_str_printf(out, "{%lu,}", v[0]);
    else lm_str_printf(out, "{%lu,%lu}", v[0], v[1]);
    t->p = s + 1;
    if (t->p < t->end && *t->p == '?' && !k) return refuse(t, "x{n}? means other things elsewhere");
    if (t->p < t->end && *t->p == '+') { insert(out, atom, "(?:"); lm_str_putc(out, ')'); }
    return LM_OK;
}

static lm_err group_open(tr *t, lm_str *out) {
    static const char *const known[] = { "(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>", "(?i)", "(?-i)", "(?i:", "(?-i:" };
    size_t left = (size_t)(t->end - t->p);
    if (left > 1 && t->p[1] == '*') return refuse(t, "control verbs are not allowed");
    if (left > 1 && t->p[1] == '?') {
        for (int i = 0; i < LM_COUNT(known); i++) {
            size_t k = strlen(known[i]);
            if (left >= k && !memcmp(t->p, known[i], k)) { lm_str_puts(out, known[i]); t->p += k; return LM_OK; }
        }
        return refuse(t, "this kind of group is not translated");
    }
    lm_str_puts(out, "(?:");                               /* nothing looks at what a group matched */
    t->p++;
    return LM_OK;
}

static lm_err all(tr *t, lm_str *out) {
    size_t open[MAX_DEPTH], atom = out->n;
    int depth = 0;
    while (t->p < t->end) {
        char c = *t->p, lower = (char)(c | 32), last = t->last;
        size_t here = out->n;
        t->last = lower >= 'a' && lower <= 'z' ? lower : 0;
        if (t->caseless && ((last == 's' && (lower == 's' || lower == 't')) || (last == 'f' && (lower == 'f' || lower == 'i' || lower == 'l'))))
            return refuse(t, "letters that one joined letter stands for without case");
        if (c == '(') {
            if (depth == MAX_DEPTH) return refuse(t, "groups nested too deeply");
            bool flags = false;
            const char *was = t->p;
            LM_TRY(group_open(t, out));
            flags = t->p[-1] == ')' && t->p > was + 2;     /* (?i) opens nothing */
            if (!flags) open[depth++] = here;
            atom = here;
        } else if (c == ')') {
            if (!depth) return refuse(t, "a ) too many");
            atom = open[--depth];
            lm_str_putc(out, c);
            t->p++;
        } else if (c == '[') {
            t->p++;
            atom = here;
            LM_TRY(class_(t, out, 0));
        } else if (c == '\\') {
            t->p++;
            atom = here;
            char k = t->p < t->end ? *t->p : 0;
            if (k == 'A' || k == 'z' || k == 'Z') { lm_str_printf(out, "\\%c", k); t->p++; continue; }
            if (k == 'b' || k == 'B') {
                lm_str w = { .ctx = t->ctx };
                word_items(&w, true);
                lm_err e = lm_str_err(&w);
                if (!e && k == 'b') lm_str_printf(out, "(?:(?<=[%s])(?![%s])|(?<![%s])(?=[%s]))", w.p, w.p, w.p, w.p);
                else if (!e) lm_str_printf(out, "(?:(?<=[%s])(?=[%s])|(?<![%s])(?![%s]))", w.p, w.p, w.p, w.p);
                lm_str_free(&w);
                LM_TRY(e);
                t->p++;
                continue;
            }
            bool is_class, neg;
            lm_str one = { .ctx = t->ctx };
            lm_err err = escape(t, &one, true, &is_class, &neg);
            if (!err) err = lm_str_err(&one);
            if (!err && is_class) { lm_str_puts(out, neg ? "[^" : "["); lm_str_add(out, one.p, one.n); lm_str_putc(out, ']'); }
            else if (!err) lm_str_add(out, one.p, one.n);
            lm_str_free(&one);
            LM_TRY(err);
        } else if (c == '{') {
            LM_TRY(braces(t, out, atom));
        } else {
            /* A multi-byte character is one atom: only its first byte moves the mark. */
            if (c != '*' && c != '+' && c != '?' && ((uint8_t)c & 0xc0) != 0x80) atom = here;
            lm_str_putc(out, c);
            t->p++;
        }
    }
    return depth ? refuse(t, "a ( without )") : LM_OK;
}

lm_err lm_regex_translate(lm_ctx *ctx, const char *pattern, size_t n, lm_str *out) {
    if (n > MAX_PATTERN) return lm_fail(ctx, LM_E_UNSUPPORTED, "a regular expression of %zu bytes: at most %d are taken", n, MAX_PATTERN);
    if (!lm_utf8_ok(pattern, n) || memchr(pattern, 0, n)) return lm_fail(ctx, LM_E_FORMAT, "a regular expression that is not UTF-8 text");
    tr t = { .ctx = ctx, .all = pattern, .p = pattern, .end = pattern + n, .caseless = memmem(pattern, n, "(?i", 3) != NULL };
    LM_TRY(all(&t, out));
    if (!n) lm_str_puts(out, "");
    return lm_str_err(out);
}
