/* chat.h — a conversation with a model: messages, the session that holds what was computed, answers.
 *
 * Each answer renders the messages anew and compares the ids with those in the session: what both begin with is not computed again, the rest
 * is cut off. So undo, an edited system prompt or reasoning that the template drops from older turns cost what they change and no more.
 * When messages no longer fit, the oldest exchanges are left out, whole ones, never the system prompt; how many is said in the turn, and
 * they stay in the conversation (and its file). Reasoning is told apart from the answer: in the stream, and as reasoning_content in the messages.
 * Nothing is cut silently: a message that does not fit alone is refused with both figures.
 *
 * A saved conversation is two files: FILE, JSON with a checksum, and FILE.kv, the session's pages, so that going on costs no prefill. A
 * changed byte, or another model, is refused; without FILE.kv everything is computed again.
 *
 * Lifetime: borrows engine, tokenizer and format.  Threads: one at a time.
 * Errors:   as below; after an error the conversation is as before. */
#ifndef LM_CHAT_H
#define LM_CHAT_H
#include "chat/format.h"
#include "infer/generate.h"
typedef struct lm_chat lm_chat;
lm_err lm_chat_new(lm_chat **out, lm_engine *e, const lm_tok *tok, const lm_chat_format *f);
void lm_chat_free(lm_chat *c);                                           /* NULL is fine */
const json_t *lm_chat_messages(const lm_chat *c);                        /* an array */
lm_err lm_chat_system(lm_chat *c, const char *text, size_t n);           /* sets or replaces the system prompt; empty: none */
lm_err lm_chat_say(lm_chat *c, const char *role, const char *text, size_t n);
lm_err lm_chat_set(lm_chat *c, const char *name, json_t *value);         /* a variable of the template (takes value); NULL: unset */
bool lm_chat_undo(lm_chat *c, bool answer_only);                         /* takes back the last user's message and what follows it; or only what follows */
void lm_chat_keep(lm_chat *c, size_t n);                                 /* the first n messages alone */
void lm_chat_clear(lm_chat *c);                                          /* all but the system prompt */

typedef enum { LM_CHAT_REASONING, LM_CHAT_ANSWER } lm_chat_part;
typedef struct {
    int64_t max_tokens;                                                  /* 0 = what fits */
    bool lookup;                                                         /* speculate (infer/generate.h) */
    lm_sample_opts sample; const char *const *stop; int n_stop;
    int (*text)(void *ud, lm_chat_part part, const char *p, size_t n); void *ud;          /* as it becomes certain; non-zero interrupts */
    void (*reading)(void *ud, int64_t done, int64_t all);                /* a prompt of some length is being computed; NULL is fine */
    void (*dropped)(void *ud, int64_t messages, const json_t *first);    /* before the answer: messages left out beyond those of the turn before */
    const volatile int *cancel;
} lm_chat_opts;
typedef struct {
    lm_stop_reason why; int64_t prompt, reused, tokens, dropped, drafted, kept; double prefill_s, decode_s;
} lm_chat_turn;
/* Answer the messages so far; the answer becomes a message, also one that was interrupted. LM_E_CANCELLED: interrupted before it began; what was
 * read is kept. */
lm_err lm_chat_answer(lm_chat *c, const lm_chat_opts *o, lm_chat_turn *turn);
/* Ids the messages make with what begins an answer. */
lm_err lm_chat_count(lm_chat *c, int64_t *n);
/* The conversation to path and path.kv, and back. load: the conversation there was is gone. *warm: the session came with it. */
lm_err lm_chat_save(lm_chat *c, const char *path);
lm_err lm_chat_load(lm_chat *c, const char *path, bool *warm);
/* Only what was computed: the pages, to a file, and back. What a later conversation begins with as the ids there do is not computed again. */
lm_err lm_chat_cache_save(lm_chat *c, const char *path);
lm_err lm_chat_cache_load(lm_chat *c, const char *path);
#endif
