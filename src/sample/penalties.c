/* penalties.c — tokens seen before become less likely: repetition divides (Keskar et al. 2019, CTRL), presence and frequency subtract
 * (OpenAI's API). */
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->repetition != 1.0 || o->presence != 0.0 || o->frequency != 0.0; }
static void apply(lm_chain *c) {                                     /* candidates are still in id order here */
    for (int64_t i = 0; i < c->n_history; i++) if (c->history[i] >= 0 && c->history[i] < c->vocab) c->count[c->history[i]]++;
    for (int64_t i = 0; i < c->n_history; i++) {
        int32_t id = c->history[i];
        if (id < 0 || id >= c->vocab || !c->count[id]) continue;
        float *z = &c->c[id].logit;
        *z = *z > 0 ? (float)(*z / c->o->repetition) : (float)(*z * c->o->repetition);
        *z -= (float)(c->o->presence + c->o->frequency * c->count[id]);
        c->count[id] = 0;
    }
}
const lm_sampler_row lm_sampler_penalties = {
    .name = "penalties", .math = "z > 0 ? z/r : z*r; z -= presence + frequency * count", .order = 10, .on = on, .apply = apply
};
