/* lookup.c — guesses by what followed these words before (prompt lookup): costs nothing, and comes true where a text copies or repeats itself.
 *
 * The longest run of last tokens, two at least, that stands earlier in the timeline; the latest place of equals; what followed there is the guess. Looking
 * is linear in the timeline and stops at a long enough match: microseconds, so it is done at every place. */
#include "infer/speculate.h"

enum { LONG = 16, SHORT = 2 };
extern const lm_proposer_row lm_proposer_lookup;
static void close_lookup(lm_proposer *p) { lm_free(p->ctx, p); }
static lm_err open_lookup(lm_proposer **out, lm_ctx *ctx, const lm_proposer_opts *o) {
    (void)o;
    lm_proposer *p = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *p);
    if (!p) return LM_E_NOMEM;
    *p = (lm_proposer){ &lm_proposer_lookup, ctx };
    *out = p;
    return LM_OK;
}
/* What followed two words before seldom follows them again, what followed sixteen nearly always. A guess that came true makes the match longer. */
static float sure_of(int64_t match) {
    static const float by_length[] = { 0.2f, 0.32f, 0.44f, 0.56f, 0.56f, 0.7f, 0.7f, 0.7f };        /* from 2 on */
    return match < 10 ? by_length[match - SHORT] : match < LONG ? 0.82f : 0.94f;
}
static lm_err guess(lm_proposer *p, const lm_guess_place *at, int32_t *out, float *sure, int *n) {
    (void)p;
    const int32_t *id = at->ids;
    int64_t best = SHORT - 1, from = -1;
    for (int64_t k = at->n - 2; k >= 0 && best < LONG; k--) {          /* id[k] stands where the last token stands now */
        if (id[k] != id[at->n - 1]) continue;
        int64_t m = 1;
        while (m < LONG && m <= k && id[k - m] == id[at->n - 1 - m]) m++;
        if (m > best) { best = m; from = k + 1; }
    }
    *n = 0;
    for (; from >= 0 && *n < at->most; ++*n, from++) {
        out[*n] = from < at->n ? id[from] : out[from - at->n];         /* past the end it repeats itself */
        sure[*n] = sure_of(best + *n);
    }
    return LM_OK;
}
const lm_proposer_row lm_proposer_lookup = { .name = "lookup", .what = "what followed the last tokens before", .open = open_lookup, .guess = guess,
    .free = close_lookup };
