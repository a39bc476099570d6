/* generate.c — timelines side by side. */
#include <math.h>
#include <string.h>
#include "infer/generate.h"
#include "op/xent/xent.h"

const char *lm_stop_name(lm_stop_reason r) { return r == LM_STOP_LENGTH ? "length" : r == LM_STOP_CANCELLED ? "cancelled" : "stop"; }
typedef struct {
    lm_session *s; lm_sampler *sampler; lm_tok_stream stream; lm_str text; size_t sent;   /* text[0..sent) was streamed */
    bool done; int32_t next;
    lm_matcher *match; int32_t *ids;                                   /* with a grammar; with a proposer: prompt and text, then guesses */
    lm_pace pace; int made, n_guess, came; float sure[LM_GUESSES]; double guess_s;       /* guesses made, and the first of them that are computed */
} line;
typedef struct {
    lm_engine *e; const lm_tok *tok; const lm_generate_opts *o; lm_generation *g; lm_ctx *ctx;
    line *l; int *of;
    lm_near *near;                                                     /* NULL where logits are wanted */
    bool greedy, *was_done;                                            /* the largest logit is all that is asked for; who had ended before a call */
    int64_t n_prompt, base;                                            /* base: tokens before the text, the session's too */
} job;

/* The length of text up to a stop string, or -1; *safe: how much can be streamed because no stop string can begin in it. */
static int64_t find_stop(const job *j, const line *l, size_t *safe) {
    int64_t at = -1;
    *safe = l->text.n;
    for (int k = 0; k < j->o->n_stop; k++) {
        size_t m = strlen(j->o->stop[k]);
        if (!m) continue;
        size_t from = l->sent;
        for (size_t i = from; i < l->text.n; i++) {
            size_t left = l->text.n - i, c = left < m ? left : m;
            if (memcmp(l->text.p + i, j->o->stop[k], c)) continue;
            if (c == m) { if (at < 0 || (int64_t)i < at) at = (int64_t)i; break; }
            if (i < *safe) *safe = i;
            break;
        }
    }
    return at;
}
static lm_err send(job *j, int i, size_t upto) {
    line *l = &j->l[i];
    if (upto <= l->sent) return LM_OK;
    int cancel = j->o->text ? j->o->text(j->o->ud, i, l->text.p + l->sent, upto - l->sent) : 0;
    l->sent = upto;
    if (cancel) { l->done = true; j->g->out[i].why = LM_STOP_CANCELLED; }
    return LM_OK;
}
/* logits NULL: peak has what the sampler wants to know. */
static lm_err take(job *j, int i, const lm_peak_row *peak, const float *logits) {
    line *l = &j->l[i];
    lm_generated *out = &j->g->out[i];
    int32_t id; size_t n;
    int64_t V = lm_engine_cfg(j->e)->vocab;
    if (l->match) {
        const uint32_t *mask;
        LM_TRY(lm_matcher_mask(l->match, &mask));
        lm_sampler_allow(l->sampler, mask);
    }
    LM_TRY(logits ? lm_sampler_pick(l->sampler, logits, out->n, &id) : lm_sampler_pick_near(l->sampler, peak, out->n, &id));
    LM_TRY(lm_sampler_accept(l->sampler, id));
    if (l->match) LM_TRY(lm_matcher_accept(l->match, id));
    bool eos = !j->o->ignore_eos && lm_tok_is_eos(j->tok, id);
    for (int k = 0; k < j->o->n_end && !j->o->ignore_eos; k++) eos |= id == j->o->end[k];
    for (int k = 0; k < lm_engine_cfg(j->e)->n_eos && !j->o->ignore_eos; k++) eos |= id == lm_engine_cfg(j->e)->eos[k];
    if (j->o->want_logprobs) {
        float lse = lm_row_lse(logits, V);
        out->logprobs[out->n] = logits[id] - lse;
        int32_t *top = out->top_id + out->n * j->o->top_logprobs;
        if (j->o->top_logprobs) lm_top(logits, V, j->o->top_logprobs, top);
        for (int k = 0; k < j->o->top_logprobs; k++) out->top_lp[out->n * j->o->top_logprobs + k] = logits[top[k]] - lse;
    }
    out->tokens[out->n++] = id;
    l->next = id;
    if (eos) {
        l->done = true;
        out->why = LM_STOP_EOS;
    } else if (lm_tok_piece(j->tok, id, &n))
        LM_TRY(lm_tok_stream_push(&l->stream, id, &l->text)); /* embeddings are padded: such a row is a token with no text */
    if (l->match && lm_matcher_ended(l->match)) { l->done = true; out->why = LM_STOP_EOS; }
    size_t safe;
    int64_t stop = find_stop(j, l, &safe);
    if (stop >= 0) { l->text.n = (size_t)stop; l->text.p[stop] = 0; l->done = true; out->why = LM_STOP_STRING; return send(j, i, (size_t)stop); }
    LM_TRY(send(j, i, safe));
    if (!l->done && out->n == j->o->max_tokens) { l->done = true; out->why = LM_STOP_LENGTH; }
    if (l->done && out->why != LM_STOP_CANCELLED) { LM_TRY(lm_tok_stream_flush(&l->stream, &l->text)); LM_TRY(send(j, i, l->text.n)); }
    return LM_OK;
}
static lm_err first_row(void *ud, int r, const lm_peak_row *peak, const float *logits) {
    job *j = ud; (void)r;
    for (int i = 0; i < j->o->n; i++) LM_TRY(take(j, i, peak, logits));
    return LM_OK;
}
static lm_err row(void *ud, int r, const lm_peak_row *peak, const float *logits) { job *j = ud; return take(j, j->of[r], peak, logits); }
static lm_err prepare(job *j, const int32_t *prompt) {
    const lm_generate_opts *o = j->o;
    lm_arena *a = j->g->a;
    int64_t m = o->max_tokens;
    if (!(j->g->out = lm_arena_alloc(a, (size_t)o->n * sizeof *j->g->out)) || !(j->l = lm_arena_alloc(a, (size_t)o->n * sizeof *j->l)) ||
        !(j->of = lm_arena_alloc(a, (size_t)o->n * sizeof *j->of)))
        return LM_E_NOMEM;
    for (int i = 0; i < o->n; i++) {
        lm_generated *g = &j->g->out[i];
        g->tokens = lm_arena_alloc(a, (size_t)m * sizeof *g->tokens);
        g->logprobs = o->want_logprobs ? lm_arena_alloc(a, (size_t)m * sizeof *g->logprobs) : NULL;
        g->top_id = lm_arena_alloc(a, (size_t)(m * o->top_logprobs + 1) * sizeof *g->top_id);
        g->top_lp = lm_arena_alloc(a, (size_t)(m * o->top_logprobs + 1) * sizeof *g->top_lp);
        if (!g->tokens || (o->want_logprobs && !g->logprobs) || !g->top_id || !g->top_lp) return LM_E_NOMEM;
        lm_sample_opts so = o->sample;
        so.stream = (uint64_t)i;
        LM_TRY(lm_sampler_new(&j->l[i].sampler, j->ctx, lm_engine_cfg(j->e)->vocab, &so));
        const int64_t before = o->session ? lm_session_len(o->session) : 0;
        for (int64_t k = 0; k < before; k++) LM_TRY(lm_sampler_accept(j->l[i].sampler, lm_session_ids(o->session)[k]));
        for (int64_t k = 0; k < j->n_prompt; k++) LM_TRY(lm_sampler_accept(j->l[i].sampler, prompt[k]));
        j->l[i].stream = lm_tok_stream_begin(j->tok, o->control ? LM_TOK_SPECIAL : 0);
        j->l[i].stream.begun = before || j->n_prompt > 1 || prompt[0] != lm_tok_bos(j->tok);      /* the text goes on: no first-word rules */
        j->l[i].text.ctx = j->ctx;
        if (o->masker) {
            LM_TRY(lm_matcher_new(&j->l[i].match, o->masker));
            j->l[i].stream.begun = true;                               /* what the grammar sees is what is written */
        }
        if (o->proposer) {
            j->l[i].ids = lm_arena_alloc(a, (size_t)(j->base + m + LM_GUESSES + 1) * sizeof *prompt);
            if (!j->l[i].ids) return LM_E_NOMEM;
            if (before) memcpy(j->l[i].ids, lm_session_ids(o->session), (size_t)before * sizeof *prompt);
            memcpy(j->l[i].ids + before, prompt, (size_t)j->n_prompt * sizeof *prompt);
        }
    }
    lm_near near;                                                      /* all samplers are alike but for their streams */
    if (o->want_logprobs || o->masker || o->proposer || !lm_sampler_near(j->l[0].sampler, &near.t, &near.gap)) return LM_OK;
    if (!(j->near = lm_arena_alloc(a, (size_t)o->n * sizeof *j->near))) return LM_E_NOMEM;
    for (int i = 0; i < o->n; i++) j->near[i] = near;
    j->greedy = near.t == 0 && near.gap == 0;
    return (j->was_done = lm_arena_alloc(a, (size_t)o->n * sizeof *j->was_done)) ? LM_OK : LM_E_NOMEM;
}
/* ---- with guesses: a request is the last token and what may follow it; rows come in order ---- */
static lm_err guess(job *j, int i) {
    line *l = &j->l[i];
    const lm_generated *out = &j->g->out[i];
    const int64_t n = j->base + out->n, left = j->o->max_tokens - out->n - 1, room = lm_engine_context(j->e) - lm_session_len(l->s) - 1;
    const int most = (int)lm_min64(lm_min64(left, room), j->o->guesses ? j->o->guesses : 8);
    l->ids[n - 1] = l->next;
    l->made = l->came = 0;
    const lm_guess_place at = { i, l->ids, n, out->n, l->match, most, j->o->guess_always ? NULL : &l->pace };
    const double t = lm_now();
    if (most > 0) LM_TRY(j->o->proposer->row->guess(j->o->proposer, &at, l->ids + n, l->sure, &l->made));
    l->guess_s = lm_now() - t;
    l->n_guess = j->o->guess_always ? l->made : lm_pace_feed(&l->pace, l->sure, l->made);
    return LM_OK;
}
static lm_err guessed_row(void *ud, int r, int64_t at, const float *logits) {
    job *j = ud;
    line *l = &j->l[j->of[r]];
    const int64_t n = j->base + j->g->out[j->of[r]].n;
    if (l->done || at != l->came) return LM_OK;                        /* behind a guess that did not come true */
    const int32_t guess = at < l->made ? l->ids[n] : -1;               /* the one behind those computed is judged too */
    LM_TRY(take(j, j->of[r], NULL, logits));
    if (at < l->made) lm_pace_judged(&l->pace, l->sure[at], l->next == guess);
    l->came += at < l->n_guess && l->next == guess;
    return LM_OK;
}
static lm_err decode_guessed(job *j, lm_request *req) {
    for (;;) {
        int n = 0;
        const bool cancel = j->o->cancel && *j->o->cancel;
        for (int i = 0; i < j->o->n; i++) {
            line *l = &j->l[i];
            if (l->done) continue;
            if (cancel) { l->done = true; j->g->out[i].why = LM_STOP_CANCELLED; continue; }
            LM_TRY(guess(j, i));
            j->of[n] = i;
            req[n++] = (lm_request){ l->s, l->ids + j->base + j->g->out[i].n - 1, 1 + l->n_guess, LM_WANT_ALL };
        }
        if (!n) return LM_OK;
        const double t = lm_now();
        LM_TRY(lm_engine_run(j->e, req, n, guessed_row, j));
        const double s = (lm_now() - t) / n;
        for (int r = 0; r < n; r++) {
            line *l = &j->l[j->of[r]];
            lm_generated *out = &j->g->out[j->of[r]];
            LM_TRY(lm_session_truncate(l->s, j->base + out->n - 1));       /* all but the last token, which is fed next */
            lm_pace_saw(&l->pace, l->n_guess, s, l->made, l->guess_s);
            out->runs++; out->drafted += l->n_guess; out->kept += l->came;
            j->g->drafted += l->n_guess; j->g->kept += l->came;
        }
    }
}
/* May the device go on with its own choices? */
static bool going(void *ud) {
    const job *j = ud;
    bool on = !(j->o->cancel && *j->o->cancel);
    for (int i = 0; i < j->o->n; i++) on &= !j->l[i].done || j->was_done[i];
    return on;
}
static lm_err decode(job *j, lm_request *req) {
    if (j->o->proposer) return decode_guessed(j, req);
    for (;;) {
        int n = 0;
        bool cancel = j->o->cancel && *j->o->cancel;
        for (int i = 0; i < j->o->n; i++) {
            if (j->l[i].done) continue;
            if (cancel) { j->l[i].done = true; j->g->out[i].why = LM_STOP_CANCELLED; continue; }
            j->of[n] = i;
            req[n++] = (lm_request){ j->l[i].s, &j->l[i].next, 1, LM_WANT_LAST };
        }
        if (!n) return LM_OK;
        if (j->greedy && lm_engine_ahead(j->e, n)) {
            for (int i = 0; i < j->o->n; i++) j->was_done[i] = j->l[i].done;
            LM_TRY(lm_engine_greedy(j->e, req, n, j->o->max_tokens - j->g->out[j->of[0]].n, row, going, j));
        } else LM_TRY(lm_engine_choose(j->e, req, n, j->near, row, j));
    }
}

static lm_err generate(lm_engine *e, const lm_tok *tok, const int32_t *prompt, int64_t n_prompt, const lm_generate_opts *o, lm_generation *g) {
    lm_ctx *ctx = lm_engine_ctx(e);
    if (n_prompt < 1) return lm_fail(ctx, LM_E_CONFIG, "the prompt is empty and the model has no token that begins a text");
    if (o->max_tokens < 1 || o->n < 1) return lm_fail(ctx, LM_E_CONFIG, "max_tokens and n must be at least 1");
    const int64_t before = o->session ? lm_session_len(o->session) : 0;
    if (o->session && o->n != 1) return lm_fail(ctx, LM_E_CONFIG, "one text goes on with a session, not %d", o->n);
    if (before + n_prompt + o->max_tokens - 1 > lm_engine_context(e))
        return lm_fail(ctx, LM_E_RANGE,
                       "the prompt has %lld tokens and %lld more are asked for: together they do not fit the context of %lld",
                       (long long)(before + n_prompt), (long long)o->max_tokens, (long long)lm_engine_context(e));
    if ((o->proposer || o->lookup) && (lm_engine_opts_of(e)->dev || lm_engine_cfg(e)->rope.scaling == LM_ROPE_DYNAMIC))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "speculation is for the CPU and for models without dynamic rope scaling: elsewhere a token's bits depend on those computed beside it");
    if (o->masker && lm_masker_vocab(o->masker) != lm_engine_cfg(e)->vocab)
        return lm_fail(ctx, LM_E_MISMATCH, "the grammar is over %lld tokens, the model has %lld", (long long)lm_masker_vocab(o->masker), (long long)lm_engine_cfg(e)->vocab);
    if (o->masker && o->ignore_eos) return lm_fail(ctx, LM_E_CONFIG, "ignore_eos and a grammar exclude each other: the grammar says where the text ends");
    memset(g, 0, sizeof *g);
    job j = { .e = e, .tok = tok, .o = o, .g = g, .ctx = ctx, .n_prompt = n_prompt, .base = before + n_prompt };
    lm_err err;
    LM_TRY(lm_arena_new(&g->a, ctx, LM_MEM_MISC, 0));
    g->n = o->n; g->prompt_tokens = n_prompt;
    LM_GOTO(prepare(&j, prompt), done);
    double t0 = lm_now();
    if (o->session) j.l[0].s = o->session; else LM_GOTO(lm_session_new(&j.l[0].s, e), done);
    const lm_request first = { j.l[0].s, prompt, n_prompt, LM_WANT_LAST };
    LM_GOTO(lm_engine_choose(e, &first, 1, j.near, first_row, &j), done);
    for (int i = 1; i < o->n; i++) LM_GOTO(lm_session_fork(j.l[0].s, &j.l[i].s), done);
    g->prefill_s = lm_now() - t0;
    t0 = lm_now();
    lm_request *req = lm_arena_alloc(g->a, (size_t)o->n * sizeof *req);
    err = req ? decode(&j, req) : LM_E_NOMEM;
    g->decode_s = lm_now() - t0;
    for (int i = 0; i < o->n && !err; i++) {
        g->out[i].text_bytes = j.l[i].text.n;
        g->out[i].text = lm_arena_alloc(g->a, j.l[i].text.n + 1);
        if (!g->out[i].text) err = LM_E_NOMEM;
        else if (j.l[i].text.n) memcpy(g->out[i].text, j.l[i].text.p, j.l[i].text.n);
        if (!err) err = lm_str_err(&j.l[i].text);
    }
done:
    for (int i = 0; j.l && i < o->n; i++) { if (!o->session) lm_session_free(j.l[i].s); lm_sampler_free(j.l[i].sampler); lm_matcher_free(j.l[i].match);
        lm_str_free(&j.l[i].text); }
    if (err) lm_generation_free(g);
    return err;
}
lm_err lm_generate(lm_engine *e, const lm_tok *tok, const int32_t *prompt, int64_t n_prompt, const lm_generate_opts *o, lm_generation *g) {
    if (!o->lookup || o->proposer) return generate(e, tok, prompt, n_prompt, o, g);
    lm_generate_opts with = *o;
    LM_TRY(lm_proposer_open(&with.proposer, lm_engine_ctx(e), "lookup", &(lm_proposer_opts){ .lines = o->n, .sample = o->sample, .masker = o->masker,
        .target = e, .tok = tok }));
    const lm_err err = generate(e, tok, prompt, n_prompt, &with, g);
    lm_proposer_free(with.proposer);
    return err;
}
void lm_generation_free(lm_generation *g) { lm_arena_free(g->a); memset(g, 0, sizeof *g); }
