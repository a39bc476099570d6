/* bias.c — logit_bias: add a number to a token's logit; -inf forbids it. */
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->n_bias > 0; }
static void apply(lm_chain *c) { for (int i = 0; i < c->o->n_bias; i++) c->c[c->o->bias_id[i]].logit += c->o->bias[i]; }
const lm_sampler_row lm_sampler_bias = { .name = "bias", .math = "z_i += bias_i", .order = 20, .on = on, .apply = apply };
