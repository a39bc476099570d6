/* xtc.c — exclude top choices: with some probability, of the tokens that reach the threshold only the least likely remains, so that a text leaves
 * the beaten track where several ways are good. Where only one reaches it, nothing changes. */
#include <math.h>
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->xtc_probability > 0 && o->xtc_threshold <= 0.5; }
static bool less(const lm_cand *a, const lm_cand *b) { return a->logit < b->logit || (a->logit == b->logit && a->id > b->id); }
static void apply(lm_chain *c) {
    if (!(lm_rng_double(c->rng, 1ull << 33) < c->o->xtc_probability)) return;
    float top = c->c[0].logit;
    for (int64_t i = 1; i < c->n; i++) if (c->c[i].logit > top) top = c->c[i].logit;
    double sum = 0;
    for (int64_t i = 0; i < c->n; i++) sum += exp((double)(c->c[i].logit - top));
    int64_t least = -1, reach = 0, n = 0;
    for (int64_t i = 0; i < c->n; i++) {
        if (exp((double)(c->c[i].logit - top)) < c->o->xtc_threshold * sum) continue;
        reach++;
        if (least < 0 || less(&c->c[i], &c->c[least])) least = i;
    }
    if (reach < 2) return;
    const lm_cand keep = c->c[least];
    for (int64_t i = 0; i < c->n; i++) if (!less(&keep, &c->c[i])) c->c[n++] = c->c[i];
    c->n = n;
}
const lm_sampler_row lm_sampler_xtc = {
    .name = "xtc", .math = "with probability x: of those with p_i >= t only the least likely remains", .order = 70, .on = on, .apply = apply
};
