/* translate.h — a timeline of one vocabulary in another, by way of the bytes it stands for.
 *
 * A draft whose tokens are other pieces of text can still guess: what was written so far is encoded as its tokenizer would, and what it writes is encoded as
 * ours. Control tokens are no text: one that both spell alike is itself, others are left out; each text begins as texts of its vocabulary do. Where a
 * piece of text is a token of both, that token is known as both. Nothing here decides what is written: guesses are checked by the model (speculate.h), so
 * a translation that is not how the other would have written it costs time, never a wrong token.
 *
 * Lifetime: borrows both tokenizers.  Threads: one caller (scratch is its own).
 * Errors:   LM_E_MISMATCH: the other vocabulary has no way to write a character of ours; LM_E_NOMEM. */
#ifndef LM_TRANSLATE_H
#define LM_TRANSLATE_H
#include "tok/tok.h"
typedef struct lm_translator lm_translator;
/* rows: of the models' embeddings, ids beyond the tokenizer's being no tokens. */
lm_err lm_translator_new(lm_translator **out, lm_ctx *ctx, const lm_tok *ours, int64_t our_rows, const lm_tok *theirs, int64_t their_rows);
void lm_translator_free(lm_translator *t);                                     /* NULL is fine */
double lm_translator_shared(const lm_translator *t);                           /* the part of their tokens that are tokens of ours */
const int32_t *lm_translator_ours(const lm_translator *t);                     /* for each of their ids ours, or -1 */
const int32_t *lm_translator_theirs(const lm_translator *t);
/* Our ids, from the beginning, as theirs; appended. */
lm_err lm_translate(lm_translator *t, const int32_t *ids, int64_t n, lm_tok_buf *out);
/* How ours go on after these ids with `text`; appended. Nothing where no token of ours would begin just there. */
lm_err lm_translate_on(lm_translator *t, const int32_t *ids, int64_t n, const char *text, size_t bytes, lm_tok_buf *out);
#endif
