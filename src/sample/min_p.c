/* min_p.c — only tokens at least min_p times as likely as the most likely one (Nguyen et al. 2024). */
#include <math.h>
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->min_p > 0; }
static void apply(lm_chain *c) {
    float top = c->c[0].logit;
    for (int64_t i = 1; i < c->n; i++) if (c->c[i].logit > top) top = c->c[i].logit;
    double least = (double)top + log(c->o->min_p);
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) if ((double)c->c[i].logit >= least) c->c[n++] = c->c[i];
    c->n = n;
}
const lm_sampler_row lm_sampler_min_p = { .name = "min_p", .math = "keep p_i >= min_p * max p", .order = 60, .on = on, .apply = apply };
