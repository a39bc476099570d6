/* tokenize.h — the inside of lm_data_tokenize: two sides (training and held-out), and the journal that lets a killed run go on.
 *
 * OUT/00000.shard …          finished shards, each put in place by rename
 * OUT/val/00000.shard …      those of the held-out documents
 * OUT/resume.json            after each shard: what the run is made from, the shards, and the document each side goes on at
 * OUT/tokenizer.json …       a copy
 * OUT/val/index.json, OUT/index.json   last: without it nobody opens the folder
 *
 * Lifetime: one call.  Threads: one.  Errors: as data.h. */
#ifndef LM_DATA_TOKENIZE_H
#define LM_DATA_TOKENIZE_H
#include "base/file.h"
#include "data/data_int.h"

typedef struct { lm_shard_sum sum; lm_doc_at next; int64_t skipped; } lm_made;     /* next: its documents all come before this one */
typedef struct {
    char *dir;
    lm_shard_out *w;
    lm_made *made; int n, cap;
    int64_t tokens;                       /* finished and not */
} lm_side;
typedef struct {
    lm_ctx *ctx; const lm_tok *tok; const lm_tokenize_opts *o;
    lm_text_files in;
    lm_docs *docs;
    lm_doc_ends ends; lm_shard_kind kind;
    lm_side side[2];                      /* training, held out */
    int64_t shard_tokens, skipped, warned;
    lm_hash128_t made_from;
    char *index, *journal;                /* paths */
    lm_lock *lock;
} lm_tokenizing;

static inline lm_doc_at lm_side_from(const lm_side *s) { return s->n ? s->made[s->n - 1].next : (lm_doc_at){ 0, 0 }; }
lm_err lm_made_push(lm_ctx *ctx, lm_side *s, const lm_made *m);
/* Inputs (name, size, time), tokenizer and options as one hash. */
lm_err lm_journal_made_from(lm_tokenizing *t);
/* Shards of an earlier run of the same that are whole go into t->side; *done: that run was finished. */
lm_err lm_journal_read(lm_tokenizing *t, bool *done);
lm_err lm_journal_write(lm_tokenizing *t);
/* Remove what no run will go on with: shards that are not in t->side, temporary files. */
lm_err lm_journal_sweep(lm_tokenizing *t);
lm_err lm_index_write(lm_tokenizing *t, int side);
#endif
