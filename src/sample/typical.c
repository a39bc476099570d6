/* typical.c — locally typical sampling (Meister et al. 2023): the smallest set of tokens whose surprise is nearest the entropy and whose
 * probabilities reach p; never empty. */
#include <math.h>
#include <stdlib.h>
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->typical > 0 && o->typical < 1.0; }
static int by_logit(const void *a, const void *b) {
    const lm_cand *x = a, *y = b;
    return x->logit != y->logit ? (x->logit > y->logit ? -1 : 1) : x->id < y->id ? -1 : x->id > y->id;
}
static void apply(lm_chain *c) {
    qsort(c->c, (size_t)c->n, sizeof *c->c, by_logit);
    const double top = (double)c->c[0].logit;
    double sum = 0, entropy = 0;
    for (int64_t i = 0; i < c->n; i++) sum += exp((double)c->c[i].logit - top);
    const double lse = top + log(sum);
    for (int64_t i = 0; i < c->n; i++) entropy += exp((double)c->c[i].logit - lse) * (lse - (double)c->c[i].logit);
    /* Surprise grows along the list, so the set is a run of it: begin where it crosses the entropy and take the nearer end each time. */
    int64_t hi = 0;
    while (hi < c->n && lse - (double)c->c[hi].logit < entropy) hi++;
    int64_t lo = hi;                                                  /* the set is [lo, hi) */
    for (double acc = 0; acc < c->o->typical && (lo > 0 || hi < c->n);) {
        const double below = lo > 0 ? entropy - (lse - (double)c->c[lo - 1].logit) : INFINITY;
        const double above = hi < c->n ? lse - (double)c->c[hi].logit - entropy : INFINITY;
        acc += exp((double)c->c[below <= above ? --lo : hi++].logit - lse);
    }
    for (int64_t i = lo; i < hi; i++) c->c[i - lo] = c->c[i];
    c->n = hi - lo;
    c->sorted = true;
}
const lm_sampler_row lm_sampler_typical = {
    .name = "typical", .math = "keep the fewest with |-log p_i - H| smallest whose probabilities sum to >= p", .order = 45, .whole = true, .on = on, .apply = apply
};
