/* sample.h — from logits to a token: a chain of samplers, one file each, applied in the order of their rows.
 *
 * Tokens that are not allowed (a grammar's mask, a bias of -inf) are out before anything else. The order is Hugging Face's: penalties and bias on the
 * raw logits, then temperature, then the truncations (top-k, typical, top-p, min-p, XTC), then one draw. Candidates are (id, logit) pairs; truncations
 * shorten the list. Temperature 0 means the largest logit, ties to the lowest id, after penalties and bias. The reported log-probability is the model's
 * own (raw logits), not the truncated one.
 * The draw adds to each candidate's logit a Gumbel number of (seed, stream, position, id) and takes the largest sum: the same distribution as a draw from the
 * softmax, and a run repeats whatever else the machine does. Two models that draw with the same numbers agree as often as their distributions
 * overlap, nearly: that is what makes a draft's guess come true, and why a guess can be checked against the draw itself (infer/speculate.h).
 *
 * Lifetime: a sampler belongs to one timeline.  Threads: one at a time.
 * Errors:   options out of range name the option; non-finite logits are LM_E_RANGE. */
#ifndef LM_SAMPLE_H
#define LM_SAMPLE_H
#include "op/peak/peak.h"
typedef struct {
    double temperature, top_p, min_p;                 /* 0 = greedy; 1 and 0 = off */
    double repetition, presence, frequency;           /* 1, 0, 0 = off */
    double typical, xtc_probability, xtc_threshold;   /* 1 (or 0), 0 = off; threshold 0.1 is usual */
    double dry, dry_base; int64_t dry_length;         /* multiplier, 0 = off; 1.75, 2 are usual: repeats this long are not touched */
    const uint32_t *dry_break;                        /* bits of tokens that end a repeat; NULL: none */
    int64_t top_k, penalty_window;                    /* 0 = off; tokens looked back at, 0 = all */
    uint64_t seed, stream;                            /* stream: number of the timeline (n > 1) */
    const int32_t *bias_id; const float *bias; int n_bias;
} lm_sample_opts;
typedef struct { int32_t id; float logit; } lm_cand;
typedef struct {                                      /* what a row sees */
    const lm_sample_opts *o; int64_t vocab;
    lm_cand *c; int64_t n; bool sorted;               /* sorted: by logit, largest first, ties to the lower id */
    const int32_t *history; int64_t n_history;        /* within the penalty window */
    double rest;                                      /* sum of exp(logit - largest) of what is not in the list; 0 = all is */
    int32_t *count;                                   /* (vocab) zeroed scratch; rows leave it zeroed */
    int32_t *match;                                   /* (n_history + 1) scratch */
    lm_rng rng;                                       /* of this position: a row takes indices from 2^33 on, of its own */
} lm_chain;
typedef struct lm_sampler_row {
    const char *name, *math; int order;               /* below temperature's: changes logits, all candidates in id order; else shortens the list */
    bool whole;                                       /* wants every candidate, not only those near the largest */
    bool (*on)(const lm_sample_opts *o);
    void (*apply)(lm_chain *c);
} lm_sampler_row;
extern const lm_sampler_row *const lm_samplers[];     /* generated from the files */
void lm_chain_sort(lm_chain *c, int64_t first);       /* at least the `first` best in order at the front (0 = all) */

typedef struct lm_sampler lm_sampler;
lm_sample_opts lm_sample_defaults(void);              /* temperature 0.8, top_p 0.95, min_p 0.05, all else off */
lm_err lm_sampler_new(lm_sampler **out, lm_ctx *ctx, int64_t vocab, const lm_sample_opts *o);
void lm_sampler_free(lm_sampler *s);
lm_err lm_sampler_accept(lm_sampler *s, int32_t id);  /* a token of the timeline (prompt too: penalties look at it) */
int64_t lm_sampler_len(const lm_sampler *s);          /* tokens accepted */
void lm_sampler_truncate(lm_sampler *s, int64_t n);   /* back to the first n of them */
/* Only tokens whose bit is set may be picked, from now on; NULL: all. Borrowed until the next call. */
void lm_sampler_allow(lm_sampler *s, const uint32_t *mask);
/* Choose the next token; does not accept it. position: index of the token being chosen in its timeline. */
lm_err lm_sampler_pick(lm_sampler *s, const float *logits, int64_t position, int32_t *id);
/* Can a token be chosen from lm_peak's row of the logits with this t and gap? Not with penalties, a bias, top-k, or nothing that cuts the tail:
 * these want the logits. Then lm_sampler_pick_near is lm_sampler_pick. */
bool lm_sampler_near(const lm_sampler *s, float *t, float *gap);
lm_err lm_sampler_pick_near(lm_sampler *s, const lm_peak_row *p, int64_t position, int32_t *id);
/* The `n` largest logits with their ids, best first, ties to the lower id. */
void lm_top(const float *logits, int64_t vocab, int n, int32_t *id);
#endif
