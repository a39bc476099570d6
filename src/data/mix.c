/* mix.c — see mix.h. */
#include "data/mix.h"
#include <math.h>

/* Shares of a period of p draws, if all are whole to within rounding. */
static bool whole(const double *w, int n, double sum, uint32_t p, uint32_t *share) {
    uint64_t all = 0;
    for (int i = 0; i < n; i++) {
        double x = w[i] / sum * p, r = rint(x);
        if (r < 1 || fabs(x - r) > 1e-9 * p) return false;
        all += share[i] = (uint32_t)r;
    }
    return all == p;
}
/* Largest remainder: round down, then give what is left to those that lost most. */
static lm_err nearly(lm_ctx *ctx, const double *w, int n, double sum, uint32_t *share) {
    uint32_t left = LM_MIX_PERIOD;
    for (int i = 0; i < n; i++) {
        left -= share[i] = (uint32_t)floor(w[i] / sum * LM_MIX_PERIOD);
        if (!share[i])
            return lm_fail(ctx, LM_E_CONFIG, "source %d: its weight %g is less than 1/%d of all weights together", i, w[i],
                           (int)LM_MIX_PERIOD);
    }
    for (; left; left--) {
        int best = 0;
        for (int i = 1; i < n; i++) if (w[i] / sum * LM_MIX_PERIOD - share[i] > w[best] / sum * LM_MIX_PERIOD - share[best]) best = i;
        share[best]++;
    }
    return LM_OK;
}
/* Of the sources that are behind by at least 1/(2n-2), the one whose next draw is due first. All times 2n-2 and the period, so that it is
 * integers. */
static void order(lm_mix *m, uint32_t *given) {
    const int64_t n2 = m->n > 1 ? 2 * (int64_t)m->n - 2 : 1, p = m->period;
    for (int64_t t = 1; t <= p; t++) {
        int best = -1;
        int64_t best_slack = 0;
        for (int s = 0; s < m->n; s++) {
            int64_t behind = ((int64_t)m->share[s] * t - (int64_t)given[s] * p) * n2;
            if (behind < p) continue;
            int64_t slack = p * (n2 - 1) - behind;          /* over share: draws until it is too late */
            if (best < 0 || slack * m->share[best] < best_slack * m->share[s]) { best = s; best_slack = slack; }
        }
        if (best < 0) best = 0;                             /* one source */
        m->who[t - 1] = (uint16_t)best;
        m->before[t - 1] = (uint16_t)given[best]++;
    }
}
lm_err lm_mix_new(lm_ctx *ctx, const double *w, int n, lm_mix *out) {
    double sum = 0;
    if (n < 1 || n > LM_MIX_SOURCES) return lm_fail(ctx, LM_E_CONFIG, "%d sources; wanted 1 to %d", n, (int)LM_MIX_SOURCES);
    for (int i = 0; i < n; i++) {
        if (!(w[i] > 0) || !isfinite(w[i])) return lm_fail(ctx, LM_E_CONFIG, "source %d: its weight is %g; wanted a positive number", i, w[i]);
        sum += w[i];
    }
    if (!isfinite(sum)) return lm_fail(ctx, LM_E_CONFIG, "the weights of the sources add up to more than a number can hold");
    lm_mix m = { .n = n };
    uint32_t *given = lm_calloc(ctx, LM_MEM_DATA, (size_t)n, sizeof *given);
    m.share = given ? lm_calloc(ctx, LM_MEM_DATA, (size_t)n, sizeof *m.share) : NULL;
    lm_err err = m.share ? LM_OK : LM_E_NOMEM;
    for (uint32_t p = (uint32_t)n; !err && p <= LM_MIX_PERIOD && !m.period; p++) if (whole(w, n, sum, p, m.share)) m.period = p;
    if (!err && !m.period) { m.period = LM_MIX_PERIOD; err = nearly(ctx, w, n, sum, m.share); }
    if (!err) m.who = lm_alloc(ctx, LM_MEM_DATA, m.period * sizeof *m.who);
    if (!err && m.who) m.before = lm_alloc(ctx, LM_MEM_DATA, m.period * sizeof *m.before);
    if (!err && !m.before) err = LM_E_NOMEM;
    if (!err) order(&m, given);
    lm_free(ctx, given);
    if (err) { lm_mix_free(ctx, &m); return err; }
    *out = m;
    return LM_OK;
}
void lm_mix_free(lm_ctx *ctx, lm_mix *m) {
    lm_free(ctx, m->share);
    lm_free(ctx, m->who);
    lm_free(ctx, m->before);
    *m = (lm_mix){0};
}
