/* regex.h — a tokenizer file's regular expression, run by PCRE2 with the meaning the file's author saw.
 *
 * The patterns are written for Oniguruma (Ruby syntax) or Rust's regex. They differ from PCRE2 in what \s, \w, \h, \v, ^, $ and x{1,3}+ mean, and
 * PCRE2's Unicode tables are older; so the pattern is parsed and rewritten first (classes spelled out from unicode_tables.c), and what has no
 * certain equal here is refused. Matching is bounded (steps, heap), runs as machine code where PCRE2 has a JIT, and is given only text that was
 * checked to be UTF-8: PCRE2 without its own check reads out of bounds on anything else.
 *
 * Lifetime: an lm_regex is immutable; a state belongs to one thread and serves any number of expressions.
 * Threads:  an lm_regex may be used by many, each with its own state.
 * Errors:   LM_E_UNSUPPORTED (syntax we do not translate), LM_E_FORMAT (not a regular expression), LM_E_DATA (limits reached while matching). */
#ifndef LM_TOK_REGEX_H
#define LM_TOK_REGEX_H
#include "base/base.h"
typedef struct lm_regex lm_regex;
typedef struct lm_regex_state lm_regex_state;
lm_err lm_regex_new(lm_ctx *ctx, const char *pattern, size_t n, lm_regex **out);
void lm_regex_free(lm_regex *re);
lm_err lm_regex_state_new(lm_ctx *ctx, lm_regex_state **out);
void lm_regex_state_free(lm_regex_state *st);
/* The first match at or after *from: *s < *e or empty. On a match *from moves behind it (and past one more character if it was empty). *found
 * false: no more. text must be well-formed UTF-8. Errors go to ctx. */
lm_err lm_regex_next(const lm_regex *re, lm_regex_state *st, lm_ctx *ctx, const uint8_t *text, size_t n, size_t *from, size_t *s, size_t *e,
                     bool *found);
/* The translation alone (tests look at it). */
lm_err lm_regex_translate(lm_ctx *ctx, const char *pattern, size_t n, lm_str *out);
#endif
