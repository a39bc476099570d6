/* data.h — from text to batches: tokenized shards on disk, and a loader whose batch number i is a pure function of (seed, i).
 *
 * `loam data tokenize` turns text, JSONL, .gz and .zst into a shard folder: documents one after another as 16- or 32-bit ids in
 * memory-mapped files with checksums, document offsets and the tokenizer's hash. The loader cuts each source into windows of T+1 ids,
 * shuffles all windows of an epoch by a keyed permutation (O(1), no table), draws sources by weight, and marks documents so that attention
 * never crosses them. Nothing but the number of the next sequence needs saving to resume, and it is the same for any number of ranks: rank
 * r of R takes sequences i*B*R + r*B … of step i.
 *
 * Lifetime: a loader owns its maps; a batch's arrays belong to the caller (lm_batch_alloc).  Threads: lm_loader_fill may be called by many
 *           on different batches.
 * Errors:   name the shard and what is wrong with it. */
#ifndef LM_DATA_H
#define LM_DATA_H
#include "tok/tok.h"

/* ---- shards ---------------------------------------------------------------------------------------------------------------- */
typedef struct lm_shards lm_shards;                      /* one folder, or one plain text/JSONL file tokenized in memory */
lm_err lm_shards_open(lm_shards **out, lm_ctx *ctx, const char *dir);
/* Tokenize text files in memory (small corpora: quickstart, `data.path` naming a text or JSONL file, .gz and .zst too). Documents: a JSONL
 * line's `text`, else the whole file; empty ones are left out. Around each: BOS where the tokenizer adds one, EOS where it has one. Text
 * that is not UTF-8 is an error with its place. */
lm_err lm_shards_from_text(lm_shards **out, lm_ctx *ctx, const lm_tok *tok, const char *path);
void lm_shards_close(lm_shards *s);
int64_t lm_shards_tokens(const lm_shards *s);
int64_t lm_shards_docs(const lm_shards *s);
int64_t lm_shards_bytes(const lm_shards *s);             /* of the original text: for bits per byte */
lm_hash128_t lm_shards_tok_hash(const lm_shards *s);
/* of the ids and where documents begin: by the shards' own hashes, which lm_shards_verify holds against the bytes */
lm_hash128_t lm_shards_hash(const lm_shards *s);
lm_err lm_shards_get(const lm_shards *s, int64_t from, int64_t n, int32_t *ids);          /* ids of the concatenation of all documents */
/* start of the document that holds this token; -1: no such token */
int64_t lm_shards_doc_start(const lm_shards *s, int64_t token);
lm_err lm_shards_verify(lm_shards *s);                   /* re-hash everything */
/* A byte-level BPE of `vocab` ids (GPT-2's word pattern, <|endoftext|> as its only special token) trained on the documents of a text or
 * JSONL file. */
lm_err lm_data_train_tokenizer(lm_ctx *ctx, const char *path, int64_t vocab, lm_tok **out);
/* "fail" | "skip" */
typedef struct {
    const char *out, *const *in;
    int n_in;
    const char *field;
    int64_t shard_tokens;
    double val_fraction;
    bool add_eos;
    const char *on_error;
    void (*progress)(void *ud, int64_t bytes, int64_t total, int64_t tokens);
    void *ud;
    const volatile int *stop; /* becomes non-zero: LM_E_CANCELLED after the batch in hand */
} lm_tokenize_opts;
/* Parallel, resumable (finished shards with the same inputs and tokenizer are kept), bit-identical for any thread count. val_fraction > 0:
 * whole documents, chosen by hash, go to out/val. field NULL = "text", shard_tokens 0 = 2^27, on_error NULL = "fail". A folder that holds
 * a finished set made from other inputs, options or tokenizer is refused (LM_E_MISMATCH), and one that another process is filling
 * (LM_E_IO). */
lm_err lm_data_tokenize(lm_ctx *ctx, const lm_tok *tok, const lm_tokenize_opts *o);

/* ---- batches ------------------------------------------------------------------------------------------------------------------ */
typedef struct {
    int64_t n_seq, seq, n;                               /* n = n_seq * seq */
    /* (n): target -1 = no loss; pos counts from the document's start in this window; start = row of that */
    int32_t *tokens, *target, *pos, *start;
    int64_t n_target;                                    /* targets >= 0 */
} lm_batch;
lm_err lm_batch_alloc(lm_ctx *ctx, lm_batch *b, int64_t n_seq, int64_t seq);
void lm_batch_free(lm_ctx *ctx, lm_batch *b);
typedef struct { lm_shards *shards; double weight; int64_t first, count; } lm_source;      /* tokens [first, first+count); count 0 = to the end */
typedef struct lm_loader lm_loader;
typedef struct { const lm_source *sources; int n_source; int64_t seq; uint64_t seed; bool mask_docs, shuffle; } lm_loader_opts;
lm_err lm_loader_new(lm_loader **out, lm_ctx *ctx, const lm_loader_opts *o);                /* borrows the shards */
void lm_loader_free(lm_loader *l);
/* Fill b with sequences first, first+1, … of the endless deterministic stream (epochs reshuffle; sources by weight as in mix.h). On error
 * b's contents are undefined. */
lm_err lm_loader_fill(const lm_loader *l, lm_batch *b, uint64_t first);
int64_t lm_loader_epoch_seqs(const lm_loader *l);        /* windows in one pass over all sources */
#endif
