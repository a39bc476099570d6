/* temperature.c — logits divided by a temperature: below 1 sharper, above 1 flatter. */
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->temperature > 0 && o->temperature != 1.0; }
static void apply(lm_chain *c) { for (int64_t i = 0; i < c->n; i++) c->c[i].logit = (float)((double)c->c[i].logit / c->o->temperature); }
const lm_sampler_row lm_sampler_temperature = { .name = "temperature", .math = "z /= t", .order = 30, .on = on, .apply = apply };
