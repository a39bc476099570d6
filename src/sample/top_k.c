/* top_k.c — only the k most likely tokens (Fan et al. 2018). */
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->top_k > 0; }
static void apply(lm_chain *c) {
    if (c->o->top_k >= c->n) return;
    lm_chain_sort(c, c->o->top_k);
    c->n = c->o->top_k;
    c->sorted = true;
}
const lm_sampler_row lm_sampler_top_k = { .name = "top_k", .math = "keep the k largest", .order = 40, .whole = true, .on = on, .apply = apply };
