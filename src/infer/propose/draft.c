/* draft.c — guesses by a small model, or, where the last words stood before in a long enough piece, by what followed them (lookup.c). With the same
 * vocabulary it draws as the large one will, with the same sampler, grammar and random numbers.
 *
 * With another vocabulary the timeline is translated (translate.h). Where most of the draft's tokens are tokens of the model too, each of its rows of
 * logits, on those tokens, is a row over the model's vocabulary, and is drawn from as before (the intersection of Timor et al. 2025). Else the draft writes
 * what it finds most likely, and the model's tokens for that text are the guesses: a guess that is certain is kept as often as the model draws it.
 *
 * A session of the draft follows each timeline: what it holds beyond the tokens that became true is cut, what it lacks is computed, then it writes guesses of
 * its own one by one. */
#include <math.h>
#include <string.h>
#include "infer/speculate.h"
#include "infer/translate.h"
#include "op/xent/xent.h"

typedef struct { lm_session *s; lm_sampler *sampler; lm_matcher *at; lm_tok_buf seen; } line;      /* seen: what the sampler was told, in the model's tokens */
typedef struct {
    lm_proposer base; lm_engine *e; int n; line *line;
    lm_translator *other; const lm_tok *tok, *target_tok;    /* NULL: the same vocabulary */
    bool rows; float *row; int64_t vocab;                    /* rows of its logits are drawn from, as rows of the model's `vocab` */
    lm_tok_buf ids; lm_str text;
} draft;
static const double MOST_SHARED = 0.5;
static const float LONG_COPY = 0.7f;                       /* lookup's belief in it */
static void close_draft(lm_proposer *p) {
    draft *d = (draft *)p;
    for (int i = 0; d->line && i < d->n; i++) {
        lm_session_free(d->line[i].s); lm_sampler_free(d->line[i].sampler); lm_matcher_free(d->line[i].at); lm_tok_buf_free(&d->line[i].seen);
    }
    lm_translator_free(d->other); lm_tok_buf_free(&d->ids); lm_str_free(&d->text);
    lm_free(p->ctx, d->row); lm_free(p->ctx, d->line); lm_free(p->ctx, d);
}
extern const lm_proposer_row lm_proposer_draft, lm_proposer_lookup;
static lm_err open_draft(lm_proposer **out, lm_ctx *ctx, const lm_proposer_opts *o) {
    if (!o->draft || !o->draft_tok) return lm_fail(ctx, LM_E_CONFIG, "a draft model is wanted, with its tokenizer");
    draft *d = lm_calloc(ctx, LM_MEM_MISC, 1, sizeof *d);
    if (!d) return LM_E_NOMEM;
    d->base = (lm_proposer){ &lm_proposer_draft, ctx };
    d->e = o->draft; d->n = o->lines; d->tok = o->draft_tok; d->target_tok = o->tok; d->ids.ctx = d->text.ctx = ctx;
    d->vocab = lm_engine_cfg(o->target)->vocab;
    const int64_t rows = lm_engine_cfg(o->draft)->vocab;
    const lm_hash128_t a = lm_tok_hash(o->tok), b = lm_tok_hash(o->draft_tok);
    lm_err err;
    if (!lm_hash_same(a, b) || d->vocab != rows) {
        LM_GOTO(lm_translator_new(&d->other, ctx, o->tok, d->vocab, o->draft_tok, rows), fail);
        d->rows = lm_translator_shared(d->other) >= MOST_SHARED;
    }
    if (d->rows && !(d->row = lm_alloc(ctx, LM_MEM_MISC, (size_t)d->vocab * sizeof *d->row))) { err = LM_E_NOMEM; goto fail; }
    if (!(d->line = lm_calloc(ctx, LM_MEM_MISC, (size_t)o->lines, sizeof *d->line))) { err = LM_E_NOMEM; goto fail; }
    for (int i = 0; i < o->lines; i++) {
        lm_sample_opts so = o->sample;
        so.stream = (uint64_t)i;
        d->line[i].seen.ctx = ctx;
        LM_GOTO(lm_session_new(&d->line[i].s, d->e), fail);
        LM_GOTO(lm_sampler_new(&d->line[i].sampler, ctx, d->vocab, &so), fail);
        if (o->masker) LM_GOTO(lm_matcher_new(&d->line[i].at, o->masker), fail);
    }
    *out = &d->base;
    return LM_OK;
fail:
    close_draft(&d->base);
    return err;
}

/* What one run of the draft gives: a token of the model's vocabulary and the draft's own, and how likely it finds that. id -1: nothing that may come is a token of both. */
typedef struct { draft *d; line *l; int64_t position; int32_t id, own; float sure; } choice;
static lm_err draw_one(choice *c, const float *logits) {
    draft *d = c->d;
    const uint32_t *mask = NULL;
    if (d->other && !d->rows) {                                /* the most likely; the end is one, other control tokens are no text */
        const int32_t n = (int32_t)lm_min64(lm_tok_vocab(d->tok), lm_engine_cfg(d->e)->vocab);
        c->own = -1;
        for (int32_t v = 0; v < n; v++) {
            const lm_tok_type k = lm_tok_type_of(d->tok, v);
            if ((k == LM_TOK_NORMAL || k == LM_TOK_ADDED || k == LM_TOK_BYTE || lm_tok_is_eos(d->tok, v)) && (c->own < 0 || logits[v] > logits[c->own])) c->own = v;
        }
        return LM_OK;
    }
    if (c->l->at) LM_TRY(lm_matcher_mask(c->l->at, &mask));
    lm_sampler_allow(c->l->sampler, mask);
    if (!d->other) { LM_TRY(lm_sampler_pick(c->l->sampler, logits, c->position, &c->id)); c->own = c->id; return LM_OK; }
    const int32_t *their = lm_translator_theirs(d->other);
    bool any = false;
    for (int64_t v = 0; v < d->vocab; v++) {
        d->row[v] = their[v] >= 0 ? logits[their[v]] : -INFINITY;
        any |= their[v] >= 0 && (!mask || mask[v >> 5] >> (v & 31) & 1);
    }
    int k = 0; const int32_t *eos = lm_tok_eos(d->target_tok, &k), *ends;           /* ends of a text are one another */
    if (k && eos[0] < d->vocab) {
        int m = 0;
        ends = lm_tok_eos(d->tok, &m);
        for (int q = 0; q < m; q++) if (ends[q] < lm_engine_cfg(d->e)->vocab && logits[ends[q]] > d->row[eos[0]]) { d->row[eos[0]] = logits[ends[q]]; }
        any |= m && (!mask || mask[eos[0] >> 5] >> (eos[0] & 31) & 1);
    }
    c->id = c->own = -1;
    if (!any) return LM_OK;
    LM_TRY(lm_sampler_pick(c->l->sampler, d->row, c->position, &c->id));
    c->own = their[c->id];
    return LM_OK;
}
static lm_err choose(void *ud, int r, int64_t i, const float *logits) {
    choice *c = ud; (void)r; (void)i;
    LM_TRY(draw_one(c, logits));
    /* two models agree far more often than one's probability says: where it is 0.1, about every second time */
    c->sure = c->own >= 0 ? 0.4f + 0.6f * expf(logits[c->own] - lm_row_lse(logits, lm_engine_cfg(c->d->e)->vocab)) : 0.5f;
    return LM_OK;
}
/* The sampler's and the matcher's view of the timeline, which is the model's. */
static lm_err look(line *l, const lm_guess_place *at) {
    int64_t same = 0;
    while (same < (int64_t)l->seen.n && same < at->n && l->seen.id[same] == at->ids[same]) same++;
    l->seen.n = (size_t)same;
    lm_sampler_truncate(l->sampler, same);
    if ((int64_t)l->seen.cap < at->n + LM_GUESSES) {
        const size_t cap = (size_t)(at->n + LM_GUESSES) * 2;
        int32_t *p = lm_realloc(l->seen.ctx, LM_MEM_TOK, l->seen.id, cap * sizeof *p);
        if (!p) return LM_E_NOMEM;
        l->seen.id = p; l->seen.cap = cap;
    }
    for (int64_t i = same; i < at->n; i++) { LM_TRY(lm_sampler_accept(l->sampler, at->ids[i])); l->seen.id[l->seen.n++] = at->ids[i]; }
    if (l->at) lm_matcher_copy(l->at, at->at);
    return LM_OK;
}
static lm_err took(line *l, int32_t id) {
    if (l->at) LM_TRY(lm_matcher_accept(l->at, id));
    LM_TRY(lm_sampler_accept(l->sampler, id));
    l->seen.id[l->seen.n++] = id;
    return LM_OK;
}
static lm_err guess(lm_proposer *p, const lm_guess_place *at, int32_t *out, float *sure, int *n) {
    draft *d = (draft *)p;
    line *l = &d->line[at->line];
    const int32_t *ids = at->ids;
    int64_t all = at->n, steps = at->most;
    if (at->pace) {                                                    /* a copy costs nothing to follow: better than any model's guess while it lasts */
        LM_TRY(lm_proposer_lookup.guess(p, at, out, sure, n));
        if (*n && sure[0] >= LONG_COPY) return LM_OK;
    }
    *n = 0;
    if (at->pace && !lm_pace_more(at->pace, sure, 0, at->most)) return LM_OK;
    d->ids.n = 0; d->text.n = 0;
    if (d->other) {
        const lm_err e = lm_translate(d->other, at->ids, at->n, &d->ids);
        if (e == LM_E_DATA) { lm_error_clear(p->ctx); return LM_OK; }                /* bytes that the draft has no way to write: it says nothing */
        LM_TRY(e);
        ids = d->ids.id; all = (int64_t)d->ids.n;
        if (!all) return LM_OK;
        /* as many of its tokens as that many of the model's are here, and one more, so that the last ends where the model's does */
        if (!d->rows) steps = lm_min64(lm_ceil_div(at->most * all, at->n) + 1, 8 * LM_GUESSES);
    }
    if (all + steps > lm_engine_context(d->e)) return LM_OK;            /* the draft's context is shorter: no guesses from here on */
    const int32_t *held = lm_session_ids(l->s);
    const int64_t len = lm_session_len(l->s);
    int64_t same = 0;
    while (same < len && same < all - 1 && held[same] == ids[same]) same++;                  /* the last is always fed: its logits are wanted */
    LM_TRY(lm_session_truncate(l->s, same));
    LM_TRY(look(l, at));
    ids += same;
    int64_t many = all - same;
    bool ended = false;
    choice c = { d, l, 0, -1, -1, 0 };
    float least = 1;
    for (int64_t k = 0; k < steps && !ended; k++) {
        if (k && at->pace && !lm_pace_more(at->pace, sure, (int)k, at->most)) break;
        if (l->at && lm_matcher_ended(l->at)) return LM_OK;
        c.position = at->position + k;
        const lm_request q = { l->s, ids, many, LM_WANT_LAST };
        LM_TRY(lm_engine_run(d->e, &q, 1, choose, &c));
        if (!d->other || d->rows) {
            if (c.id < 0) return LM_OK;
            sure[*n] = c.sure;
            out[(*n)++] = c.id;
            LM_TRY(took(l, c.id));
            if (c.own < 0) return LM_OK;                               /* an end: nothing of the draft's follows */
        } else {
            if (c.own < 0) break;
            least = fminf(least, c.sure);
            if (k < at->most) sure[k] = c.sure;
            ended = lm_tok_is_eos(d->tok, c.own);
            size_t bytes; const char *piece = lm_tok_piece(d->tok, c.own, &bytes);
            if (!ended && piece) lm_str_add(&d->text, piece, bytes);
        }
        ids = &c.own; many = 1;
    }
    if (!d->other || d->rows) return LM_OK;
    LM_TRY(lm_str_err(&d->text));
    d->ids.n = 0;
    const lm_err e = lm_translate_on(d->other, at->ids, at->n, d->text.p ? d->text.p : "", d->text.n, &d->ids);
    if (e == LM_E_DATA) { lm_error_clear(p->ctx); return LM_OK; }
    LM_TRY(e);
    int k = 0; const int32_t *eos = lm_tok_eos(d->target_tok, &k);
    for (size_t i = 0; i < d->ids.n && *n < at->most; i++) out[(*n)++] = d->ids.id[i];
    if (ended && k && *n < at->most && eos[0] < d->vocab) out[(*n)++] = eos[0];
    for (int i = 0; i < *n; i++) sure[i] = least;                       /* whose token is which is not known */
    return LM_OK;
}
const lm_proposer_row lm_proposer_draft = { .name = "draft", .what = "a small model, which may have another vocabulary", .open = open_draft, .guess = guess,
    .free = close_draft };
