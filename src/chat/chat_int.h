/* chat_int.h — a conversation's fields, for chat.c and chat_file.c. */
#ifndef LM_CHAT_INT_H
#define LM_CHAT_INT_H
#include "chat/chat.h"
struct lm_chat {
    lm_ctx *ctx; lm_engine *e; const lm_tok *tok; const lm_chat_format *f; lm_session *s;
    json_t *messages, *vars;
    size_t from;                                                         /* the first message that is sent, beside the system prompt */
};
/* A stream of text into reasoning (between open and close, at the beginning only) and answer. What could still become a tag is held back;
 * bytes that are no UTF-8 become U+FFFD; newlines between tags and text belong to neither. The parts do not depend on how the text was cut,
 * between characters. */
typedef struct {
    const char *open, *close; bool thinking, begun;                       /* open NULL: all is answer; thinking: it begins inside */
    int (*text)(void *ud, lm_chat_part part, const char *p, size_t n); void *ud;
    lm_str held, part[2];
} lm_chat_splitter;
int lm_chat_split(lm_chat_splitter *s, const char *p, size_t n);          /* non-zero: text() wants no more */
int lm_chat_split_end(lm_chat_splitter *s);                               /* half a tag at the end is text */
void lm_chat_split_free(lm_chat_splitter *s);
#endif
