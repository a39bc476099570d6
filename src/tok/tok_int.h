/* tok_int.h — the inside of a tokenizer, for tok/ alone.
 *
 * A loader fills tokens, merges, added tokens and the four pipeline parts (as JSON text, whatever the file was); lm_tok_finish() compiles
 * them: indexes, merge table, pipeline steps, pieces. After that nothing changes but the list of idle scratches, which has its own lock.
 * Two spellings of a token: text, as the file has it, and piece, the bytes it stands for. A byte-level model merges pieces, a character
 * model merges texts: `key` below is the one that is merged.
 *
 * Lifetime: as lm_tok.  Threads: see above.  Errors: as tok.h. */
#ifndef LM_TOK_INT_H
#define LM_TOK_INT_H
#include "tok/tok.h"
#include "tok/regex.h"
#include "tok/split.h"
#include <jansson.h>
#include <pthread.h>
#include <string.h>

typedef struct {
    uint32_t text, text_n, piece, piece_n;      /* into lm_tok.blob */
    float score;
    uint8_t type;                               /* lm_tok_type */
    bool model;                                 /* in the model's vocabulary (added tokens need not be) */
    bool raw;                                   /* byte-level: the text is not in the byte alphabet and is its own piece */
    int32_t added;                              /* index into lm_tok.added, plus one; 0: not an added token */
} lm_tok_one;

typedef struct { int32_t left, right, id; uint32_t rank; } lm_tok_merge;
typedef struct { uint64_t key; uint32_t rank; int32_t id; } lm_tok_slot;      /* key = left << 32 | right; id = -1: empty */
typedef struct { int32_t *slot; uint32_t mask; } lm_tok_map;                  /* strings to ids; -1: empty */

enum { LM_ADDED_SPECIAL = 1, LM_ADDED_SINGLE_WORD = 2, LM_ADDED_LSTRIP = 4, LM_ADDED_RSTRIP = 8, LM_ADDED_NORMALIZED = 16,
       LM_ADDED_EXACT = 32 /* looked for in normalized text, but not normalized itself: SentencePiece's user-defined pieces */ };
typedef struct { int32_t id; uint32_t flags; } lm_tok_added;
/* Leftmost-longest matcher of added tokens (added.c). */
typedef struct { int32_t child, next; int32_t added; uint8_t byte; } lm_tok_node;   /* added: index into lm_tok.added, or -1 */
typedef struct { lm_tok_node *node; int32_t n, cap; int32_t first[256]; int only; } lm_tok_trie;   /* only: the one first byte, or -1 */

typedef enum { LM_NORM_NFC, LM_NORM_NFD, LM_NORM_NFKC, LM_NORM_NFKD, LM_NORM_PREPEND, LM_NORM_REPLACE, LM_NORM_STRIP, LM_NORM_BYTES,
               LM_NORM_CLEAN /* left: controls and white space; right: blanks around ideographs */, LM_NORM_UNMARK, LM_NORM_LOWER } lm_norm_kind;
/* REPLACE: a (literal) or re by b */
typedef struct { lm_norm_kind kind; char *a, *b; size_t a_n, b_n; lm_regex *re; bool left, right; } lm_tok_norm;

typedef enum { LM_SPLIT_ISOLATED, LM_SPLIT_REMOVED, LM_SPLIT_PREVIOUS, LM_SPLIT_NEXT, LM_SPLIT_CONTIGUOUS } lm_split_how;
typedef enum {
    LM_PRE_KNOWN,
    LM_PRE_REGEX,
    LM_PRE_STRING,
    LM_PRE_BYTES,
    LM_PRE_DIGITS,
    LM_PRE_PUNCT,
    LM_PRE_SPACE,
    LM_PRE_WORDS,
    LM_PRE_META
} lm_pre_kind;
typedef struct {
    lm_pre_kind kind;
    lm_split_how how;
    bool invert;
    bool prefix;               /* BYTES, META: put a space (META: the replacement) in front where there is none */
    bool prefix_first;         /* META: only at the start of the text */
    bool split;                /* META: split before each replacement */
    lm_split_fn *fn;           /* KNOWN; BYTES with its own pattern */
    lm_regex *re;
    char *s; size_t n;         /* STRING; META: the replacement character */
} lm_tok_pre;

struct lm_tok_scratch;
struct lm_tok {
    lm_ctx *ctx;
    char *name;                                 /* for sentences */
    /* vocabulary */
    lm_tok_one *tok; int32_t n_vocab, n_all, cap;   /* n_all > n_vocab: characters that only occur inside pieces (derive.c) */
    lm_str blob;
    lm_tok_map by_text, by_key;
    /* merges */
    lm_tok_merge *merge; size_t n_merge, cap_merge;
    lm_tok_slot *table; uint64_t table_mask;
    int32_t byte_id[256];                       /* byte-level: the byte; with byte_fallback: <0xNN>; -1: none */
    bool byte_level, byte_fallback, ignore_merges, fuse_unk, spm;   /* spm: words may be cut where no piece crosses (see finish.c) */
    char *wp_prefix; int wp_max_chars; bool wp_cleanup;   /* WordPiece (wp_prefix not NULL): what continues a word begins with it */
    bool cut_at_meta;                           /* no piece has anything before U+2581 but U+2581: words can be merged one by one */
    /* added tokens */
    lm_tok_added *added; int32_t n_added, cap_added;
    lm_tok_trie plain, normalized;
    /* pipeline */
    char *json_norm, *json_pre, *json_post, *json_dec;   /* canonical JSON; "null" */
    lm_tok_norm *norm; int n_norm;
    lm_tok_pre *pre; int n_pre;
    int map_at;                                 /* pre-tokenizer step after which text is in the byte alphabet; -1 normalizer; n_pre: never */
    lm_split_fn *fast;                          /* not NULL: no normalizer and this is all the splitting there is */
    char *dec_from, *dec_to;                    /* decoding replaces this by that in every text; NULL: nothing */
    bool strip_first;                           /* decoding drops one leading space */
    int32_t *prefix, *suffix; int n_prefix, n_suffix;    /* LM_TOK_ADD */
    int32_t bos, unk, pad, eos[16]; int n_eos;
    int add_bos_said, add_eos_said;             /* from tokenizer_config.json or GGUF: -1 no, 0 nothing said, 1 yes */
    char *chat;
    lm_hash128_t hash;
    /* idle scratches */
    pthread_mutex_t lock; bool locked_ok;
    struct lm_tok_scratch *idle;
};

/* ---- growing arrays ---- */
lm_err lm_tok_grow(lm_ctx *ctx, void **p, int64_t need, int64_t *cap, size_t size);

/* ---- building (build.c, finish.c, derive.c) ---- */
lm_err lm_tok_new(lm_ctx *ctx, const char *name, lm_tok **out);
/* LM_E_FORMAT if the id is taken or out of range */
lm_err lm_tok_put(lm_tok *t, int64_t id, const char *text, size_t n, lm_tok_type type, bool model);
lm_err lm_tok_put_added(lm_tok *t, int64_t id, const char *text, size_t n, uint32_t flags);     /* makes the token if the id is free */
lm_err lm_tok_put_merge(lm_tok *t, int32_t left, int32_t right, int32_t id, uint32_t rank);
/* after lm_tok_index_text */
lm_err lm_tok_put_merge_text(lm_tok *t, const char *l, size_t ln, const char *r, size_t rn, uint32_t rank, size_t index);
lm_err lm_tok_set_pipeline(lm_tok *t, const char *norm, const char *pre, const char *post, const char *dec);   /* JSON; NULL = "null" */
lm_err lm_tok_set_chat(lm_tok *t, const char *s, size_t n);
lm_err lm_tok_add_eos(lm_tok *t, int32_t id);
lm_err lm_tok_index_text(lm_tok *t);
lm_err lm_tok_index_key(lm_tok *t);
int32_t lm_tok_find_text(const lm_tok *t, const void *s, size_t n);
int32_t lm_tok_find_key(const lm_tok *t, const void *s, size_t n);
/* derive: merges from the scores (higher first), or ranks given as scores */
lm_err lm_tok_finish(lm_tok *t, const lm_tok_opts *opts, bool derive);
lm_err lm_tok_derive(lm_tok *t);
lm_err lm_tok_table(lm_tok *t);
static inline uint64_t lm_pair_hash(uint64_t key) { uint64_t h = key * 0x9e3779b97f4a7c15u; return h ^ h >> 32; }
const char *lm_tok_text_of(const lm_tok *t, int32_t id, size_t *n);       /* any id below n_all */
const char *lm_tok_key_of(const lm_tok *t, int32_t id, size_t *n);
int lm_tok_byte_token(const char *s, size_t n);                           /* "<0x0A>" -> 10; -1 */

/* ---- the byte alphabet of GPT-2 (bytes.c) ---- */
uint32_t lm_byte_char(uint8_t b);                                         /* code point that stands for the byte */
int lm_char_byte(uint32_t c);                                             /* -1: not in the alphabet */
void lm_bytes_to_text(const void *p, size_t n, lm_str *out);
bool lm_text_to_bytes(const char *s, size_t n, lm_str *out);              /* false: a character outside the alphabet; out may have grown */

/* ---- pipeline (pipeline.c, post.c, norm.c, pretok.c) ---- */
lm_err lm_tok_compile(lm_tok *t);                                         /* json_* -> norm, pre, decoder */
lm_err lm_tok_compile_post(lm_tok *t, const lm_tok_opts *opts);
void lm_tok_pipeline_free(lm_tok *t);

/* ---- WordPiece (wordpiece.c) ---- */
bool lm_uc_punct8(uint32_t c);                                            /* ASCII symbols, and what was punctuation in Unicode 8 */
void lm_bert_clean(const uint8_t *p, size_t n, bool clean, bool chinese, lm_str *o);
void lm_bert_unmark(const uint8_t *p, size_t n, lm_str *o);
void lm_lower_run(const uint8_t *p, size_t n, lm_str *o);
lm_err lm_wordpiece(const lm_tok *t, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_buf *out);      /* room for n ids is there */
void lm_wordpiece_piece(const lm_tok *t, const char *s, size_t n, lm_str *o);
/* after lm_tok_index_text; strip_accents: 0 = as lowercase says, 1 yes, -1 no */
lm_err lm_tok_bert_pipeline(lm_tok *t, bool lowercase, int strip_accents, bool chinese);
lm_err lm_tok_load_vocab_txt(lm_tok *t, const char *p, size_t n, const char *dir);

/* ---- added tokens (added.c) ---- */
lm_err lm_tok_added_build(lm_tok *t);
typedef struct { size_t s, e; int32_t id; } lm_tok_hit;                   /* id = -1: text between */
/* Cut s[0..n) at added tokens: appends hits that cover it. guard (NULL: none): its bytes are those of s. */
lm_err lm_tok_added_cut(const lm_tok *t, const lm_tok_trie *trie, lm_ctx *ctx, const uint8_t *s, size_t n, bool special, const lm_tok_guard *guard,
                        lm_tok_hit **hit, int64_t *n_hit, int64_t *cap);

/* ---- work space of one encoding thread (scratch.c, word.c) ---- */
enum { LM_WORD_SETS = 1 << 15, LM_LONG_SLOTS = 1 << 12, LM_LONG_BYTES = 72, LM_LONG_IDS = 12 };     /* sizes at most: the caches grow as words come */
/* up to 15 bytes, length in the top byte of hi; n = 0: empty */
typedef struct { uint64_t lo, hi; int32_t id[3]; uint32_t n; } lm_word_slot;
typedef struct { uint64_t hash; uint16_t len, n; int32_t id[LM_LONG_IDS]; uint8_t byte[LM_LONG_BYTES]; } lm_long_slot;
typedef struct { size_t s, e; } lm_tok_span;
typedef struct { int32_t id, prev, next; uint32_t at, len; } lm_tok_sym;
/* heap entry: merge symbols at pos (was `left`) and its next (was `right`) */
typedef struct { uint32_t rank; int32_t pos, left, right; } lm_tok_cand;
typedef struct lm_tok_scratch {
    lm_ctx *ctx;
    struct lm_tok_scratch *next;
    lm_word_slot *word; uint32_t n_sets, n_word;        /* 2 * n_sets slots; words put in since it grew */
    lm_long_slot *longer; uint32_t n_slots, n_longer;
    lm_regex_state *re;
    lm_tok_sym *sym; int64_t cap_sym;
    lm_tok_cand *heap; int64_t n_heap, cap_heap;
    lm_str text[2];                             /* normalized text; pre-tokenizer rewrites */
    lm_str raw;
    lm_tok_hit *hit[2]; int64_t n_hit[2], cap_hit[2];
    lm_tok_span *span[2]; int64_t n_span[2], cap_span[2];
    const lm_tok_guard *guard; const uint8_t *whole;    /* of the text that is being encoded, which begins at whole; NULL: none */
} lm_tok_scratch;
lm_err lm_tok_scratch_get(const lm_tok *t, lm_ctx *ctx, lm_tok_scratch **out);
void lm_tok_scratch_put(const lm_tok *t, lm_tok_scratch *s);
void lm_tok_scratch_free(lm_tok_scratch *s);

/* One word to ids. readable: bytes that may be read from p on, at least n (16 make the lookup faster). */
lm_err lm_tok_word(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, size_t readable, lm_tok_buf *out);
/* Room for `more` ids. */
lm_err lm_tok_room(lm_tok_buf *b, size_t more);

/* Where a piece of text stands: at the start of the whole, behind an added token, or behind bytes that are no text (then no space is put in
 * front). */
typedef enum { LM_AT_START, LM_AT_PIECE, LM_AT_REST } lm_tok_place;
/* out: rewritten; uses s->raw */
lm_err lm_norm_run(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, bool prepend, lm_str *out);
/* Split one text: spans in s->span[*which], bytes in *base. */
lm_err lm_pre_run(const lm_tok *t, lm_tok_scratch *s, lm_ctx *ctx, const uint8_t *p, size_t n, lm_tok_place at, const uint8_t **base,
                  size_t *base_n, int *which);

/* ---- loaders and writer ---- */
lm_err lm_tok_load_json(lm_tok *t, json_t *root, const char *name);                       /* tokenizer.json */
/* tokenizer_config.json, special_tokens_map.json, generation_config.json… */
lm_err lm_tok_load_config(lm_tok *t, const char *dir);
lm_err lm_tok_read_config(lm_tok *t, const char *dir, const char *file, char **path, json_t **out);   /* *out NULL: no such file; else free both */
lm_err lm_tok_load_pair(lm_tok *t, const char *dir, const lm_tok_opts *opts);             /* vocab.json + merges.txt */
bool lm_tok_is_ranks(const uint8_t *p, size_t n);
lm_err lm_tok_load_ranks(lm_tok *t, const char *name, const uint8_t *p, size_t n, const lm_tok_opts *opts);   /* tiktoken */
lm_err lm_tok_load_spm(lm_tok *t, const char *name, const uint8_t *p, size_t n);
lm_err lm_tok_load_llama2c(lm_tok *t, const char *name, const uint8_t *p, size_t n);
lm_err lm_tok_meta_pipeline(lm_tok *t, bool prefix, bool collapse);                       /* the pipeline of SentencePiece BPE */
lm_err lm_tok_byte_pipeline(lm_tok *t, const lm_split_row *row, bool nfc, const char *post);   /* ByteLevel after a known pattern */
lm_err lm_tok_post_template(lm_tok *t, int32_t bos, int32_t eos, char **out);             /* TemplateProcessing as JSON; -1 = none; lm_free */
void lm_tok_guess_ends(lm_tok *t);                                                        /* well-known names of end tokens, when no file says */
#endif
