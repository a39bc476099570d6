/* divergence.h — how far one model's predictions are from another's: what a smaller or coarser copy of a model has lost.
 *
 * At each place the reference gives the distribution p and the model q, both over the vocabulary after softmax: KL(p ‖ q) = Σ p (ln p - ln q) in nats,
 * 0 where they agree. Beside its mean stand its median, its 99th percentile and its largest, for a mean hides rare disasters, and the share of
 * places where both think the same token the likeliest. Sums are in double in token order.
 *
 * Lifetime: begin to end.  Threads: one caller.  Errors: LM_E_DATA: a logit that is not a number; LM_E_NOMEM. */
#ifndef LM_DIVERGENCE_H
#define LM_DIVERGENCE_H
#include "base/base.h"
typedef struct {
    int64_t tokens, same_top;                 /* places; those with the same likeliest token */
    double mean, median, p99, largest;        /* of KL, nats; after lm_divergence_end() */
    double nll, nll_reference;                /* sums over the tokens that stood there */
    double *kl; int64_t cap; lm_ctx *ctx;     /* every place's, until the end */
} lm_divergence;
void lm_divergence_begin(lm_divergence *d, lm_ctx *ctx);
/* One place: (vocab) logits of both, and the token that stood there. */
lm_err lm_divergence_add(lm_divergence *d, const float *reference, const float *model, int64_t vocab, int32_t token);
void lm_divergence_end(lm_divergence *d);     /* the figures; the places are freed */
#endif
