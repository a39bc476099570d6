/* embed.h — texts to vectors: every token's last hidden state, pooled, one vector a text.
 *
 * Texts lie one behind the other in a run, each a document that sees itself alone, so a vector does not depend on the others to the bit, nor on how
 * texts are grouped. MEAN is the mean over the text's tokens, special ones included (as the libraries of record have it), CLS the first token's
 * state, LAST the last one's. Normalized vectors have length 1.
 *
 * Lifetime: an embedder borrows the store with the weights.  Threads: one caller (the pool works inside).
 * Errors:   LM_E_CONFIG: no pooling is known; LM_E_RANGE: a text is empty, longer than the model's positions, or holds an id outside the vocabulary. */
#ifndef LM_EMBED_VECTORS_H
#define LM_EMBED_VECTORS_H
#include "graph/plan.h"
#include "model/model.h"
typedef struct lm_embedder lm_embedder;
typedef struct {
    lm_pooling pool;                /* NONE: as the model says */
    int normalize;               /* 0: as the model says; 1 yes; -1 no */
    int64_t longest, rows;       /* tokens of the longest text that is to come (0: the model's positions, at most 512); tokens of a run, at least that */
    lm_dtype mm;                 /* as lm_engine_opts */
} lm_embed_opts;
lm_err lm_embedder_new(lm_embedder **out, lm_ctx *ctx, const lm_cfg *cfg, lm_store *weights, const lm_embed_opts *o);
void lm_embedder_free(lm_embedder *e);
/* Text i is ids[start[i] .. start[i+1]); vectors (n, d). */
lm_err lm_embed_texts(lm_embedder *e, const int32_t *ids, const size_t *start, size_t n, float *vectors);
#endif
