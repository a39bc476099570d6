/* draft.c — guesses by a small model with the same vocabulary: it draws as the large one will, with the same sampler, grammar and random numbers.
 *
 * A session of the draft follows each timeline: what it holds beyond the tokens that became true is cut, what it lacks is computed, then it writes guesses of
 * its own one by one. */
#include <string.h>
#include "infer/speculate.h"

typedef struct { lm_session *s; lm_sampler *sampler; lm_matcher *at; } line;
typedef struct { lm_proposer base; lm_engine *e; int n; line *line; } draft;
static void close_draft(lm_proposer *p) {
    draft *d = (draft *)p;
    for (int i = 0; d->line && i < d->n; i++) { lm_session_free(d->line[i].s); lm_sampler_free(d->line[i].sampler); lm_matcher_free(d->line[i].at); }
    lm_free(p->ctx, d->line); lm_free(p->ctx, d);
}
static lm_err check(lm_ctx *ctx, const lm_proposer_opts *o) {
    if (!o->draft || !o->draft_tok) return lm_fail(ctx, LM_E_CONFIG, "a draft model is wanted, with its tokenizer");
    const lm_hash128_t a = lm_tok_hash(o->tok), b = lm_tok_hash(o->draft_tok);
    if (a.lo == b.lo && a.hi == b.hi && lm_engine_cfg(o->target)->vocab == lm_engine_cfg(o->draft)->vocab) return LM_OK;
    return lm_fail(ctx, LM_E_MISMATCH, "the draft has another vocabulary than the model (%d and %d tokens, or other ones): its guesses would be other words",
                   lm_tok_vocab(o->draft_tok), lm_tok_vocab(o->tok));
}
extern const lm_proposer_row lm_proposer_draft;
static lm_err open_draft(lm_proposer **out, lm_ctx *ctx, const lm_proposer_opts *o) {
    LM_TRY(check(ctx, o));
    draft *d = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *d);
    if (!d) return LM_E_NOMEM;
    d->base = (lm_proposer){ &lm_proposer_draft, ctx };
    d->e = o->draft; d->n = o->lines;
    lm_err err = LM_E_NOMEM;
    if (!(d->line = lm_calloc(ctx, LM_MEM_MISC, (size_t)o->lines, sizeof *d->line))) goto fail;
    for (int i = 0; i < o->lines; i++) {
        lm_sample_opts so = o->sample;
        so.stream = (uint64_t)i;
        LM_GOTO(lm_session_new(&d->line[i].s, d->e), fail);
        LM_GOTO(lm_sampler_new(&d->line[i].sampler, ctx, lm_engine_cfg(d->e)->vocab, &so), fail);
        if (o->masker) LM_GOTO(lm_matcher_new(&d->line[i].at, o->masker), fail);
    }
    *out = &d->base;
    return LM_OK;
fail:
    close_draft(&d->base);
    return err;
}
typedef struct { line *l; int64_t position; int32_t id; } choice;
static lm_err choose(void *ud, int r, int64_t i, const float *logits) {
    choice *c = ud; (void)r; (void)i;
    const uint32_t *mask = NULL;
    if (c->l->at) LM_TRY(lm_matcher_mask(c->l->at, &mask));
    lm_sampler_allow(c->l->sampler, mask);
    return lm_sampler_pick(c->l->sampler, logits, c->position, &c->id);
}
static lm_err guess(lm_proposer *p, const lm_guess_place *at, int32_t *out, int *n) {
    draft *d = (draft *)p;
    line *l = &d->line[at->line];
    const int32_t *held = lm_session_ids(l->s);
    const int64_t len = lm_session_len(l->s);
    int64_t same = 0;
    *n = 0;
    if (at->n + at->most > lm_engine_context(d->e)) return LM_OK;       /* the draft's context is shorter: no guesses from here on */
    while (same < len && same < at->n - 1 && held[same] == at->ids[same]) same++;            /* the last is always fed: its logits are wanted */
    LM_TRY(lm_session_truncate(l->s, same));
    lm_sampler_truncate(l->sampler, same);
    for (int64_t i = same; i < at->n; i++) LM_TRY(lm_sampler_accept(l->sampler, at->ids[i]));
    if (l->at) lm_matcher_copy(l->at, at->at);
    const int32_t *ids = at->ids + same;
    int64_t many = at->n - same;
    for (int k = 0; k < at->most; k++) {
        if (l->at && lm_matcher_ended(l->at)) return LM_OK;
        choice c = { l, at->position + k, -1 };
        const lm_request q = { l->s, ids, many, LM_WANT_LAST };
        LM_TRY(lm_engine_run(d->e, &q, 1, choose, &c));
        out[(*n)++] = c.id;
        if (l->at) LM_TRY(lm_matcher_accept(l->at, c.id));
        LM_TRY(lm_sampler_accept(l->sampler, c.id));
        ids = &out[k]; many = 1;
    }
    return LM_OK;
}
const lm_proposer_row lm_proposer_draft = { .name = "draft", .what = "a small model with the same vocabulary", .open = open_draft, .guess = guess,
    .free = close_draft };
