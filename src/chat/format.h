/* format.h — a conversation as the ids that a model was taught: its chat template, its control tokens, where an answer ends.
 *
 * Messages are JSON as everybody writes them: {"role", "content", "tool_calls", …}. The template is the one that came with the model
 * (tokenizer_config.json, chat_template.jinja, GGUF's tokenizer.chat_template) or a file; none is made up for a model without. The text it gives is
 * tokenized as one text, as Hugging Face's libraries do it, with this difference: control tokens come from the template and from what the model
 * itself has said, never from the words of users, tools and system prompts, which mean what they say (see the marks of chat/jinja.h). That holds
 * for special tokens and for added ones that the template writes, such as <tool_call>.
 *
 * Lifetime: borrows the tokenizer.  Threads: immutable; any may render.
 * Errors:   LM_E_UNSUPPORTED: no template; LM_E_CONFIG: messages that are none; what the template says (chat/jinja.h). */
#ifndef LM_CHAT_FORMAT_H
#define LM_CHAT_FORMAT_H
#include "chat/jinja.h"
#include "tok/tok.h"
typedef struct lm_chat_format lm_chat_format;
/* text NULL: the tokenizer's own template. name is for sentences. */
lm_err lm_chat_format_new(lm_chat_format **out, lm_ctx *ctx, const lm_tok *tok, const char *name, const char *text, size_t n);
void lm_chat_format_free(lm_chat_format *f);                             /* NULL is fine */
/* Tokens that end an answer by this template, beside the tokenizer's own ends. */
const int32_t *lm_chat_ends(const lm_chat_format *f, int *n);
/* What stands around reasoning, or NULL: "<think>" and "</think>". */
const char *lm_chat_think(const lm_chat_format *f, const char **close);
/* messages: an array. more (may be NULL): further variables of the template (tools, documents, enable_thinking …). prompt: what begins an answer
 * is added. ids are appended; text (may be NULL) gets what the template wrote. */
lm_err lm_chat_render(const lm_chat_format *f, lm_ctx *ctx, const json_t *messages, const json_t *more, bool prompt, lm_tok_buf *ids, lm_str *text);
#endif
