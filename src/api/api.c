/* api.c — loam.h over the rooms: no logic of its own. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "api/api_int.h"
#include "device/cpu.h"
#include "quant/quant.h"

#define X(name, text) _Static_assert((int)LOAM_##name == (int)LM_##name, "the public error numbers are the internal ones");
LM_ERR_MAP(X)
#undef X
/* A field that an older caller's struct does not have counts as absent. */
#define HAS(o, field) ((o) && (o)->size >= offsetof(__typeof__(*(o)), field) + sizeof((o)->field))


const char *loam_version(void) { return LOAM_VERSION; }
static void on_log(void *ud, lm_level level, const char *room, const char *msg) { loam_context *c = ud; c->log(c->user, (int)level, room, msg); }
int loam_context_new(loam_context **out, const loam_context_options *o) {
    loam_context *c = calloc(1, sizeof *c);
    if (!c) return LOAM_E_NOMEM;
    lm_ctx_opts co = {0};
    if (HAS(o, threads)) co.n_threads = o->threads;
    if (HAS(o, isa) && o->isa && !(co.isa_mask = lm_cpu_mask_of(o->isa))) { free(c); return LOAM_E_CONFIG; }
    if (HAS(o, user) && o->log) { c->log = o->log; c->user = o->user; co.log = on_log; co.log_ud = c; }
    lm_err e = lm_ctx_new(&c->ctx, &co);
    if (e) { free(c); return (int)e; }
    *out = c;
    return LOAM_OK;
}
void loam_context_free(loam_context *c) { if (c) { lm_ctx_free(c->ctx); free(c); } }
const char *loam_error(const loam_context *c) { return c ? lm_error(c->ctx) : "no context"; }

/* ---- tokenizers ---- */
int loam_tokenizer_open(loam_tokenizer **out, loam_context *c, const char *path) {
    loam_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return LOAM_E_NOMEM;
    t->ctx = c->ctx;
    lm_err e = lm_tok_open_beside(c->ctx, path, &t->tok);
    if (e) { free(t); return (int)e; }
    *out = t;
    return LOAM_OK;
}
void loam_tokenizer_free(loam_tokenizer *t) { if (t) { lm_tok_free(t->tok); free(t); } }
int loam_encode(const loam_tokenizer *t, const char *text, size_t bytes, int flags, int32_t *ids, size_t *n) {
    lm_tok_buf b = { .ctx = t->ctx };
    lm_err e = lm_tok_encode(t->tok, text, bytes, (unsigned)flags, &b);
    if (!e && ids) {
        if (b.n > *n) e = lm_fail(t->ctx, LM_E_RANGE, "the text has %zu tokens, there is room for %zu", b.n, *n);
        else if (b.n) memcpy(ids, b.id, b.n * sizeof *ids);
    }
    if (!e || e == LM_E_RANGE) *n = b.n;
    lm_tok_buf_free(&b);
    return (int)e;
}
int loam_decode(const loam_tokenizer *t, const int32_t *ids, size_t n, int flags, char *text, size_t *bytes) {
    lm_str s = { .ctx = t->ctx };
    lm_err e = lm_tok_decode(t->tok, ids, n, (unsigned)flags & LM_TOK_SPECIAL, &s);
    if (!e) e = lm_str_err(&s);
    if (!e && text) {
        if (s.n + 1 > *bytes) e = lm_fail(t->ctx, LM_E_RANGE, "the text has %zu bytes, there is room for %zu with the NUL", s.n, *bytes);
        else { if (s.n) memcpy(text, s.p, s.n); text[s.n] = 0; }
    }
    if (!e || e == LM_E_RANGE) *bytes = s.n;
    lm_str_free(&s);
    return (int)e;
}

const char *loam_token_text(const loam_tokenizer *t, int32_t id, size_t *bytes) { return lm_tok_piece(t->tok, id, bytes); }
_Static_assert((int)LOAM_ADD == (int)LM_TOK_ADD && (int)LOAM_SPECIAL == (int)LM_TOK_SPECIAL && (int)LOAM_RAW == (int)LM_TOK_RAW,
               "the public flags are the internal ones");

/* ---- models ---- */
int loam_model_open(loam_model **out, loam_context *c, const char *path, const loam_model_options *o) {
    loam_model *m = calloc(1, sizeof *m);
    if (!m) return LOAM_E_NOMEM;
    m->ctx = m->tok.ctx = c->ctx;
    lm_api_model_opts k = { .dtype = HAS(o, dtype) ? o->dtype : NULL,
                            .context = HAS(o, context) ? o->context : 0,
                            .max_seqs = HAS(o, sessions) ? o->sessions : 0,
                            .kv = HAS(o, kv) ? o->kv : NULL,
                            .load = HAS(o, load) ? o->load : NULL,
                            .chunk = HAS(o, chunk) ? o->chunk : 0,
                            .rows = HAS(o, logits_rows) ? o->logits_rows : 0,
                            .memory = HAS(o, memory) ? o->memory : 0,
                            .deterministic = HAS(o, deterministic) && o->deterministic,
                            .no_tok = HAS(o, no_tokenizer) && o->no_tokenizer };
    const char *device = HAS(o, device) ? o->device : NULL;
    lm_err e = device && strcmp(device, "cpu") ? lm_dev_open(&m->dev, c->ctx, device) : LM_OK;
    k.dev = m->dev;
    if (!e) e = lm_api_open(c->ctx, path, &k, &m->w, &m->store, &m->e, &m->tok.tok);
    if (e) { lm_dev_close(m->dev); free(m); return (int)e; }
    *out = m;
    return LOAM_OK;
}
void loam_model_free(loam_model *m) {
    if (!m) return;
    lm_trie_free(m->trie); lm_engine_free(m->e); lm_store_free(m->store); lm_tok_free(m->tok.tok); lm_weights_close(m->w); lm_dev_close(m->dev);
    free(m);
}
int64_t loam_model_vocab(const loam_model *m) { return lm_engine_cfg(m->e)->vocab; }
int64_t loam_model_context(const loam_model *m) { return lm_engine_context(m->e); }
const loam_tokenizer *loam_model_tokenizer(const loam_model *m) { return m->tok.tok ? &m->tok : NULL; }

/* ---- sessions ---- */
static int wrap(loam_model *m, lm_session *s, loam_session **out) {
    loam_session *w = calloc(1, sizeof *w);
    if (!w) { lm_session_free(s); return LOAM_E_NOMEM; }
    w->m = m; w->s = s; *out = w;
    return LOAM_OK;
}
int loam_session_new(loam_session **out, loam_model *m) {
    lm_session *s;
    lm_err e = lm_session_new(&s, m->e);
    return e ? (int)e : wrap(m, s, out);
}
void loam_session_free(loam_session *s) { if (s) { lm_session_free(s->s); free(s); } }
int64_t loam_session_length(const loam_session *s) { return lm_session_len(s->s); }
typedef struct { float *logits; int64_t vocab; } want;
static lm_err row(void *ud, int r, int64_t i, const float *logits) {
    want *w = ud; (void)r; (void)i;
    memcpy(w->logits, logits, (size_t)w->vocab * sizeof(float));
    return LM_OK;
}
int loam_session_extend(loam_session *s, const int32_t *ids, size_t n, float *logits) {
    want w = { logits, loam_model_vocab(s->m) };
    const lm_request q = { s->s, ids, (int64_t)n, logits ? LM_WANT_LAST : LM_WANT_NONE };
    return (int)lm_engine_run(s->m->e, &q, 1, logits ? row : NULL, &w);
}
static lm_err all_rows(void *ud, int r, int64_t i, const float *logits) {
    want *w = ud; (void)r;
    memcpy(w->logits + i * w->vocab, logits, (size_t)w->vocab * sizeof(float));
    return LM_OK;
}
int loam_session_logits(loam_session *s, const int32_t *ids, size_t n, float *logits) {
    want w = { logits, loam_model_vocab(s->m) };
    const lm_request q = { s->s, ids, (int64_t)n, LM_WANT_ALL };
    return (int)lm_engine_run(s->m->e, &q, 1, all_rows, &w);
}
int loam_session_fork(loam_session **out, const loam_session *s) {
    lm_session *f;
    lm_err e = lm_session_fork(s->s, &f);
    return e ? (int)e : wrap(s->m, f, out);
}
int loam_session_truncate(loam_session *s, int64_t n) { return (int)lm_session_truncate(s->s, n); }
int loam_session_save(const loam_session *s, const char *path) { return (int)lm_session_save(s->s, path); }
int loam_session_load(loam_session **out, loam_model *m, const char *path) {
    lm_session *s;
    lm_err e = lm_session_load(&s, m->e, path);
    return e ? (int)e : wrap(m, s, out);
}
int loam_session_score(loam_session *s, const int32_t *ids, size_t n, float *logprobs) {
    return (int)lm_engine_score(s->m->e, s->s, ids, (int64_t)n, logprobs);
}

/* ---- grammars ---- */
int loam_grammar_new(loam_grammar **out, loam_model *m, const char *kind, const char *name, const char *text, size_t bytes) {
    if (!m->tok.tok) return (int)lm_fail(m->ctx, LM_E_CONFIG, "the model was opened without its tokenizer, which a grammar needs");
    loam_grammar *g = calloc(1, sizeof *g);
    if (!g) return LOAM_E_NOMEM;
    g->m = m;
    lm_err e = lm_grammar_new(&g->g, m->ctx, kind, name, text, bytes);
    if (!e && !m->trie) e = lm_generate_trie(&m->trie, m->e, m->tok.tok);
    if (!e) e = lm_masker_new(&g->masker, m->ctx, g->g, m->trie);
    if (e) { loam_grammar_free(g); return (int)e; }
    *out = g;
    return LOAM_OK;
}
void loam_grammar_free(loam_grammar *g) { if (g) { lm_masker_free(g->masker); lm_grammar_free(g->g); free(g); } }

/* ---- writing ---- */
/* Tokens that end a repetition for DRY: with a line's end, a colon, a quotation mark or a star in them, as elsewhere. */
static lm_err dry_breaks(const loam_model *m, uint32_t **out) {
    const int64_t v = loam_model_vocab(m);
    uint32_t *bits = lm_calloc(m->ctx, LM_MEM_MISC, (size_t)(v + 31) / 32, 4);
    if (!bits) return LM_E_NOMEM;
    for (int32_t i = 0; i < v && i < lm_tok_vocab(m->tok.tok); i++) {
        size_t n = 0;
        const char *p = lm_tok_piece(m->tok.tok, i, &n);
        for (size_t k = 0; p && k < n; k++) if (strchr("\n:\"*", p[k]) && p[k]) { bits[i >> 5] |= 1u << (i & 31); break; }
    }
    *out = bits;
    return LM_OK;
}
static void *copy(const void *p, size_t n) { void *q = malloc(n + 1); if (q) { if (n) memcpy(q, p, n); ((char *)q)[n] = 0; } return q; }
static int take(const lm_generation *g, int i, int top, loam_text *t) {
    const lm_generated *o = &g->out[i];
    const size_t n = (size_t)o->n;
    *t = (loam_text){ .text = copy(o->text, o->text_bytes),
                      .bytes = o->text_bytes,
                      .tokens = copy(o->tokens, n * sizeof *o->tokens),
                      .n_tokens = n,
                      .finish = lm_stop_name(o->why),
                      .n_top = top,
                      .prompt_tokens = g->prompt_tokens,
                      .prefill_seconds = g->prefill_s,
                      .decode_seconds = g->decode_s,
                      .runs = o->runs,
                      .drafted = o->drafted,
                      .kept = o->kept };
    if (o->logprobs) t->logprobs = copy(o->logprobs, n * sizeof *o->logprobs);
    if (top) {
        t->top_tokens = copy(o->top_id, n * (size_t)top * sizeof *o->top_id);
        t->top_logprobs = copy(o->top_lp, n * (size_t)top * sizeof *o->top_lp);
    }
    return !t->text || !t->tokens || (o->logprobs && !t->logprobs) || (top && (!t->top_tokens || !t->top_logprobs)) ? LOAM_E_NOMEM : LOAM_OK;
}
int loam_generate(loam_model *m, const char *prompt, size_t bytes, const loam_generate_options *opts, loam_text *texts) {
    loam_generate_options o = LOAM_GENERATE_DEFAULTS;
    if (opts) memcpy(&o, opts, opts->size < sizeof o ? opts->size : sizeof o);
    if (!m->tok.tok) return (int)lm_fail(m->ctx, LM_E_CONFIG, "the model was opened without its tokenizer, which writing needs");
    lm_tok_buf ids = { .ctx = m->ctx };
    lm_generation g;
    uint32_t *breaks = NULL;
    if (o.grammar && o.grammar->m != m) return (int)lm_fail(m->ctx, LM_E_MISMATCH, "the grammar was made for another model");
    if (o.draft && !o.draft->tok.tok) return (int)lm_fail(m->ctx, LM_E_CONFIG, "the draft model was opened without its tokenizer");
    if (o.draft_tokens < 0 || o.draft_tokens > LM_GUESSES) return (int)lm_fail(m->ctx, LM_E_CONFIG, "draft_tokens is %d; it must be 0 to %d", o.draft_tokens, LM_GUESSES);
    lm_err e = lm_prompt_ids(m->ctx, m->tok.tok, prompt, bytes, &ids);
    if (!e && o.dry_multiplier > 0) e = dry_breaks(m, &breaks);
    lm_generate_opts go = { .max_tokens = o.max_tokens,
                                  .n = o.n ? o.n : 1,
                                  .ignore_eos = o.ignore_eos,
                                  .want_logprobs = o.logprobs > 0,
                                  .top_logprobs = o.logprobs > 0 ? o.logprobs - 1 : 0,
                                  .stop = o.stop,
                                  .n_stop = o.n_stop,
                                  .text = o.on_text,
                                  .ud = o.user,
                                  .cancel = o.cancel,
                                  .sample = { .temperature = o.temperature,
                                              .top_p = o.top_p,
                                              .min_p = o.min_p,
                                              .repetition = o.repetition_penalty,
                                              .presence = o.presence_penalty,
                                              .frequency = o.frequency_penalty,
                                              .top_k = o.top_k,
                                              .penalty_window = o.penalty_window,
                                              .seed = o.seed,
                                              .bias_id = o.bias_ids,
                                              .bias = o.biases,
                                              .n_bias = o.n_bias,
                                              .typical = o.typical_p,
                                              .xtc_probability = o.xtc_probability,
                                              .xtc_threshold = o.xtc_threshold,
                                              .dry = o.dry_multiplier,
                                              .dry_base = o.dry_base,
                                              .dry_length = o.dry_length,
                                              .dry_break = breaks },
                                  .masker = o.grammar ? o.grammar->masker : NULL,
                                  .guesses = o.draft_tokens };
    if (!e && (o.speculate || o.draft)) {
        const lm_proposer_opts po = { .lines = go.n,
                                      .sample = go.sample,
                                      .masker = go.masker,
                                      .target = m->e,
                                      .tok = m->tok.tok,
                                      .draft = o.draft ? o.draft->e : NULL,
                                      .draft_tok = o.draft ? o.draft->tok.tok : NULL };
        e = lm_proposer_open(&go.proposer, m->ctx, o.speculate ? o.speculate : "draft", &po);
    }
    if (!e) e = lm_generate(m->e, m->tok.tok, ids.id, (int64_t)ids.n, &go, &g);
    lm_proposer_free(go.proposer); lm_free(m->ctx, breaks);
    lm_tok_buf_free(&ids);
    if (e) return (int)e;
    int err = LOAM_OK;
    for (int i = 0; texts && i < g.n; i++) { int k = take(&g, i, go.top_logprobs, &texts[i]); if (k) err = k; }
    for (int i = 0; err && i < g.n; i++) loam_text_free(&texts[i]);
    lm_generation_free(&g);
    return err;
}
void loam_text_free(loam_text *t) {
    if (t) {
        free(t->text);
        free(t->tokens);
        free(t->logprobs);
        free(t->top_tokens);
        free(t->top_logprobs);
        memset(t, 0, sizeof *t);
    }
}

/* ---- training ---- */
typedef struct { const loam_train_options *o; double val; } watch;
static void on_event(void *ud, const lm_run_event *e) {
    watch *w = ud;
    if (!HAS(w->o, user) || !w->o->on_event || (e->kind != LM_RUN_STEP && e->kind != LM_RUN_VAL)) return;
    const loam_train_event v = { .size = sizeof v,
                                 .step = e->step,
                                 .steps = e->steps,
                                 .loss = e->loss,
                                 .val_loss = e->kind == LM_RUN_VAL ? e->val_loss : NAN,
                                 .tokens_per_second = e->tok_s,
                                 .eta_seconds = e->eta_s,
                                 .memory = e->rss };
    w->o->on_event(w->o->user, &v);
}
int loam_train(loam_context *c, const char *config, const char *const *settings, int n, const loam_train_options *o) {
    lm_arena *a;
    lm_err e = lm_arena_new(&a, c->ctx, LM_MEM_MISC, 0);
    if (e) return (int)e;
    lm_run_cfg cfg;
    e = lm_run_config(c->ctx, a, config, settings, n, &cfg);
    watch w = { o, NAN };
    const lm_run_opts ro = {
        .resume = HAS(o, resume) && o->resume, .event = on_event, .ud = &w, .stop = HAS(o, stop) ? o->stop : NULL, .sample = lm_api_sample
    };
    if (!e) e = lm_train_run(c->ctx, &cfg, &ro);
    lm_arena_free(a);
    return (int)e;
}
