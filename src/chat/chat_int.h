/* chat_int.h — a conversation's fields, for chat.c and chat_file.c. */
#ifndef LM_CHAT_INT_H
#define LM_CHAT_INT_H
#include "chat/chat.h"
struct lm_chat {
    lm_ctx *ctx; lm_engine *e; const lm_tok *tok; const lm_chat_format *f; lm_session *s;
    json_t *messages, *vars;
    size_t from;                                                         /* the first message that is sent, beside the system prompt */
};
#endif
