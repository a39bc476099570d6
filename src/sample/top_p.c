/* top_p.c — the smallest set of most likely tokens whose probabilities reach p (Holtzman et al. 2020); never empty. */
#include <math.h>
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->top_p < 1.0; }
static void apply(lm_chain *c) {
    float top = c->c[0].logit;
    for (int64_t i = 1; i < c->n; i++) if (c->c[i].logit > top) top = c->c[i].logit;
    double sum = c->rest;
    for (int64_t i = 0; i < c->n; i++) sum += exp((double)(c->c[i].logit - top));
    /* Sorting a vocabulary is the cost; the set is usually small, so sort a growing front. */
    for (int64_t front = 256;; front *= 8) {
        bool all = front >= c->n;
        lm_chain_sort(c, all ? 0 : front);
        double acc = 0;
        int64_t n = all || c->sorted ? c->n : front;
        for (int64_t i = 0; i < n; i++) {
            acc += exp((double)(c->c[i].logit - top));
            if (acc >= c->o->top_p * sum) { c->n = i + 1; c->sorted = true; return; }
        }
        if (n == c->n) return;
    }
}
const lm_sampler_row lm_sampler_top_p = {
    .name = "top_p", .math = "keep the fewest whose probabilities sum to >= p", .order = 50, .on = on, .apply = apply
};
