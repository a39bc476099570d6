/* dry.c — "don't repeat yourself": a token that would carry on a repetition of what was written before becomes less likely, the more the longer the
 * repetition already is. For every earlier place: how many tokens before it equal the last ones of the text (a suffix match, by the Z algorithm on
 * the text read backwards, so linear); the token that stood there then loses multiplier * base^(length - allowed). Tokens that end a sentence or
 * open a quotation may be named as breaks: no repetition reaches across one. */
#include <math.h>
#include "sample/sample.h"
static bool on(const lm_sample_opts *o) { return o->dry > 0; }
static bool breaks(const lm_chain *c, int32_t id) { return id < 0 || id >= c->vocab || (c->o->dry_break && c->o->dry_break[id >> 5] >> (id & 31) & 1); }
static void apply(lm_chain *c) {
    const int64_t n = c->n_history;
    const int32_t *h = c->history;
    int64_t most = 0;                                                 /* tokens since the last break: no match is longer */
    while (most < n && !breaks(c, h[n - 1 - most])) most++;
    if (n < 2 || most < c->o->dry_length) return;
    /* z[k]: how far the text read backwards from k equals it from 0 */
    int32_t *z = c->match;
#define BACK(k) h[n - 1 - (k)]
    int64_t left = 0, right = 0;
    for (int64_t k = 1; k < n; k++) {
        int64_t m = k < right ? (z[k - left] < right - k ? z[k - left] : right - k) : 0;
        while (k + m < n && BACK(m) == BACK(k + m)) m++;
        if (k + m > right) { left = k; right = k + m; }
        z[k] = (int32_t)m;
    }
    /* the longest for each token that followed, in count[] */
    for (int64_t k = 1; k < n; k++) {
        const int32_t next = BACK(k - 1), m = (int32_t)(z[k] < most ? z[k] : most);
        if (m >= c->o->dry_length && !breaks(c, next) && m > c->count[next]) c->count[next] = m;
    }
    for (int64_t k = 1; k < n; k++) {
        const int32_t next = BACK(k - 1);
        if (next < 0 || next >= c->vocab || !c->count[next]) continue;
        c->c[next].logit -= (float)fmin(c->o->dry * pow(c->o->dry_base, (double)(c->count[next] - c->o->dry_length)), 1e6);
        c->count[next] = 0;
    }
#undef BACK
}
const lm_sampler_row lm_sampler_dry = { .name = "dry", .math = "z -= m * b^(repeated - allowed)", .order = 15, .on = on, .apply = apply };
