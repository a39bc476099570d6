/* tok.h — tokenizers: text to ids and back, the same ids as the tokenizer the model was trained with.
 *
 * A tokenizer is data: a vocabulary, a merge table, a pipeline (normalizer, pre-tokenizer, post-processor, decoder) and added tokens. Whatever file
 * it comes from (tokenizer.json, vocab.json + merges.txt, tiktoken ranks, SentencePiece .model, GGUF, llama2.c's tokenizer.bin), it is brought to
 * that one form, the one Hugging Face's tokenizer.json states, so there is one encoder, one decoder and one writer. Two merge orders exist:
 * by rank in a list (BPE) and by score or rank of the result (SentencePiece BPE, tiktoken); both are one table (left, right) -> (rank, id).
 * Encoding cuts out added tokens, normalizes, splits into words, merges each word; words met before come from a cache. The known split
 * patterns are hand-written state machines (split.c); all others run in PCRE2 over text checked to be UTF-8 first.
 * What a file asks for and we do not have (Unigram, a normalization table, dropout…) is an error naming it: ids that are nearly right
 * are wrong.
 *
 * Lifetime: an lm_tok belongs to the caller and is immutable; strings it returns live as long as it does.
 * Threads:  any number may encode and decode with one lm_tok; results and error sentences go to the context in the caller's own buffer.
 * Errors:   LM_E_FORMAT (malformed file), LM_E_UNSUPPORTED (a kind we do not have), LM_E_DATA (text is not UTF-8, a byte without a token),
 *           LM_E_RANGE (an id outside the vocabulary), LM_E_CONFIG (options). */
#ifndef LM_TOK_H
#define LM_TOK_H
#include "base/base.h"
enum { LM_TOK_MAX_VOCAB = 1 << 23, LM_TOK_MAX_PIECE = 1 << 16 };   /* ids and bytes of one token that a file may state */

typedef struct lm_tok lm_tok;
typedef struct {
    const char *kind;        /* NULL, or "r50k", "p50k", "cl100k", "o200k", "llama3", "qwen2", "gpt2": which pattern and special tokens go with a file
                              * that does not say (tiktoken ranks, vocab.json + merges.txt); NULL = by file name, tokenizer_config.json or size */
    int add_bos, add_eos;    /* with LM_TOK_ADD: 0 = as the file says, 1 = always, -1 = never */
} lm_tok_opts;

/* path: a folder (tokenizer.json, else vocab.json + merges.txt, else tokenizer.model) or one file; a file is recognized by its content.
 * opts may be NULL. */
lm_err lm_tok_open(lm_ctx *ctx, const char *path, const lm_tok_opts *opts, lm_tok **out);
/* The same from memory; name is for error sentences and file-name rules. Not GGUF. */
lm_err lm_tok_open_mem(lm_ctx *ctx, const char *name, const void *bytes, size_t n, const lm_tok_opts *opts, lm_tok **out);
/* From GGUF metadata already open (a struct lm_gguf of format/gguf.h). */
struct lm_gguf;
lm_err lm_tok_open_gguf(lm_ctx *ctx, const char *name, struct lm_gguf *g, const lm_tok_opts *opts, lm_tok **out);
void lm_tok_free(lm_tok *tok);                                   /* NULL is fine */

/* ---- what it is ---- */
typedef enum { LM_TOK_NONE, LM_TOK_NORMAL, LM_TOK_CONTROL, LM_TOK_ADDED, LM_TOK_BYTE, LM_TOK_UNKNOWN, LM_TOK_UNUSED } lm_tok_type;
int32_t lm_tok_vocab(const lm_tok *tok);                         /* ids are 0 .. vocab - 1; some may be LM_TOK_NONE */
lm_tok_type lm_tok_type_of(const lm_tok *tok, int32_t id);
const char *lm_tok_piece(const lm_tok *tok, int32_t id, size_t *n);      /* the bytes it stands for in a text; NULL if there is no such id */
const char *lm_tok_spelling(const lm_tok *tok, int32_t id, size_t *n);   /* as the vocabulary file writes it */
int32_t lm_tok_id(const lm_tok *tok, const char *spelling, size_t n);    /* -1 if there is none */
int32_t lm_tok_bos(const lm_tok *tok);                           /* -1 if there is none; so for the next two */
int32_t lm_tok_pad(const lm_tok *tok);
int32_t lm_tok_unk(const lm_tok *tok);
const int32_t *lm_tok_eos(const lm_tok *tok, int *n);            /* every id that ends a text or a turn; the first is the one LM_TOK_ADD uses */
bool lm_tok_is_eos(const lm_tok *tok, int32_t id);
bool lm_tok_adds_bos(const lm_tok *tok);                         /* does LM_TOK_ADD put BOS first? */
const char *lm_tok_template(const lm_tok *tok);                  /* the chat template (Jinja) that came with it, or NULL */
const char *lm_tok_kind(const lm_tok *tok);                      /* "byte-level BPE", "SentencePiece BPE", "character BPE" or "WordPiece" */
/* of vocabulary, merges, added tokens and pipeline: two files with one hash give equal ids */
lm_hash128_t lm_tok_hash(const lm_tok *tok);

/* ---- text to ids ---- */
enum {
    LM_TOK_ADD = 1,          /* add BOS/EOS as the tokenizer states */
    LM_TOK_SPECIAL = 2,      /* encode: "<|eot_id|>" in the text means that token (never for text from users); decode: write control tokens out */
    LM_TOK_RAW = 4,          /* encode: bytes that are not UTF-8 are encoded as bytes instead of being refused */
};
typedef struct { lm_ctx *ctx; int32_t *id; size_t n, cap; } lm_tok_buf;  /* {.ctx = ctx} is a valid empty one; ctx may be NULL (no sentences) */
void lm_tok_buf_free(lm_tok_buf *b);
lm_err lm_tok_encode(const lm_tok *tok, const char *text, size_t n, unsigned flags, lm_tok_buf *out);   /* appends; on error out is as before */
/* Parts of a text that no control token may come from, though LM_TOK_SPECIAL is on for the rest: byte[i] != 0 guards byte i. An added token
 * that is not special stays what it is, unless its bit is set in id (vocab bits; NULL: none is). The whole is still one text: what words are
 * does not depend on the guard. */
typedef struct { const uint8_t *byte, *id; } lm_tok_guard;
lm_err lm_tok_encode_guarded(const lm_tok *tok, const char *text, size_t n, const lm_tok_guard *guard, unsigned flags, lm_tok_buf *out);
typedef struct { const char *p; size_t n; } lm_tok_text;
/* Every document over the pool of ctx; ids of document i are out->id[start[i]] .. out->id[start[i+1] - 1], the same as one by one. start
 * has n_docs + 1. */
lm_err lm_tok_encode_many(lm_ctx *ctx, const lm_tok *tok, const lm_tok_text *docs, size_t n_docs, unsigned flags, lm_tok_buf *out, size_t *start);

/* ---- ids to text ---- */
lm_err lm_tok_decode(const lm_tok *tok, const int32_t *id, size_t n, unsigned flags, lm_str *out);      /* appends bytes, as they are */
/* One id at a time: what is appended never ends inside a UTF-8 character (up to three bytes are held back; flush gives what is left).
 * All that push and flush append, together, is what lm_tok_decode gives. A plain value: nothing to free. */
typedef struct { const lm_tok *tok; unsigned flags; bool begun; int n_held; uint8_t held[4]; } lm_tok_stream;
lm_tok_stream lm_tok_stream_begin(const lm_tok *tok, unsigned flags);
lm_err lm_tok_stream_push(lm_tok_stream *s, int32_t id, lm_str *out);
lm_err lm_tok_stream_flush(lm_tok_stream *s, lm_str *out);

/* ---- to disk ---- */
/* dir/tokenizer.json and dir/tokenizer_config.json, as Hugging Face's libraries read them. The folder is made if need be. */
lm_err lm_tok_save(lm_ctx *ctx, const lm_tok *tok, const char *dir);
lm_err lm_tok_to_json(lm_ctx *ctx, const lm_tok *tok, lm_str *out);
/* As metadata of a GGUF file being written. vocab: rows of the model's embedding; ids beyond the tokenizer's become unused tokens. */
struct lm_gguf_writer;
lm_err lm_tok_put_gguf(lm_ctx *ctx, const lm_tok *tok, struct lm_gguf_writer *w, int64_t vocab);

/* ---- training a byte-level BPE ---- */
typedef struct {
    int64_t vocab;                    /* final size: special tokens + 256 bytes + merges; fewer if the text has no more pairs */
    int64_t min_count;                /* a pair seen less often is not merged; 0 = 1 */
    const char *const *special; int n_special;   /* get ids 0, 1, …; NULL = {"<|endoftext|>"} */
    const char *bos, *eos, *pad;      /* which of special they are; NULL = none (eos: the first special) */
    const char *pattern;              /* "gpt2" (NULL), "llama3", "qwen2", "cl100k", "o200k", or a regular expression that says what a word is */
    bool add_bos;                     /* LM_TOK_ADD puts bos first */
    bool (*progress)(void *ud, const char *stage, int64_t done, int64_t all); void *ud;   /* false stops (LM_E_CANCELLED); NULL is fine */
} lm_tok_train_opts;
typedef struct lm_tok_trainer lm_tok_trainer;
lm_err lm_tok_trainer_new(lm_ctx *ctx, const lm_tok_train_opts *opts, lm_tok_trainer **out);
lm_err lm_tok_trainer_add(lm_tok_trainer *t, const lm_tok_text *docs, size_t n);     /* counts words, over the pool; documents are not kept */
lm_err lm_tok_trainer_finish(lm_tok_trainer *t, lm_tok **out);                       /* merges; t must still be freed */
void lm_tok_trainer_free(lm_tok_trainer *t);
lm_err lm_tok_train(lm_ctx *ctx, const lm_tok_train_opts *opts, const lm_tok_text *docs, size_t n, lm_tok **out);
#endif
