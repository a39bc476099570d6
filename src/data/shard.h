/* shard.h — one shard file: documents as 16- or 32-bit ids, their offsets, and hashes of it all. For data/ and its tests.
 *
 *   head (64 bytes)  | ids, zero-padded to 8 | document offsets, n_docs + 1 of them | tail (80 bytes)          docs/rooms/data.md has every byte
 *
 * Counts and hashes stand at the end because they are known last: a shard is written in one pass with no more memory than its offsets. A
 * file without its tail is a file that was cut off. Opening checks head and tail by their own hash, the size of the file, and that offsets
 * rise from 0 to n_tokens; lm_shard_verify re-hashes all and compares every id with the vocabulary, which reading ids does too for what it
 * reads.
 *
 * Lifetime: an lm_shard borrows its bytes; a writer ends by finish or abort.  Threads: reading by many; one per writer.
 * Errors:   LM_E_FORMAT, naming the file and what is wrong with it. */
#ifndef LM_DATA_SHARD_H
#define LM_DATA_SHARD_H
#include "base/file.h"
enum { LM_SHARD_VERSION = 1, LM_SHARD_HEAD = 64, LM_SHARD_TAIL = 80 };

typedef struct {
    const void *ids; bool wide;           /* uint16_t, or uint32_t if wide */
    const int64_t *doc;                   /* n_docs + 1 offsets in tokens */
    int64_t n_tokens, n_docs, n_bytes;    /* bytes: of the text */
    int32_t vocab, eos;                   /* ids are below vocab; eos -1: none was added */
    lm_hash128_t tok, hash;               /* tokenizer; everything before the tail */
} lm_shard;
lm_err lm_shard_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_shard *out);
lm_err lm_shard_verify(lm_ctx *ctx, const char *name, const void *p, size_t n);
/* ids [from, from + n) of s as int32; false: one is outside the vocabulary. The caller has checked the range. */
bool lm_shard_ids(const lm_shard *s, int64_t from, int64_t n, int32_t *dst);
/* Number of the document that holds token t, 0 <= t < n_tokens. */
int64_t lm_shard_doc_of(const lm_shard *s, int64_t t);

typedef struct { int32_t vocab, eos; lm_hash128_t tok; } lm_shard_kind;
typedef struct lm_shard_out lm_shard_out;
lm_err lm_shard_create(lm_shard_out **out, lm_ctx *ctx, const char *path, const lm_shard_kind *kind);
lm_err lm_shard_add(lm_shard_out *w, const int32_t *ids, size_t n);     /* more of the document that is open; ids within the vocabulary */
lm_err lm_shard_end_doc(lm_shard_out *w, int64_t bytes);
typedef struct { int64_t tokens, docs, bytes, size; lm_hash128_t hash; } lm_shard_sum;
lm_shard_sum lm_shard_so_far(const lm_shard_out *w);                    /* size and hash not yet */
lm_err lm_shard_finish(lm_shard_out *w, lm_shard_sum *sum);             /* to the disk, under its name; frees w either way */
void lm_shard_abort(lm_shard_out *w);                                   /* NULL is fine; leaves nothing */
static inline bool lm_vocab_wide(int32_t vocab) { return vocab > 65536; }
#endif
