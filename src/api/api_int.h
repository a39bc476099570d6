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
/* dtype: NULL or auto, f32, bf16, a quantized format; kv: NULL, f32, bf16, f16; load: NULL, read, map */
typedef struct { const char *dtype, *kv, *load; int64_t context, max_seqs, chunk, rows; bool no_tok, deterministic; lm_dev *dev; } lm_api_model_opts;
lm_err lm_api_open(lm_ctx *ctx, const char *path, const lm_api_model_opts *o, lm_weights **w, lm_store **store, lm_engine **e, lm_tok **tok);
/* The tokenizer that goes with path: a tokenizer file, a model folder, a GGUF, or the file beside a llama2.c checkpoint. */
lm_err lm_tok_open_beside(lm_ctx *ctx, const char *path, lm_tok **out);
/* Prompt text → ids, BOS as the tokenizer states; special tokens in the text are text. Empty text: BOS (or EOS where the tokenizer has only that). */
lm_err lm_prompt_ids(lm_ctx *ctx, const lm_tok *tok, const char *text, size_t n, lm_tok_buf *ids);
/* lm_run_opts.sample: some text from live weights. */
lm_err lm_api_sample(void *ud, lm_ctx *ctx, const lm_cfg *cfg, lm_store *store, const lm_tok *tok, const char *prompt, int64_t n, lm_str *out);
/* A YAML file (may be NULL) and key=value settings over the defaults. */
lm_err lm_run_config(lm_ctx *ctx, lm_arena *a, const char *file, const char *const *settings, int n, lm_run_cfg *cfg);
#endif
