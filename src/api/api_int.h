/* api_int.h — what the public interface and the commands share: the objects behind loam.h, opening a model the usual way, prompts, configurations. */
#ifndef LM_API_INT_H
#define LM_API_INT_H
#include "infer/generate.h"
#include "train/run.h"
#include "loam.h"
/* A command makes a loam_context over its own lm_ctx: { .ctx = cli->ctx }. */
struct loam_context { lm_ctx *ctx; void (*log)(void *, int, const char *, const char *); void *user; };
struct loam_tokenizer { lm_ctx *ctx; lm_tok *tok; };
struct loam_model { lm_ctx *ctx; lm_weights *w; lm_store *store; lm_engine *e; loam_tokenizer tok; lm_dev *dev; lm_trie *trie; };      /* trie: made for the first grammar */
struct loam_grammar { loam_model *m; lm_grammar *g; lm_masker *masker; };
struct loam_session { loam_model *m; lm_session *s; };
/* dtype: NULL or auto, f32, bf16, a quantized format; kv: NULL, f32, bf16, f16, q8_0, q4_0; load: NULL, read, map; memory: bytes for all of it, 0 = what is
 * available now */
typedef struct { const char *dtype, *kv, *load; int64_t context, max_seqs, chunk, rows, memory; bool no_tok; lm_dev *dev; } lm_api_model_opts;
/* What an engine takes beside its weights, in bytes: by a dry plan over their types. */
lm_err lm_api_beside(lm_ctx *ctx, const lm_cfg *cfg, lm_store *types, const lm_engine_opts *eo, size_t *bytes);
/* For tokenizer, tables, stacks and the system's tables of pages, where a model has so many bytes of weights. */
static inline size_t lm_api_slack(size_t weights) { const size_t more = weights / 16, most = (size_t)40 << 20; return ((size_t)8 << 20) + (more < most ? more : most); }
lm_err lm_api_open(lm_ctx *ctx, const char *path, const lm_api_model_opts *o, lm_weights **w, lm_store **store, lm_engine **e, lm_tok **tok);
/* The tokenizer that goes with path: a tokenizer file, a model folder, a GGUF, or the file beside a llama2.c checkpoint. */
/* An embedder, for commands too. dtype, pool: NULL as the model has it; normalize as loam_embedder_options; truncate: texts longer than the model's
 * positions are cut; rows: tokens computed at a time (0: 512); stop as lm_load_opts. */
typedef struct { const char *dtype, *pool; int normalize; bool truncate; int64_t rows; const volatile int *stop; } lm_api_embed_opts;
lm_err lm_api_embed_open(loam_embedder **out, lm_ctx *ctx, const char *path, const lm_api_embed_opts *o);
/* vectors (n, width); start (n + 1): text i had start[i + 1] - start[i] tokens. */
lm_err lm_api_embed(loam_embedder *e, const char *const *texts, const size_t *bytes, size_t n, float *vectors, size_t *start);
lm_err lm_tok_open_beside(lm_ctx *ctx, const char *path, lm_tok **out);
/* Prompt text → ids, BOS as the tokenizer states; special tokens in the text are text. Empty text: BOS (or EOS where the tokenizer has only that). */
lm_err lm_prompt_ids(lm_ctx *ctx, const lm_tok *tok, const char *text, size_t n, lm_tok_buf *ids);
/* lm_run_opts.sample: some text from live weights. */
lm_err lm_api_sample(void *ud, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_tok *tok, const char *prompt, int64_t n, lm_str *out);
/* A YAML file (may be NULL) and key=value settings over the defaults. */
lm_err lm_run_config(lm_ctx *ctx, lm_arena *a, const char *file, const char *const *settings, int n, lm_run_cfg *cfg);
#endif
