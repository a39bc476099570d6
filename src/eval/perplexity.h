/* perplexity.h — how well a model predicts a text: nats, perplexity, bits per byte, with strided windows.
 *
 * Window k begins at token k*stride and holds up to `window` tokens; only the tokens that no earlier window scored are scored in it, so
 * each has at least window - stride tokens of context (the first window's have what there is). A smaller stride is nearer the truth and
 * costs window/stride passes. This is the sliding window of Hugging Face's guide to perplexity, with exact counts: the sum runs over
 * tokens, not over means of windows. With add_bos each window begins with BOS, which takes one of its places, and every token is scored;
 * without it the first token of the text (and of each window when stride = window) has no context and is not. Bits per byte divides by the
 * bytes of the scored tokens: it compares models whose tokenizers differ. Documents of a JSONL file do not see each other; end-of-text
 * tokens are not scored.
 *
 * Lifetime: values.  Threads: one caller per engine.
 * Errors:   LM_E_CONFIG (window, stride, no BOS), LM_E_DATA (nothing to score, a probability that is not a number), LM_E_CANCELLED. */
#ifndef LM_PERPLEXITY_H
#define LM_PERPLEXITY_H
#include "eval/divergence.h"
#include "infer/infer.h"
#include "tok/tok.h"
typedef struct {
    int64_t window;              /* tokens, BOS included; 0 = the engine's context */
    int64_t stride;              /* 0 = half of what a window holds beside BOS */
    bool add_bos;
    const char *field;           /* of JSONL lines; NULL = "text" */
    lm_engine *against;          /* NULL, or a reference over the same vocabulary: `divergence` (begun by the caller) gets every scored place */
    lm_divergence *divergence;
    /* tokens scored, of how many; false stops; NULL is fine */
    bool (*progress)(void *ud, int64_t done, int64_t total, double tokens_s, double nll);
    void *ud;
} lm_perplexity_opts;
/* nll: sum, in nats */
typedef struct { double nll; int64_t tokens, bytes, docs; double ppl, bits_per_byte, seconds; int64_t window, stride; } lm_perplexity;
lm_err lm_eval_perplexity(lm_ctx *ctx, lm_engine *e, const lm_tok *tok, const char *text, size_t n, const lm_perplexity_opts *o, lm_perplexity *out);
/* A text or JSONL file (or a folder of them), packed or not. */
lm_err lm_eval_perplexity_file(lm_ctx *ctx, lm_engine *e, const lm_tok *tok, const char *path, const lm_perplexity_opts *o, lm_perplexity *out);
/* Ids of one document; bos is put first in each window if o->add_bos. bytes and bits_per_byte are 0. */
lm_err lm_eval_perplexity_ids(lm_ctx *ctx, lm_engine *e, const int32_t *ids, int64_t n, int32_t bos, const lm_perplexity_opts *o, lm_perplexity *out);
#endif
