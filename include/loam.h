/* loam.h — the public interface of libloam: load a language model, write with it, score text, train one.
 *
 * Six kinds of object. A context carries threads, the log and the last error. A model is weights and tokenizer, read-only and shared. A session is one
 * timeline over a model: the tokens so far and their key-value pages; it can be extended, forked, cut back, saved. A tokenizer may also be used alone. An embedder makes vectors of texts. A training
 * run is one call with a configuration.
 *
 *     loam_context *ctx;  loam_model *m;
 *     if (loam_context_new(&ctx, NULL)) return 1;
 *     if (loam_model_open(&m, ctx, "smollm-135m", NULL)) { puts(loam_error(ctx)); return 1; }
 *     loam_generate_options o = LOAM_GENERATE_DEFAULTS;
 *     o.on_text = print;
 *     loam_generate(m, "Once upon a time", 16, &o, NULL);
 *
 * Functions return 0 or one of LOAM_E_*; results leave through pointers and are untouched on error; loam_error() is then a sentence that names the culprit. The
 * library never prints, exits or reads the environment. Option structs begin with their size, so that later versions can add fields.
 *
 * Lifetime: free sessions, then models, then the context.
 * Threads:  one thread at a time per context and what was made with it; contexts are independent.
 * Errors:   LOAM_E_* below; the names and numbers are stable. */
#ifndef LOAM_H
#define LOAM_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

#define LOAM_VERSION "0.1.0"
enum { LOAM_OK, LOAM_E_NOMEM, LOAM_E_IO, LOAM_E_NOSPACE, LOAM_E_NOTFOUND, LOAM_E_FORMAT, LOAM_E_SHAPE, LOAM_E_CONFIG, LOAM_E_RANGE, LOAM_E_UNSUPPORTED, LOAM_E_MISMATCH,
       LOAM_E_DEVICE, LOAM_E_COMM, LOAM_E_CANCELLED, LOAM_E_DATA, LOAM_E_INTERNAL };
typedef struct loam_context loam_context;
typedef struct loam_model loam_model;
typedef struct loam_session loam_session;
typedef struct loam_tokenizer loam_tokenizer;
typedef struct loam_grammar loam_grammar;
typedef struct loam_embedder loam_embedder;

/* ---- context ---------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size;                         /* sizeof(loam_context_options) */
    int threads;                         /* 0: one per usable core */
    const char *isa;                     /* NULL, or at most this: "portable", "avx2", "avx512", "avx512bf16", "amx" */
    void (*log)(void *user, int level, const char *room, const char *message); void *user;      /* level 0 error … 3 debug */
} loam_context_options;
int loam_context_new(loam_context **out, const loam_context_options *options);       /* options may be NULL */
void loam_context_free(loam_context *ctx);
const char *loam_error(const loam_context *ctx);                                     /* the last error, "" if none */
const char *loam_version(void);

/* ---- models ------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size;
    const char *dtype;                   /* "auto" (as stored; NULL too), "f32", "bf16", or a quantized format: "Q8_0" */
    int64_t context;                     /* tokens a session may hold; 0: what the model states */
    int64_t sessions;                    /* sessions that share the page pool; 0: 1 */
    const char *kv;                      /* key-value pages: "f32" (NULL too), "bf16", "f16", "q8_0" or "q4_0" */
    int64_t chunk;                       /* tokens computed at a time; 0: 256. Changes no bit of a result */
    int64_t logits_rows;                 /* rows of logits held at a time where all are wanted (loam_session_logits, loam_session_score), at most chunk; 0: 32 */
    int no_tokenizer;                    /* non-zero: open none; loam_generate is then refused */
    const char *device;                  /* "cpu" (NULL), "cuda" or "cuda:N": where it runs; LOAM_E_UNSUPPORTED where that is not here */
    const char *load;                    /* "read" (NULL too): into memory, the files may go away afterwards; "map": what can be used where it lies in a file is not
                                            copied, and the file must stay as it is while the model is open; what does not fit into memory is then read from it as it is
                                            used. Results are the same bits */
    int64_t memory;                      /* bytes that the model may take, 0: what is available. LOAM_E_NOMEM before anything is loaded where it does not fit */
} loam_model_options;
/* path: a Hugging Face folder, a GGUF file, or a llama2.c checkpoint with its tokenizer beside it.
 * LOAM_E_NOTFOUND: nothing there; LOAM_E_FORMAT, _SHAPE, _MISMATCH, _UNSUPPORTED: what is there is damaged, contradicts itself or is of a kind this version does not compute. */
int loam_model_open(loam_model **out, loam_context *ctx, const char *path, const loam_model_options *options);
void loam_model_free(loam_model *m);
int64_t loam_model_vocab(const loam_model *m);                                       /* rows of its output: ids are 0 … vocab - 1 */
int64_t loam_model_context(const loam_model *m);                                     /* tokens a session may hold */
const loam_tokenizer *loam_model_tokenizer(const loam_model *m);                     /* lives as long as the model; NULL with no_tokenizer */

/* ---- text and tokens -------------------------------------------------------------------------------------------- */
/* path: a tokenizer file (tokenizer.json, tiktoken ranks, SentencePiece .model, tokenizer.bin), or a model. */
int loam_tokenizer_open(loam_tokenizer **out, loam_context *ctx, const char *path);
void loam_tokenizer_free(loam_tokenizer *t);
enum { LOAM_ADD = 1,        /* encode: BOS and EOS are added as the tokenizer states */
       LOAM_SPECIAL = 2,    /* encode: "<|…|>" in the text means that token (never for text from users); decode: special tokens are written out */
       LOAM_RAW = 4 };      /* encode: bytes that are not UTF-8 are taken as bytes instead of being refused (LOAM_E_DATA) */
/* Ids of a text: *n in: room at ids, out: how many there are. ids NULL: only count. LOAM_E_RANGE if there is too little room (*n then tells what is needed). */
int loam_encode(const loam_tokenizer *t, const char *text, size_t bytes, int flags, int32_t *ids, size_t *n);
/* Bytes of ids, NUL-terminated: *bytes in: room at text (with the NUL), out: length without it. text NULL: only count. LOAM_E_RANGE: an unknown id, or too little room. */
int loam_decode(const loam_tokenizer *t, const int32_t *ids, size_t n, int flags, char *text, size_t *bytes);
/* The bytes one id stands for (not NUL-terminated, live as long as t), or NULL where the tokenizer has no such id. */
const char *loam_token_text(const loam_tokenizer *t, int32_t id, size_t *bytes);

/* ---- sessions ------------------------------------------------------------------------------------------------------ */
int loam_session_new(loam_session **out, loam_model *m);                             /* empty */
void loam_session_free(loam_session *s);
int64_t loam_session_length(const loam_session *s);                                  /* tokens so far */
/* Append tokens; logits (vocab floats, may be NULL) get what follows the last one. LOAM_E_RANGE: past the context or an id outside the vocabulary; nothing was appended. */
int loam_session_extend(loam_session *s, const int32_t *ids, size_t n, float *logits);
/* The same with the logits that follow each: (n, vocab) floats. */
int loam_session_logits(loam_session *s, const int32_t *ids, size_t n, float *logits);
int loam_session_fork(loam_session **out, const loam_session *s);                    /* shares full pages; LOAM_E_NOMEM: no page is free */
int loam_session_truncate(loam_session *s, int64_t n);                               /* back to its first n tokens */
/* A file of tokens and pages; loading wants the same model shape and kv (LOAM_E_MISMATCH). */
int loam_session_save(const loam_session *s, const char *path);
int loam_session_load(loam_session **out, loam_model *m, const char *path);
/* Append tokens; logprobs[i] is log p(ids[i] | everything before). The first token of an empty session gets 0. */
int loam_session_score(loam_session *s, const int32_t *ids, size_t n, float *logprobs);

/* ---- grammars: what a text must be -------------------------------------------------------------------------------------- */
/* kind: "gbnf" (llama.cpp's notation), "schema" (JSON Schema) or "regex" (JavaScript's notation, the whole text). name: what error sentences call it. Belongs to m and is freed before it;
 * what is found out about it while one text is written makes the next one faster. LOAM_E_FORMAT, _CONFIG, _UNSUPPORTED, _RANGE: the place and the reason. */
int loam_grammar_new(loam_grammar **out, loam_model *m, const char *kind, const char *name, const char *text, size_t bytes);
void loam_grammar_free(loam_grammar *g);

/* ---- writing --------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size;
    int64_t max_tokens;
    double temperature, top_p, min_p, repetition_penalty; int64_t top_k; uint64_t seed;      /* temperature 0: always the likeliest; top_k 0, top_p 1, min_p 0, penalty 1: off */
    const char *const *stop; int n_stop;                                             /* a text ends before the first of these */
    int (*on_text)(void *user, int i, const char *text, size_t bytes); void *user;   /* pieces of whole UTF-8 characters of text i; non-zero stops it */
    int n;                                                                           /* texts from the one prompt, side by side (with fewer sessions than n, pages may run out); 0: 1 */
    double presence_penalty, frequency_penalty; int64_t penalty_window;              /* subtracted from logits of tokens seen; tokens looked back at, 0: all */
    const int32_t *bias_ids; const float *biases; int n_bias;                        /* added to the logits of these tokens; -INFINITY forbids one */
    int ignore_eos;                                                                  /* non-zero: go on past the end token */
    int logprobs;                                                                    /* 1 + how many of the best to report beside each token's own; 0: none */
    const volatile int *cancel;                                                      /* becomes non-zero: stop after this token */
    loam_grammar *grammar;                                                           /* every text is one of its sentences, or, cut by max_tokens or stop, the beginning of one; NULL: free */
    const char *speculate;                                                           /* "draft": the model `draft` guesses ahead; "lookup": what followed the last tokens before. The text is the same. NULL: draft if there is one, else none */
    loam_model *draft; int draft_tokens;                                             /* a small model, best with the same vocabulary; tokens guessed at a time at most (0: 8) */
    double typical_p, xtc_probability, xtc_threshold;                                /* 0 or 1, 0: off */
    double dry_multiplier, dry_base; int64_t dry_length;                             /* 0: off; usual are 0.8, 1.75, 2 */
} loam_generate_options;
#define LOAM_GENERATE_DEFAULTS { sizeof(loam_generate_options), 128, 0.8, 0.95, 0.05, 1.0, 0, 1, NULL, 0, NULL, NULL, 1, 0, 0, 0, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, NULL, 0, 0, 0, 0.1, 0, 1.75, 2 }
typedef struct {
    char *text; size_t bytes; int32_t *tokens; size_t n_tokens; const char *finish;  /* finish: "length", "stop", "cancelled" */
    float *logprobs;                                                                 /* (n_tokens), natural logarithms before temperature and penalties; NULL unless asked for */
    int n_top; int32_t *top_tokens; float *top_logprobs;                             /* (n_tokens, n_top) */
    int64_t prompt_tokens; double prefill_seconds, decode_seconds;                   /* of the whole call */
    int64_t runs, drafted, kept;                                                     /* with speculation: runs of the model, tokens guessed, guesses that came true */
} loam_text;
/* texts (may be NULL): options.n of them, each freed with loam_text_free. A prompt that does not fit the context with max_tokens is refused (LOAM_E_RANGE), never cut. */
int loam_generate(loam_model *m, const char *prompt, size_t bytes, const loam_generate_options *options, loam_text *texts);
void loam_text_free(loam_text *text);

/* ---- vectors of texts ------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size;
    const char *dtype;                   /* as loam_model_options has it */
    const char *pool;                    /* "mean", "cls", "last"; NULL: as the model says, LOAM_E_CONFIG where it does not */
    int normalize;                       /* 1: length 1; -1: as they come; 0: as the model says */
} loam_embedder_options;
/* path: an encoder such as MiniLM or BGE (a sentence-transformers folder or a GGUF file), or a language model. options may be NULL. Belongs to ctx. */
int loam_embedder_open(loam_embedder **out, loam_context *ctx, const char *path, const loam_embedder_options *options);
void loam_embedder_free(loam_embedder *e);
int64_t loam_embedder_width(const loam_embedder *e);                                 /* numbers of a vector */
int64_t loam_embedder_longest(const loam_embedder *e);                               /* tokens of a text at most, special ones included */
/* vectors: (n, width). A text's vector does not depend on the others, to the bit. LOAM_E_RANGE: text i is too long; nothing is cut. */
int loam_embed(loam_embedder *e, const char *const *texts, const size_t *bytes, size_t n, float *vectors);

/* ---- training ---------------------------------------------------------------------------------------------------------- */
typedef struct {
    size_t size; int64_t step, steps;
    double loss, val_loss;               /* nats per target token; val_loss is NaN in events of a step */
    double tokens_per_second, eta_seconds; size_t memory;                            /* bytes resident */
} loam_train_event;
typedef struct {
    size_t size;
    int resume;
    void (*on_event)(void *user, const loam_train_event *event); void *user;
    const volatile int *stop;                                                        /* non-zero: finish the step, save, return LOAM_E_CANCELLED */
} loam_train_options;
/* settings: "key=value" strings over config, a YAML file or NULL; the keys are those of `loam train --print-config`. The run lies in the folder `out`: metrics.jsonl, checkpoints,
 * and at the end a Hugging Face folder. One process: mesh wants `loam train` under mpirun (LOAM_E_CONFIG). */
int loam_train(loam_context *ctx, const char *config, const char *const *settings, int n_settings, const loam_train_options *options);

#ifdef __cplusplus
}
#endif
#endif
