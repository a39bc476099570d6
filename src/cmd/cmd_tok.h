/* cmd_tok.h — a tokenizer on its way into a new model: what convert and quantize share.
 *
 * Lifetime: the argument struct lives as long as the writing.  Threads: the main thread.  Errors: LM_E_UNSUPPORTED: other ids on the way back. */
#ifndef LM_CMD_TOK_H
#define LM_CMD_TOK_H
#include "cmd/cmd_common.h"
typedef struct { lm_ctx *ctx; const lm_tok *tok; int64_t vocab; } lm_cmd_tok_arg;       /* tok NULL: none */
lm_err lm_cmd_tok_metadata(void *arg, lm_gguf_writer *w);              /* lm_cmd_tok_arg; as the writers of models call it */
/* Before any weight is written: does the tokenizer survive the way out and back? Written beside OUT for a moment and held against real text. */
lm_err lm_cmd_tok_survives(lm_cli *cli, const lm_tok *tok, bool gguf, const char *out, int64_t vocab);
#endif
