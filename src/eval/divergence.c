/* divergence.c — see divergence.h. */
#include "eval/divergence.h"
#include <math.h>
#include <stdlib.h>

void lm_divergence_begin(lm_divergence *d, lm_ctx *ctx) { *d = (lm_divergence){ .ctx = ctx }; }
/* The largest logit and where it is; the logarithm of the sum of exponentials. */
static double lse(const float *x, int64_t n, int64_t *top) {
    double sum = 0;
    *top = 0;
    for (int64_t i = 1; i < n; i++) if (x[i] > x[*top]) *top = i;
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - (double)x[*top]);
    return (double)x[*top] + log(sum);
}
lm_err lm_divergence_add(lm_divergence *d, const float *reference, const float *model, int64_t vocab, int32_t token) {
    int64_t top_p, top_q;
    const double zp = lse(reference, vocab, &top_p), zq = lse(model, vocab, &top_q);
    if (!isfinite(zp) || !isfinite(zq)) return lm_fail(d->ctx, LM_E_DATA, "the %s gives logits that are no numbers", isfinite(zp) ? "model" : "reference");
    double kl = 0;
    for (int64_t i = 0; i < vocab; i++) {
        const double lp = (double)reference[i] - zp, lq = (double)model[i] - zq;
        if (lp > -700) kl += exp(lp) * (lp - lq);                 /* exp of less is 0: nothing is there to be missed */
    }
    if (!isfinite(kl)) return lm_fail(d->ctx, LM_E_DATA, "the model rules out a token that the reference allows: the divergence is infinite");
    if (d->tokens == d->cap) {
        const int64_t cap = d->cap ? 2 * d->cap : 1024;
        double *p = lm_realloc(d->ctx, LM_MEM_SCRATCH, d->kl, (size_t)cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        d->kl = p; d->cap = cap;
    }
    d->kl[d->tokens++] = kl > 0 ? kl : 0;                          /* rounding may leave a little less than 0 where both are equal */
    d->same_top += top_p == top_q;
    d->nll += zq - (double)model[token]; d->nll_reference += zp - (double)reference[token];
    return LM_OK;
}
static int rising(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
void lm_divergence_end(lm_divergence *d) {
    double sum = 0;
    for (int64_t i = 0; i < d->tokens; i++) sum += d->kl[i];
    if (d->tokens) {
        qsort(d->kl, (size_t)d->tokens, sizeof *d->kl, rising);
        d->mean = sum / (double)d->tokens;
        d->median = d->kl[d->tokens / 2]; d->p99 = d->kl[(d->tokens - 1) * 99 / 100]; d->largest = d->kl[d->tokens - 1];
    }
    lm_free(d->ctx, d->kl);
    d->kl = NULL; d->cap = 0;
}
