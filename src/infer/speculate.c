/* speculate.c — the table of proposers, and how many guesses pay. */
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

/* The share of guesses that come true and the times are running means. With share a, k guesses give (1 - a^(k+1)) / (1 - a) tokens; the k with the most
 * tokens a second is taken. Widths not seen yet lie on the line through those that were. Now and then, one guess is made even where none pays: the text
 * may have changed. */
static double run_time(const lm_pace *p, int width) {
    if (p->run[width] > 0) return p->run[width];
    int lo = width, hi = width;
    while (lo > 0 && !(p->run[lo] > 0)) lo--;
    while (hi <= LM_GUESSES + 1 && !(p->run[hi] > 0)) hi++;
    if (hi <= LM_GUESSES + 1 && lo > 0) return p->run[lo] + (p->run[hi] - p->run[lo]) * (width - lo) / (hi - lo);
    if (lo > 1 && p->run[1] > 0) return p->run[lo] + (p->run[lo] - p->run[1]) / (lo - 1) * (width - lo);
    return lo > 0 ? p->run[lo] : hi <= LM_GUESSES + 1 ? p->run[hi] : 0;
}
int lm_pace_most(const lm_pace *p, int most) {
    if (most > LM_GUESSES) most = LM_GUESSES;
    if (most < 1) return 0;
    if (p->runs < 2) return p->runs ? (most < 4 ? most : 4) : 0;       /* first what a run alone takes, then what guesses do */
    int best = 0;
    double rate = 0, tokens = 1, power = 1;
    for (int k = 0; k <= most; k++) {
        const double r = tokens / (run_time(p, k + 1) + k * p->guess);
        if (r > rate * (k ? 1.01 : 1)) { rate = r; best = k; }
        power *= p->share;
        tokens += power;
    }
    return best ? best : p->runs % 32 == 0 ? 1 : 0;
}
static void mean(double *m, double x, double w) { *m = *m > 0 ? *m + w * (x - *m) : x; }
void lm_pace_saw(lm_pace *p, int n, int came, double run_s, double guess_s) {
    p->runs++;
    mean(&p->run[n + 1], run_s, 0.2);
    if (!n) return;
    mean(&p->guess, guess_s / n, 0.2);
    /* each guess that was looked at is one observation: `came` hits, and a miss where it ended early */
    for (int k = 0; k < came; k++) p->share += 0.05 * (1 - p->share);
    if (came < n) p->share -= 0.05 * p->share;
    if (p->runs <= 2) p->share = came == n ? 0.9 : (double)(came + 1) / (came + 2);
}
