/* sample.c — the chain and the draw. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "op/xent/xent.h"
#include "sample/sample.h"
#define SAMPLER(n) extern const lm_sampler_row lm_sampler_##n;
#include "sampler_list.inc"
#undef SAMPLER
const lm_sampler_row *const lm_samplers[] = {
#define SAMPLER(n) &lm_sampler_##n,
#include "sampler_list.inc"
#undef SAMPLER
    NULL };
enum { MAX_ROWS = 32 };
struct lm_sampler {
    lm_ctx *ctx;
    lm_sample_opts o;
    int64_t vocab;
    lm_cand *cand;
    int32_t *count, *history, *match;
    int64_t n, cap;
    const uint32_t *allow;
    const lm_sampler_row *row[MAX_ROWS];
    int n_row;
    int32_t *bias_id;
    float *bias, *scaled;                             /* scaled: (vocab) logits over the temperature */
    bool near; float gap;                             /* lm_sampler_near without a mask */
};

lm_sample_opts lm_sample_defaults(void) { return (lm_sample_opts){ .temperature = 0.8, .top_p = 0.95, .min_p = 0.05, .repetition = 1.0, .typical = 1.0 }; }
static lm_err check(lm_ctx *ctx, const lm_sample_opts *o, int64_t vocab) {
    if (!(o->temperature >= 0 && o->temperature <= 100)) return lm_fail(ctx, LM_E_CONFIG, "temperature is %g; it must be 0 to 100", o->temperature);
    if (!(o->top_p >= 0 && o->top_p <= 1)) return lm_fail(ctx, LM_E_CONFIG, "top_p is %g; it must be 0 to 1", o->top_p);
    if (!(o->min_p >= 0 && o->min_p <= 1)) return lm_fail(ctx, LM_E_CONFIG, "min_p is %g; it must be 0 to 1", o->min_p);
    if (!(o->repetition > 0 && o->repetition <= 100))
        return lm_fail(ctx, LM_E_CONFIG, "repetition_penalty is %g; it must be above 0 and at most 100", o->repetition);
    if (!(fabs(o->presence) <= 100 && fabs(o->frequency) <= 100))
        return lm_fail(ctx, LM_E_CONFIG, "presence and frequency penalties must lie within -100 and 100");
    if (!(o->typical >= 0 && o->typical <= 1)) return lm_fail(ctx, LM_E_CONFIG, "typical_p is %g; it must be 0 to 1", o->typical);
    if (!(o->xtc_probability >= 0 && o->xtc_probability <= 1 && o->xtc_threshold >= 0 && o->xtc_threshold <= 1))
        return lm_fail(ctx, LM_E_CONFIG, "xtc_probability %g and xtc_threshold %g must be 0 to 1", o->xtc_probability, o->xtc_threshold);
    if (!(o->dry >= 0 && o->dry <= 100)) return lm_fail(ctx, LM_E_CONFIG, "dry_multiplier is %g; it must be 0 to 100", o->dry);
    if (o->dry > 0 && (!(o->dry_base >= 1 && o->dry_base <= 100) || o->dry_length < 1))
        return lm_fail(ctx, LM_E_CONFIG, "dry_base is %g and dry_length %lld; they must be 1 to 100, and at least 1", o->dry_base, (long long)o->dry_length);
    if (o->top_k < 0 || o->penalty_window < 0) return lm_fail(ctx, LM_E_CONFIG, "top_k and the penalty window cannot be negative");
    for (int i = 0; i < o->n_bias; i++) {
        if (o->bias_id[i] < 0 || o->bias_id[i] >= vocab)
            return lm_fail(ctx, LM_E_CONFIG, "logit_bias: token %d is outside the vocabulary of %lld", o->bias_id[i], (long long)vocab);
        if (isnan(o->bias[i])) return lm_fail(ctx, LM_E_CONFIG, "logit_bias: the bias of token %d is not a number", o->bias_id[i]);
    }
    return LM_OK;
}
lm_err lm_sampler_new(lm_sampler **out, lm_ctx *ctx, int64_t vocab, const lm_sample_opts *o) {
    LM_TRY(check(ctx, o, vocab));
    lm_sampler *s = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *s);
    if (!s) return LM_E_NOMEM;
    s->ctx = ctx; s->o = *o; s->vocab = vocab;
    s->cand = lm_alloc(ctx, LM_MEM_MISC, (size_t)vocab * sizeof *s->cand);
    s->count = lm_calloc(ctx, LM_MEM_MISC, (size_t)vocab, sizeof *s->count);
    s->bias_id = lm_alloc(ctx, LM_MEM_MISC, (size_t)(o->n_bias + 1) * sizeof *s->bias_id);
    s->bias = lm_alloc(ctx, LM_MEM_MISC, (size_t)(o->n_bias + 1) * sizeof *s->bias);
    s->scaled = lm_alloc(ctx, LM_MEM_MISC, (size_t)vocab * sizeof *s->scaled);
    if (!s->cand || !s->scaled || !s->count || !s->bias_id || !s->bias) { lm_sampler_free(s); return LM_E_NOMEM; }
    if (o->n_bias) {
        memcpy(s->bias_id, o->bias_id, (size_t)o->n_bias * sizeof *s->bias_id);
        memcpy(s->bias, o->bias, (size_t)o->n_bias * sizeof *s->bias);
    }
    s->o.bias_id = s->bias_id; s->o.bias = s->bias;
    for (int i = 0; lm_samplers[i]; i++) {
        if (!lm_samplers[i]->on(&s->o) || s->n_row == MAX_ROWS) continue;
        int k = s->n_row++;
        for (; k && s->row[k - 1]->order > lm_samplers[i]->order; k--) s->row[k] = s->row[k - 1];
        s->row[k] = lm_samplers[i];
    }
    float t;
    s->near = lm_sampler_near(s, &t, &s->gap);
    *out = s; return LM_OK;
}
void lm_sampler_free(lm_sampler *s) {
    if (!s) return;
    lm_free(s->ctx, s->cand);
    lm_free(s->ctx, s->count);
    lm_free(s->ctx, s->history);
    lm_free(s->ctx, s->match);
    lm_free(s->ctx, s->bias_id);
    lm_free(s->ctx, s->bias);
    lm_free(s->ctx, s->scaled);
    lm_free(s->ctx, s);
}
lm_err lm_sampler_accept(lm_sampler *s, int32_t id) {
    if (s->n == s->cap) {
        int64_t cap = s->cap ? 2 * s->cap : 256;
        int32_t *h = lm_realloc(s->ctx, LM_MEM_MISC, s->history, (size_t)cap * sizeof *h);
        if (!h) return LM_E_NOMEM;
        s->history = h;
        if (s->o.dry > 0) {
            int32_t *m = lm_realloc(s->ctx, LM_MEM_MISC, s->match, (size_t)(cap + 1) * sizeof *m);
            if (!m) return LM_E_NOMEM;
            s->match = m;
        }
        s->cap = cap;
    }
    s->history[s->n++] = id;
    return LM_OK;
}
int64_t lm_sampler_len(const lm_sampler *s) { return s->n; }
void lm_sampler_truncate(lm_sampler *s, int64_t n) { if (n >= 0 && n < s->n) s->n = n; }
void lm_sampler_allow(lm_sampler *s, const uint32_t *mask) { s->allow = mask; }
static bool before(const lm_cand *a, const lm_cand *b) { return a->logit > b->logit || (a->logit == b->logit && a->id < b->id); }
static int order(const void *a, const void *b) { return before(a, b) ? -1 : before(b, a) ? 1 : 0; }
static void sift(lm_cand *h, int64_t n, int64_t i) {                 /* worst of the kept on top */
    for (int64_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && before(&h[c], &h[c + 1])) c++;
        if (!before(&h[i], &h[c])) break;
        lm_cand t = h[i]; h[i] = h[c]; h[c] = t;
    }
}
void lm_chain_sort(lm_chain *c, int64_t first) {
    if (c->sorted) return;
    if (first > 0 && first < c->n / 8) {                              /* a heap of the best, then only those in order */
        for (int64_t i = first / 2; i >= 0; i--) sift(c->c, first, i);
        for (int64_t i = first; i < c->n; i++)
            if (before(&c->c[i], &c->c[0])) { lm_cand t = c->c[0]; c->c[0] = c->c[i]; c->c[i] = t; sift(c->c, first, 0); }
        qsort(c->c, (size_t)first, sizeof *c->c, order);
        return;
    }
    qsort(c->c, (size_t)c->n, sizeof *c->c, order);
    c->sorted = true;
}
void lm_top(const float *logits, int64_t vocab, int n, int32_t *id) {
    int m = 0;
    for (int64_t v = 0; v < vocab; v++) {
        if (m == n && !(logits[v] > logits[id[m - 1]])) continue;
        int k = m < n ? m++ : m - 1;
        for (; k && logits[v] > logits[id[k - 1]]; k--) id[k] = id[k - 1];
        id[k] = (int32_t)v;
    }
}
/* The largest logit + Gumbel number of the id: a draw from the softmax (Gumbel 1954), whatever order the candidates are in. */
static int32_t draw(const lm_chain *c) {
    uint32_t w[4];
    uint64_t block = UINT64_MAX;
    double top = -INFINITY;
    int32_t id = c->c[0].id;
    for (int64_t i = 0; i < c->n; i++) {
        const double z = (double)c->c[i].logit, behind = top - z;
        const uint64_t k = (uint64_t)c->c[i].id;
        if (k / 2 != block) lm_rng_block(c->rng, block = k / 2, w);
        const uint64_t bits = (uint64_t)w[2 * (k & 1)] << 32 | w[2 * (k & 1) + 1];
        const double u = ((double)(bits >> 11) + 0.5) * 0x1p-53;
        /* -log(-log u) <= -log(1 - u), and exp(-x) <= 1 / (1 + x + x^2/2): most are out without a logarithm */
        if (behind > 0 && (1 - u) * (1 + behind * (1 + 0.5 * behind)) > 1) continue;
        const double g = z - log(-log(u));
        if (g > top || (g == top && c->c[i].id < id)) { top = g; id = c->c[i].id; }
    }
    return id;
}
static void compact(lm_chain *c) {
    int64_t n = 0;
    for (int64_t i = 0; i < c->n; i++) if (c->c[i].logit > -INFINITY) c->c[n++] = c->c[i];
    c->n = n;
}
/* The chain over the n candidates that are in place; rest: see lm_chain. */
static lm_err pick(lm_sampler *s, int64_t n, double rest, int64_t position, int32_t *id) {
    int64_t window = s->o.penalty_window && s->o.penalty_window < s->n ? s->o.penalty_window : s->n;
    const uint64_t of[2] = { s->o.stream, (uint64_t)position };
    lm_chain c = { .o = &s->o,
                   .vocab = s->vocab,
                   .c = s->cand,
                   .n = n,
                   .rest = rest,
                   .history = s->history ? s->history + (s->n - window) : NULL,
                   .n_history = window,
                   .count = s->count,
                   .match = s->match,
                   .rng = lm_rng_of(s->o.seed, "sample") };
    c.rng.stream = lm_hash64(of, sizeof of, c.rng.stream);
    int i = 0;
    for (; i < s->n_row && s->row[i]->order < lm_sampler_temperature.order; i++) s->row[i]->apply(&c);
    compact(&c);
    if (!c.n) return lm_fail(s->ctx, LM_E_RANGE, "every token is forbidden here (logit_bias, or a grammar that the vocabulary cannot write)");
    for (; i < s->n_row; i++) s->row[i]->apply(&c);
    if (s->o.temperature == 0) {
        int64_t best = 0;
        for (int64_t k = 1; k < c.n; k++) if (before(&c.c[k], &c.c[best])) best = k;
        *id = c.c[best].id;
    } else *id = draw(&c);
    return LM_OK;
}
/* As on a device: only what is near the largest becomes a candidate, and the rest is one number. */
static lm_err pick_here(lm_sampler *s, const float *logits, float top, int64_t position, int32_t *id) {
    const float least = top - s->gap;
    int64_t n = 0;
    double rest = 0;
    for (int64_t v = 0; v < s->vocab; v++) if (logits[v] >= least) s->cand[n++] = (lm_cand){ (int32_t)v, logits[v] };
    if (s->o.temperature > 0 && s->o.top_p < 1) {                      /* nobody else asks for it */
        const float t = (float)s->o.temperature;
        for (int64_t v = 0; v < s->vocab; v++) s->scaled[v] = (logits[v] - top) / t;
        rest = exp((double)lm_row_lse(s->scaled, s->vocab));
        for (int64_t i = 0; i < n; i++) rest -= exp((double)(s->cand[i].logit - top) / s->o.temperature);
    }
    return pick(s, n, rest > 0 ? rest : 0, position, id);
}
lm_err lm_sampler_pick(lm_sampler *s, const float *logits, int64_t position, int32_t *id) {
    float top = -INFINITY;
    bool bad = false;
    for (int64_t v = 0; v < s->vocab; v++) {
        bad |= !(logits[v] < INFINITY);                               /* NaN too */
        top = logits[v] > top ? logits[v] : top;
    }
    if (bad) {
        int64_t v = 0;
        while (logits[v] < INFINITY) v++;
        return lm_fail(s->ctx, LM_E_RANGE, "the logit of token %lld is not finite: the weights are damaged or the model diverged", (long long)v);
    }
    if (s->near && !s->allow && top > -INFINITY) return pick_here(s, logits, top, position, id);
    for (int64_t v = 0; v < s->vocab; v++) s->cand[v] = (lm_cand){ (int32_t)v, !s->allow || s->allow[v >> 5] >> (v & 31) & 1 ? logits[v] : -INFINITY };
    return pick(s, s->vocab, 0, position, id);
}
bool lm_sampler_near(const lm_sampler *s, float *t, float *gap) {
    const lm_sample_opts *o = &s->o;
    if (s->allow) return false;
    for (int i = 0; i < s->n_row; i++) if (s->row[i]->order < lm_sampler_temperature.order || s->row[i]->whole) return false;    /* the first change single logits */
    *t = (float)o->temperature; *gap = 0;
    if (o->temperature == 0) return true;
    /* a little more than min-p keeps, which itself decides */
    *gap = (float)(-log(o->min_p) * o->temperature * 1.001 + 1e-3);
    return o->min_p > 0 && isfinite(*gap);
}
lm_err lm_sampler_pick_near(lm_sampler *s, const lm_peak_row *p, int64_t position, int32_t *id) {
    if (p->bad) return lm_fail(s->ctx, LM_E_RANGE, "a logit is not finite: the weights are damaged or the model diverged");
    if (p->n < 1 || p->n > LM_PEAK_MOST) return lm_fail(s->ctx, LM_E_INTERNAL, "%lld tokens are near the largest", (long long)p->n);
    if (s->allow) return lm_fail(s->ctx, LM_E_INTERNAL, "a mask of tokens wants the logits");
    double rest = (double)p->sum;
    for (int64_t i = 0; i < p->n; i++) {
        s->cand[i] = (lm_cand){ (int32_t)p->id[i], p->logit[i] };
        if (s->o.temperature > 0) rest -= exp((double)(p->logit[i] - p->max) / s->o.temperature);
    }
    return pick(s, p->n, rest > 0 ? rest : 0, position, id);
}
