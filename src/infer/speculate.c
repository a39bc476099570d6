/* speculate.c — the table of proposers, and how many guesses pay. */
#include <math.h>
#include <string.h>
#include "infer/speculate.h"
#define PROPOSER(n) extern const lm_proposer_row lm_proposer_##n;
#include "proposer_list.inc"
#undef PROPOSER
const lm_proposer_row *const lm_proposers[] = {
#define PROPOSER(n) &lm_proposer_##n,
#include "proposer_list.inc"
#undef PROPOSER
    NULL };
lm_err lm_proposer_open(lm_proposer **out, lm_ctx *ctx, const char *row, const lm_proposer_opts *o) {
    for (int i = 0; lm_proposers[i]; i++) if (!strcmp(lm_proposers[i]->name, row)) return lm_proposers[i]->open(out, ctx, o);
    return lm_fail(ctx, LM_E_CONFIG, "no proposer is called \"%s\"", row);
}
void lm_proposer_free(lm_proposer *p) { if (p) p->row->free(p); }

/* ---- the pace -------------------------------------------------------------------------------------------------------------------------------
 * Guesses have chances c_1, c_2, … of coming true behind one another; k of them give 1 + c_1 + c_1 c_2 + … tokens, a run over k + 1 rows takes its time:
 * the k with the most tokens a second is taken. A chance is what guesses of its class of belief came to lately, with the belief itself as a few
 * observations before the first. A width's time is a running mean, as long as it is not old; else it lies between its neighbours. */
enum { OLD = 64, ANY = LM_SURE };
static const double BEFORE = 3, FADES = 0.97, A_ROW = 0.12 /* of a run over one row, before a wider one was seen */, FREE = 0.01 /* of a run: a guess that takes less was looked up */;
static int class_of(float sure) { const int c = (int)(sure * LM_SURE); return c < 0 ? 0 : c >= LM_SURE ? LM_SURE - 1 : c; }
static double chance(const lm_pace *p, int c) {
    const double belief = c == ANY ? 0.6 : (c + 0.5) / LM_SURE;
    return (p->came[c] + BEFORE * belief) / (p->seen[c] + BEFORE);
}
static bool fresh(const lm_pace *p, int w) { return p->at[w] && p->runs - p->at[w] < OLD; }
static double run_time(const lm_pace *p, int w) {
    if (fresh(p, w)) return p->run[w];
    int lo = w - 1, hi = w + 1;
    while (lo > 0 && !fresh(p, lo)) lo--;
    while (hi <= LM_GUESSES + 1 && !fresh(p, hi)) hi++;
    const bool above = hi <= LM_GUESSES + 1;
    if (above && lo > 0) return p->run[lo] + (p->run[hi] - p->run[lo]) * (w - lo) / (hi - lo);
    const double one = p->at[1] ? p->run[1] : p->run[lo > 0 ? lo : above ? hi : 0];
    if (lo > 1) return p->run[lo] + (p->run[lo] > one ? (p->run[lo] - one) / (lo - 1) : 0) * (w - lo);
    if (above && p->at[1]) return one + (p->run[hi] - one) * (w - 1) / (hi - 1);
    return one * (1 + A_ROW * (w - 1));
}
/* Tokens a second with n guesses of chances c, and in *best how many of them pay; cost: seconds of making one. */
static double rate_of(const lm_pace *p, const double *c, int n, double cost, int *best) {
    double top = 0, tokens = 1, power = 1;
    for (int k = 0; k <= n; k++) {
        const double r = tokens / (run_time(p, k + 1) + k * cost);
        if (r > top * (k ? 1.01 : 1)) { top = r; *best = k; }
        if (k < n) tokens += power *= c[k];
    }
    return top;
}
bool lm_pace_more(const lm_pace *p, const float *sure, int n, int most) {
    if (most > LM_GUESSES) most = LM_GUESSES;
    if (!p->runs || n >= most) return false;                           /* first what a run alone takes */
    if (p->seen[ANY] < 8 && n < 4) return true;
    if (!n && p->runs - p->asked >= 16) return true;                   /* the text may have changed */
    double c[LM_GUESSES];
    int k = 0;
    for (int i = 0; i < most; i++) c[i] = chance(p, i < n ? class_of(sure[i]) : ANY);
    rate_of(p, c, most, p->guess, &k);
    return k > n;
}
int lm_pace_feed(const lm_pace *p, const float *sure, int n) {
    double c[LM_GUESSES];
    int k = 0;
    if (!p->runs) return 0;
    for (int i = 0; i < n; i++) c[i] = chance(p, class_of(sure[i]));
    rate_of(p, c, n, 0, &k);
    return k;
}
void lm_pace_judged(lm_pace *p, float sure, bool true_) {
    for (int c = class_of(sure);; c = ANY) {
        p->came[c] = p->came[c] * FADES + true_; p->seen[c] = p->seen[c] * FADES + 1;
        if (c == ANY) return;
    }
}
/* One that took twice as long as usual met something else on the machine: it counts as twice. */
static void mean(double *m, double x, double w) { *m = *m > 0 ? *m + w * (fmin(x, 2 * *m) - *m) : x; }
void lm_pace_saw(lm_pace *p, int n, double run_s, int made, double guess_s) {
    p->runs++;
    if (!fresh(p, n + 1)) p->run[n + 1] = 0;
    mean(&p->run[n + 1], run_s, 0.2);
    p->at[n + 1] = p->runs;
    if (!made) return;
    p->asked = p->runs;
    if (guess_s > FREE * run_s * made) mean(&p->guess, guess_s / made, 0.2);
}
