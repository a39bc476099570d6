/* split.h — the known word patterns as state machines: the fast path of pre-tokenization.
 *
 * Each row is one published regular expression (or several spellings of it) and a function that, at a place where the previous word ended, returns
 * where the next one ends. The patterns cover every character, so text is their words, one after the other. tests/test_tok_split.c holds every row
 * against PCRE2 running the pattern itself.
 *
 * Lifetime: constant.  Threads: any.  Errors: none; the text must be well-formed UTF-8. */
#ifndef LM_TOK_SPLIT_H
#define LM_TOK_SPLIT_H
#include "base/base.h"
typedef const uint8_t *lm_split_fn(const uint8_t *p, const uint8_t *end);   /* p < end; returns > p */
typedef struct { const char *name; const char *pattern; lm_split_fn *fn; } lm_split_row;
extern const lm_split_row lm_split_rows[];      /* the first row of a name has the pattern to write; ends with name = NULL */
const lm_split_row *lm_split_by_name(const char *name);
const lm_split_row *lm_split_by_pattern(const char *pattern);
#endif
