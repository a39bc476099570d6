/* speculate.h — guessing tokens ahead, and checking many guesses in one run of the model.
 *
 * A proposer guesses what comes next: a small model (a draft), or what followed these words before (n-grams); each is a row. The model computes
 * the logits after every guess in one run, about as fast as after one, and then chooses at each place exactly as it would have without guesses: the same
 * sampler, grammar and random numbers. While its choice is the guess, the next place's logits are valid too; the first other choice ends the run, and the
 * session is cut back. So the text is the text without speculation, to the token, greedy or sampled, whatever the proposer says (drafter-invariant
 * speculation, Daliri et al. 2024, in place of the acceptance test of Leviathan et al. 2023, which keeps only the distribution). A draft that draws with
 * the same Gumbel numbers agrees at least (1 - d) / (1 + d) of the time where its distribution is d (total variation) away.
 * A draft of another vocabulary guesses through text, or on the tokens that both have (draft.c, translate.h).
 * How many guesses pay is decided from what is seen: what a run of each width takes, what a guess costs, and what a proposer's own belief in a guess is
 * worth, class by class. Guesses that cost nothing are made at every place and judged even where they are not computed, so that the first lines of a copy
 * are enough to trust it. The decision depends on the machine's mood, and changes nothing but the speed.
 *
 * Lifetime: a proposer borrows its engines and outlives the generation that uses it.
 * Threads:  as the engines it uses.
 * Errors:   LM_E_MISMATCH: the draft's vocabulary cannot write the model's texts; else as the engine's. */
#ifndef LM_SPECULATE_H
#define LM_SPECULATE_H
#include "grammar/grammar.h"
#include "infer/infer.h"
#include "sample/sample.h"
#include "tok/tok.h"
enum { LM_GUESSES = 16 };                                /* in one run, at most */
typedef struct {
    int lines;                                           /* timelines side by side */
    lm_sample_opts sample;                               /* of the generation; its stream is the timeline's number */
    lm_masker *masker;                                   /* of the generation, or NULL */
    lm_engine *target, *draft; const lm_tok *tok, *draft_tok;      /* draft, draft_tok: for the row "draft" */
} lm_proposer_opts;
enum { LM_SURE = 8 };                                    /* classes of belief in a guess */
/* How many guesses to ask for. A plain value; zeroed is a new one. */
typedef struct {
    double came[LM_SURE + 1], seen[LM_SURE + 1];         /* fading counts by class of belief; the last: of all */
    double run[LM_GUESSES + 2]; int64_t at[LM_GUESSES + 2];      /* by width: mean seconds of a run, and the last such run's number, from 1 on */
    double guess; int64_t runs, asked;                   /* mean seconds of a guess; runs so far; the last one with a guess */
} lm_pace;
/* Is one more guess worth making, behind n of which the proposer believes sure[]? */
bool lm_pace_more(const lm_pace *p, const float *sure, int n, int most);
int lm_pace_feed(const lm_pace *p, const float *sure, int n);     /* of n guesses made, how many the model should compute */
void lm_pace_judged(lm_pace *p, float sure, bool true_);
/* A run over n guesses took run_s seconds, making `made` of them guess_s. */
void lm_pace_saw(lm_pace *p, int n, double run_s, int made, double guess_s);

typedef struct {
    int line; const int32_t *ids; int64_t n;             /* all tokens of the timeline so far, the prompt's too */
    int64_t position;                                    /* of the next token among those written: its random numbers */
    const lm_matcher *at;                                /* where the grammar stands, or NULL */
    int most;                                            /* guesses wanted at most, 1 … LM_GUESSES */
    const lm_pace *pace;                                 /* says whether one more pays, where one costs something; NULL: all of them are wanted */
} lm_guess_place;
typedef struct lm_proposer_row lm_proposer_row;
typedef struct lm_proposer { const lm_proposer_row *row; lm_ctx *ctx; } lm_proposer;     /* begins every row's own struct */
struct lm_proposer_row {
    const char *name, *what;
    lm_err (*open)(lm_proposer **out, lm_ctx *ctx, const lm_proposer_opts *o);
    /* *n may be 0; sure: how likely each is, if those before came true, as the proposer sees it */
    lm_err (*guess)(lm_proposer *p, const lm_guess_place *at, int32_t *guess, float *sure, int *n);
    void (*free)(lm_proposer *p);
};
extern const lm_proposer_row *const lm_proposers[];      /* generated from the files in propose/ */
lm_err lm_proposer_open(lm_proposer **out, lm_ctx *ctx, const char *row, const lm_proposer_opts *o);
void lm_proposer_free(lm_proposer *p);                   /* NULL is fine */
#endif
