/* train.h — between the two halves of training: counting words (train_count.c) and merging pairs (train.c).
 *
 * Lifetime: the trainer's.  Threads: one table per pool member while counting; merging is one thread's.  Errors: LM_E_NOMEM. */
#ifndef LM_TOK_TRAIN_H
#define LM_TOK_TRAIN_H
#include "tok/tok_int.h"
typedef struct { uint64_t hash; size_t at; uint32_t n; int64_t count; } lm_count_word;    /* count 0: empty slot; bytes at `at` of the blob */
typedef struct { lm_count_word *w; uint64_t n, mask; lm_str blob; } lm_count_table;
lm_err lm_count_add(lm_ctx *ctx, lm_count_table *c, const uint8_t *p, size_t n, int64_t count);
void lm_count_free(lm_ctx *ctx, lm_count_table *c);
struct lm_tok_trainer {
    lm_ctx *ctx;
    lm_tok *tok;                                /* specials and pipeline; becomes the result */
    lm_count_table *table; int n_table;         /* one per thread */
    lm_tok_train_opts opts;                     /* strings in here are not used after trainer_new, but for the callback */
    int32_t n_special;
    bool finished;
};
#endif
