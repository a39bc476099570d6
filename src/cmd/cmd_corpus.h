/* cmd_corpus.h — the text that the program carries: its own sources and documentation, packed while building (tools/embed.c).
 *
 * Lifetime: the text is the caller's (lm_free).  Threads: safe.  Errors: LM_E_NOMEM. */
#ifndef LM_CMD_CORPUS_H
#define LM_CMD_CORPUS_H
#include "base/base.h"
lm_err lm_cmd_corpus(lm_ctx *ctx, char **text, size_t *n);
#endif
