/* generate.h — from a prompt to text: prefill, then one token at a time for n timelines at once.
 *
 * The prompt is prefilled once and forked n times. Every timeline has its own sampler stream and stops at an end token, a stop string, or
 * its length. Or a session of the caller's is gone on with: it then holds the prompt and all that was written but the last token. Stop strings
 * are looked for in the text, not the ids; text that might still become a stop string is held back, so what is streamed is never taken back.
 *
 * With a grammar every token is one that some sentence goes on with, and the end token comes only where the text is one; where nothing but the end can
 * follow, the text ends without it. A text cut by its length or a stop string is the beginning of a sentence. With a proposer several tokens are
 * written in a run of the model; they are the same tokens (speculate.h).
 *
 * Lifetime: everything is inside the call.  Threads: one caller per engine.
 * Errors:   a prompt that does not fit is refused with both figures; nothing is truncated silently. */
#ifndef LM_GENERATE_H
#define LM_GENERATE_H
#include "infer/infer.h"
#include "infer/speculate.h"
#include "sample/sample.h"
#include "tok/tok.h"
typedef enum { LM_STOP_LENGTH, LM_STOP_EOS, LM_STOP_STRING, LM_STOP_CANCELLED } lm_stop_reason;
const char *lm_stop_name(lm_stop_reason r);              /* "length", "stop", "stop", "cancelled" */
typedef struct {
    int64_t max_tokens; int n; bool ignore_eos, want_logprobs; int top_logprobs;
    lm_sample_opts sample; const char *const *stop; int n_stop;
    lm_masker *masker;                                   /* what the text must be; over lm_generate_trie's trie. NULL: anything */
    lm_proposer *proposer; int guesses;                  /* for n lines; guesses in a run at most, 0 = 8. NULL: none */
    bool guess_always;                                   /* that many every time, whether it pays or not (tests, measurements) */
    lm_session *session;                                 /* what goes before the prompt (n = 1); NULL: nothing */
    const int32_t *end; int n_end;                       /* tokens that end a text beside those of the model and its tokenizer */
    bool control;                                        /* control tokens are written into the text */
    bool lookup;                                         /* the proposer "lookup", opened for this call, where there is none */
    /* Text of timeline i as it becomes certain (UTF-8 never split); NULL for none. Non-zero return cancels. */
    int (*text)(void *ud, int i, const char *bytes, size_t n); void *ud;
    const volatile int *cancel;
} lm_generate_opts;
typedef struct {
    int32_t *tokens; int64_t n; float *logprobs;         /* (n); NULL unless wanted */
    int32_t *top_id; float *top_lp;                      /* (n, top_logprobs) */
    char *text; size_t text_bytes; lm_stop_reason why;
    int64_t runs, drafted, kept;                         /* with a proposer: runs of the model, guesses made, guesses that came true */
} lm_generated;
/* drafted, kept: of all timelines */
typedef struct { lm_generated *out; int n; int64_t prompt_tokens, drafted, kept; double prefill_s, decode_s; lm_arena *a; } lm_generation;
lm_err lm_generate(lm_engine *e, const lm_tok *tok, const int32_t *prompt, int64_t n_prompt, const lm_generate_opts *o, lm_generation *g);
/* The tokens that text is written with, for grammars: no control tokens; the end tokens of model and tokenizer. */
lm_err lm_generate_trie(lm_trie **out, const lm_engine *e, const lm_tok *tok);
lm_err lm_tok_trie(lm_trie **out, lm_ctx *ctx, const lm_tok *tok, int64_t vocab, const int32_t *more_eos, int n_more);       /* for a vocabulary of so many rows */
void lm_generation_free(lm_generation *g);
#endif
