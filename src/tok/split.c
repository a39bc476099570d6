/* split.c — see split.h.
 *
 * A character is one of four kinds for these patterns: letter, number, white space, other; with marks for line ends and for the two letter
 * sets of o200k (upper-like: Lu Lt Lm Lo M, lower-like: Ll Lm Lo M). Alternatives are tried in the pattern's order; where a greedy run has
 * to give characters back, the code says so. */
#include "tok/split.h"
#include "tok/unicode.h"
#include <string.h>

enum { L = 1, N = 2, S = 4, O = 8, NL = 16, UP = 32, LOW = 64, SLASH = 128 };

static const uint8_t ascii[128] = {
    [0 ... 8] = O, [9] = S, [10] = S | NL, [11] = S, [12] = S, [13] = S | NL, [14 ... 31] = O, [' '] = S, ['!' ... '.'] = O, ['/'] = O | SLASH,
    ['0' ... '9'] = N, [':' ... '@'] = O, ['A' ... 'Z'] = L | UP, ['[' ... '`'] = O, ['a' ... 'z'] = L | LOW, ['{' ... 127] = O,
};
static const uint8_t by_cat[32] = {
    [LM_UC_CN] = O, [LM_UC_LU] = L | UP, [LM_UC_LL] = L | LOW, [LM_UC_LT] = L | UP, [LM_UC_LM] = L | UP | LOW, [LM_UC_LO] = L | UP | LOW,
    [LM_UC_MN] = O | UP | LOW, [LM_UC_MC] = O | UP | LOW, [LM_UC_ME] = O | UP | LOW, [LM_UC_ND] = N, [LM_UC_NL] = N, [LM_UC_NO] = N,
    [LM_UC_PC ... 31] = O,
};

/* What is at p, and how long; nothing at the end. */
static inline unsigned look(const uint8_t *p, const uint8_t *end, int *len) {
    if (p >= end) { *len = 0; return 0; }
    if (*p < 0x80) { *len = 1; return ascii[*p]; }
    unsigned u = lm_uc(lm_utf8_get(p, len));
    return u & LM_UC_SPACE ? (unsigned)S : by_cat[u & 31];
}

static inline const uint8_t *run(const uint8_t *p, const uint8_t *end, unsigned set) {
    for (;;) {
        while (p < end && *p < 0x80) {
            if (!(ascii[*p] & set)) return p;
            p++;
        }
        int len;
        if (!(look(p, end, &len) & set)) return p;
        p += len;
    }
}

/* At most max numbers. */
static inline const uint8_t *numbers(const uint8_t *p, const uint8_t *end, int max) {
    int len;
    while (max-- && look(p, end, &len) & N) p += len;
    return p;
}

/* \s+(?!\S)|\s+ at white space: all of it at the end of the text, else all but the last, else the one there is. */
static inline const uint8_t *spaces(const uint8_t *p, const uint8_t *end) {
    const uint8_t *q = run(p, end, S);
    if (q == end) return q;
    const uint8_t *last = lm_utf8_prev(p, q);
    return last > p ? last : q;
}

/* After an apostrophe: bytes of s|t|re|ve|m|ll|d, or 0. Without case, U+017F (long s) folds to s. */
static inline int contraction(const uint8_t *p, const uint8_t *end, bool fold) {
    size_t n = (size_t)(end - p);
    if (!n) return 0;
    unsigned a = p[0], b = n > 1 ? p[1] : 0;
    if (fold) {
        if (a == 0xc5 && b == 0xbf) return 2;
        if (a >= 'A' && a <= 'Z') a |= 32;
        if (b >= 'A' && b <= 'Z') b |= 32;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 1;
    return (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l') ? 2 : 0;
}

static const uint8_t *split_gpt2(const uint8_t *p, const uint8_t *end) {
    int len, k;
    if (*p == '\'' && (k = contraction(p + 1, end, false))) return p + 1 + k;
    const uint8_t *q = p + (*p == ' ');
    unsigned c = look(q, end, &len);
    if (c & (L | N | O)) return run(q + len, end, c & (L | N | O));
    return spaces(p, end);
}

/* ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`, with '/' beside the line ends for o200k. p is at "other" or white space. */
static inline const uint8_t *tail(const uint8_t *p, const uint8_t *end, unsigned after) {
    int len;
    const uint8_t *q = p + (*p == ' ');
    if (look(q, end, &len) & O) return run(run(q + len, end, O), end, after);
    q = run(p, end, S);
    for (const uint8_t *r = q; r > p; r--)                 /* \s* gives back until a line end is next: the last one of the run */
        if (r[-1] == '\n' || r[-1] == '\r') return r;
    return spaces(p, end);
}

static inline const uint8_t *split_like_llama3(const uint8_t *p, const uint8_t *end, int max_numbers) {
    int len, next, k;
    if (*p == '\'' && (k = contraction(p + 1, end, true))) return p + 1 + k;
    unsigned c = look(p, end, &len);
    if (c & L) return run(p + len, end, L);
    if (c & N) return numbers(p, end, max_numbers);
    if (!(c & NL) && look(p + len, end, &next) & L) return run(p + len + next, end, L);
    return tail(p, end, NL);
}
static const uint8_t *split_llama3(const uint8_t *p, const uint8_t *end) { return split_like_llama3(p, end, 3); }
static const uint8_t *split_qwen2(const uint8_t *p, const uint8_t *end) { return split_like_llama3(p, end, 1); }

/* [upper-like]*[lower-like]+ : the first run is greedy and gives back until a lower-like character is next. NULL: no match. */
static inline const uint8_t *upper_lower(const uint8_t *p, const uint8_t *end) {
    int len;
    const uint8_t *e = run(p, end, UP);
    if (look(e, end, &len) & LOW) return run(e + len, end, LOW);
    for (const uint8_t *r = e; r > p;) {
        r = lm_utf8_prev(p, r);
        if (look(r, end, &len) & LOW) return run(r + len, end, LOW);
    }
    return NULL;
}
/* [upper-like]+[lower-like]* */
static inline const uint8_t *uppers(const uint8_t *p, const uint8_t *end) {
    const uint8_t *e = run(p, end, UP);
    return e > p ? run(e, end, LOW) : NULL;
}

static const uint8_t *split_o200k(const uint8_t *p, const uint8_t *end) {
    int len, k;
    unsigned c = look(p, end, &len);
    if (c & N) return numbers(p, end, 3);
    bool skip = !(c & (NL | L));                           /* [^\r\n\p{L}\p{N}]? can take this character; it is tried with and without */
    const uint8_t *q = skip ? upper_lower(p + len, end) : NULL;
    if (!q) q = upper_lower(p, end);
    if (!q && skip) q = uppers(p + len, end);
    if (!q) q = uppers(p, end);
    if (q) return q < end && *q == '\'' && (k = contraction(q + 1, end, true)) ? q + 1 + k : q;
    return tail(p, end, NL | SLASH);
}

#define LLAMA3(contr, num) contr "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" num "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CONTR_I "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define PRE "[^\\r\\n\\p{L}\\p{N}]?"
#define UPS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
const lm_split_row lm_split_rows[] = {
    { "gpt2", "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", split_gpt2 },
    { "gpt2", "'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", split_gpt2 },
    { "llama3", LLAMA3(CONTR_I, "\\p{N}{1,3}"), split_llama3 },
    { "llama3", LLAMA3("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]|'\xc5\xbf)", "\\p{N}{1,3}"), split_llama3 },
    { "llama3",
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
      split_llama3 },
    { "cl100k", LLAMA3(CONTR_I, "\\p{N}{1,3}"), split_llama3 },
    { "qwen2", LLAMA3(CONTR_I, "\\p{N}"), split_qwen2 },
    { "o200k",
      PRE UPS "*" LOWS "+" CONTR_I "?|" PRE UPS "+" LOWS "*" CONTR_I
              "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      split_o200k },
    { NULL, NULL, NULL },
};

const lm_split_row *lm_split_by_name(const char *name) {
    for (const lm_split_row *r = lm_split_rows; r->name; r++)
        if (!strcmp(r->name, name)) return r;
    return NULL;
}
const lm_split_row *lm_split_by_pattern(const char *pattern) {
    for (const lm_split_row *r = lm_split_rows; r->name; r++)
        if (!strcmp(r->pattern, pattern)) return r;
    return NULL;
}
