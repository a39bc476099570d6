/* data_int.h — the inside of lm_shards, for data/ alone.
 *
 * Lifetime: as lm_shards.  Threads: read only.  Errors: none. */
#ifndef LM_DATA_INT_H
#define LM_DATA_INT_H
#include "data/data.h"
#include "data/docs.h"
#include "data/shard.h"

typedef struct {
    const char *name;                     /* for sentences */
    lm_file *f; const void *map; size_t map_n;   /* NULL: in memory */
    lm_shard s;
    int64_t first;                        /* tokens in earlier segments */
} lm_seg;
struct lm_shards {
    lm_ctx *ctx;
    lm_arena *a;
    lm_seg *seg; int n;
    int64_t tokens, docs, bytes;
    int32_t vocab;
    lm_hash128_t tok;
    void *ids; int64_t *doc;              /* what an in-memory segment points to */
};
/* Segment that holds token t, 0 <= t < tokens. */
int lm_seg_of(const lm_shards *s, int64_t t);
lm_err lm_seg_bad_id(const lm_shards *s, int seg);

/* What tokenizing puts around a document: -1 = nothing. */
typedef struct { int32_t bos, eos; } lm_doc_ends;
static inline lm_doc_ends lm_doc_ends_of(const lm_tok *tok, bool add_eos) {
    int n = 0;
    const int32_t *eos = lm_tok_eos(tok, &n);
    return (lm_doc_ends){ lm_tok_adds_bos(tok) ? lm_tok_bos(tok) : -1, add_eos && n > 0 ? eos[0] : -1 };
}
lm_err lm_data_file(lm_ctx *ctx, char **out, const char *dir, int number);      /* DIR/00012.shard; lm_free */
#endif
