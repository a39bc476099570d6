/* chat.c — see chat.h. */
#include <string.h>
#include "chat/chat_int.h"

lm_err lm_chat_new(lm_chat **out, lm_engine *e, const lm_tok *tok, const lm_chat_format *f) {
    lm_ctx *ctx = lm_engine_ctx(e);
    lm_chat *c = lm_calloc(ctx, LM_MEM_KV, 1, sizeof *c);
    if (!c) return LM_E_NOMEM;
    *c = (lm_chat){ .ctx = ctx, .e = e, .tok = tok, .f = f, .messages = json_array(), .vars = json_object() };
    const lm_err err = c->messages && c->vars ? lm_session_new(&c->s, e) : LM_E_NOMEM;
    if (err) { lm_chat_free(c); return err; }
    *out = c;
    return LM_OK;
}
void lm_chat_free(lm_chat *c) {
    if (!c) return;
    lm_session_free(c->s);
    json_decref(c->messages); json_decref(c->vars);
    lm_free(c->ctx, c);
}
const json_t *lm_chat_messages(const lm_chat *c) { return c->messages; }
static const char *role_of(const lm_chat *c, size_t i) {
    const char *r = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
    return r ? r : "";
}
static size_t n_system(const lm_chat *c) { return json_array_size(c->messages) && !strcmp(role_of(c, 0), "system"); }
static json_t *message(lm_chat *c, const char *role, const char *text, size_t n) {
    json_t *m = json_object(), *t = json_stringn(text, n);
    if (!m) { json_decref(t); lm_fail(c->ctx, LM_E_NOMEM, "out of memory: a message of %zu bytes", n); return NULL; }
    if (!t) { json_decref(m); lm_fail(c->ctx, LM_E_DATA, "a message is not UTF-8"); return NULL; }
    json_object_set_new(m, "role", json_string(role)); json_object_set_new(m, "content", t);
    return m;
}
lm_err lm_chat_system(lm_chat *c, const char *text, size_t n) {
    const size_t has = n_system(c);
    if (!n) {
        if (has) json_array_remove(c->messages, 0);
        if (has && c->from) c->from--;
        return LM_OK;
    }
    json_t *m = message(c, "system", text, n);
    if (!m) return LM_E_DATA;
    if (has ? json_array_set_new(c->messages, 0, m) : json_array_insert_new(c->messages, 0, m)) return LM_E_NOMEM;
    if (!has && c->from) c->from++;
    return LM_OK;
}
lm_err lm_chat_say(lm_chat *c, const char *role, const char *text, size_t n) {
    json_t *m = message(c, role, text, n);
    if (!m) return LM_E_DATA;
    return json_array_append_new(c->messages, m) ? LM_E_NOMEM : LM_OK;
}
lm_err lm_chat_set(lm_chat *c, const char *name, json_t *value) {
    if (!value) { json_object_del(c->vars, name); return LM_OK; }
    return json_object_set_new(c->vars, name, value) ? lm_fail(c->ctx, LM_E_DATA, "the variable %.60s cannot be set", name) : LM_OK;
}
bool lm_chat_undo(lm_chat *c, bool answer_only) {
    size_t n = json_array_size(c->messages), i = n;
    while (i > n_system(c) && strcmp(role_of(c, i - 1), "user")) i--;
    if (i <= n_system(c)) return false;
    if (answer_only && i == n) return true;                              /* there is no answer yet */
    lm_chat_keep(c, answer_only ? i : i - 1);
    return true;
}
void lm_chat_keep(lm_chat *c, size_t keep) {
    for (size_t n = json_array_size(c->messages); n > keep; n--) json_array_remove(c->messages, n - 1);
    if (c->from >= json_array_size(c->messages)) c->from = 0;
}
void lm_chat_clear(lm_chat *c) { lm_chat_keep(c, n_system(c)); c->from = 0; }

/* ---- what is sent ---- */
static lm_err ids_from(lm_chat *c, size_t from, lm_tok_buf *ids, lm_str *text) {
    const size_t sys = n_system(c), n = json_array_size(c->messages);
    json_t *m = json_array();
    if (!m) return LM_E_NOMEM;
    lm_err err = LM_OK;
    for (size_t i = 0; i < n && !err; i++)
        if ((i < sys || i >= from) && json_array_append(m, json_array_get(c->messages, i))) err = LM_E_NOMEM;
    ids->n = 0;
    lm_str_clear(text);
    if (!err) err = lm_chat_render(c->f, c->ctx, m, c->vars, true, ids, text);
    json_decref(m);
    return err;
}
/* Leave out whole exchanges, oldest first, until the rest and room for an answer fit. */
static lm_err fit(lm_chat *c, const lm_chat_opts *o, lm_tok_buf *ids, lm_str *text, size_t *from) {
    const int64_t context = lm_engine_context(c->e), want = o->max_tokens ? o->max_tokens : context;
    const int64_t room = lm_min64(want, lm_max64(1, context / 4));       /* an answer may be shorter than asked for, but not a stub */
    const size_t n = json_array_size(c->messages);
    *from = c->from > n_system(c) ? c->from : n_system(c);
    for (;;) {
        LM_TRY(ids_from(c, *from, ids, text));
        if ((int64_t)ids->n + room <= context) return LM_OK;
        size_t next = *from + 1;
        while (next < n && strcmp(role_of(c, next), "user")) next++;
        if (next >= n)
            return lm_fail(c->ctx, LM_E_RANGE,
                "the last message with what goes with it has %zu tokens: with %lld for an answer that does not fit the context of %lld", ids->n,
                           (long long)room, (long long)context);
        *from = next;
    }
}
lm_err lm_chat_count(lm_chat *c, int64_t *n) {
    lm_tok_buf ids = { .ctx = c->ctx };
    lm_str text = { .ctx = c->ctx };
    const lm_err err = ids_from(c, c->from, &ids, &text);
    if (!err) *n = (int64_t)ids.n;
    lm_tok_buf_free(&ids); lm_str_free(&text);
    return err;
}

/* ---- answers ---- */
static int on_text(void *ud, int i, const char *p, size_t n) { (void)i; return lm_chat_split(ud, p, n); }
static lm_err keep_answer(lm_chat *c, const lm_chat_splitter *s) {
    json_t *m = message(c, "assistant", s->part[LM_CHAT_ANSWER].n ? s->part[LM_CHAT_ANSWER].p : "", s->part[LM_CHAT_ANSWER].n);
    if (!m) return LM_E_DATA;
    const lm_str *r = &s->part[LM_CHAT_REASONING];
    size_t n = r->n;
    while (n && (r->p[n - 1] == '\n' || r->p[n - 1] == ' ')) n--;
    if (n) json_object_set_new(m, "reasoning_content", json_stringn(r->p, n));
    return json_array_append_new(c->messages, m) ? LM_E_NOMEM : LM_OK;
}
static bool ends_with(const lm_str *text, const char *tag) {
    size_t n = text->n;
    while (n && (text->p[n - 1] == '\n' || text->p[n - 1] == ' ')) n--;
    return tag && n >= strlen(tag) && !memcmp(text->p + n - strlen(tag), tag, strlen(tag));
}
/* A long prompt piece by piece, so that it can be interrupted and told of; the last piece is left to lm_generate. Pieces change no bit, but where
 * the longest position of a call decides about rope. */
static lm_err read_prompt(lm_chat *c, const lm_chat_opts *o, const lm_tok_buf *ids, int64_t *from) {
    enum { PIECE = 256 };
    if (lm_engine_cfg(c->e)->rope.scaling == LM_ROPE_DYNAMIC) return LM_OK;
    const int64_t first = *from;
    while ((int64_t)ids->n - *from > PIECE) {
        if (o->cancel && *o->cancel) return lm_fail(c->ctx, LM_E_CANCELLED, "interrupted while the messages were being read");
        const lm_request r = { c->s, ids->id + *from, PIECE, LM_WANT_NONE };
        LM_TRY(lm_engine_run(c->e, &r, 1, NULL, NULL));
        *from += PIECE;
        if (o->reading) o->reading(o->ud, *from - first, (int64_t)ids->n - first);
    }
    return LM_OK;
}
lm_err lm_chat_answer(lm_chat *c, const lm_chat_opts *o, lm_chat_turn *turn) {
    lm_tok_buf ids = { .ctx = c->ctx };
    lm_str text = { .ctx = c->ctx };
    lm_chat_splitter s = { .text = o->text, .ud = o->ud, .held.ctx = c->ctx, .part = { { .ctx = c->ctx }, { .ctx = c->ctx } } };
    lm_generation g = { 0 };
    size_t from;
    lm_err err;
    LM_GOTO(fit(c, o, &ids, &text, &from), done);
    if (!ids.n) { err = lm_fail(c->ctx, LM_E_CONFIG, "the template writes nothing for this conversation"); goto done; }
    const size_t was = c->from > n_system(c) ? c->from : n_system(c);
    if (from > was && o->dropped) o->dropped(o->ud, (int64_t)(from - was), json_array_get(c->messages, was));
    int64_t same = 0;
    while (same < lm_session_len(c->s) && same + 1 < (int64_t)ids.n && lm_session_ids(c->s)[same] == ids.id[same]) same++;
    LM_GOTO(lm_session_truncate(c->s, same), done);
    int64_t at = same;
    const double t0 = lm_now();
    LM_GOTO(read_prompt(c, o, &ids, &at), done);
    const double read_s = lm_now() - t0;
    s.open = lm_chat_think(c->f, &s.close);
    s.thinking = ends_with(&text, s.open);
    int n_end; const int32_t *end = lm_chat_ends(c->f, &n_end);
    const int64_t left = lm_engine_context(c->e) - (int64_t)ids.n;
    const lm_generate_opts go = { .max_tokens = o->max_tokens ? lm_min64(o->max_tokens, left) : left,
                                  .n = 1,
                                  .sample = o->sample,
                                  .stop = o->stop,
                                  .n_stop = o->n_stop,
                                  .text = on_text,
                                  .ud = &s,
                                  .cancel = o->cancel,
                                  .session = c->s,
                                  .end = end,
                                  .n_end = n_end,
                                  .control = true,
                                  .lookup = o->lookup };
    LM_GOTO(lm_generate(c->e, c->tok, ids.id + at, (int64_t)ids.n - at, &go, &g), done);
    lm_chat_split_end(&s);
    LM_GOTO(lm_str_err(&s.held), done);
    LM_GOTO(lm_str_err(&s.part[0]), done);
    LM_GOTO(lm_str_err(&s.part[1]), done);
    LM_GOTO(keep_answer(c, &s), done);
    *turn = (lm_chat_turn){ .why = g.out[0].why,
                            .prompt = (int64_t)ids.n,
                            .reused = same,
                            .tokens = g.out[0].n,
                            .drafted = g.drafted,
                            .kept = g.kept,
                            .dropped = (int64_t)(from - n_system(c)),
                            .prefill_s = read_s + g.prefill_s,
                            .decode_s = g.decode_s };
    c->from = from;
done:
    if (g.a) lm_generation_free(&g);
    lm_tok_buf_free(&ids); lm_str_free(&text); lm_chat_split_free(&s);
    return err;
}
