/* format.c — see format.h. */
#define _GNU_SOURCE 1                                               /* memmem */
#include <string.h>
#include "chat/format.h"
#include "format/cursor.h"

struct lm_chat_format {
    lm_ctx *ctx; lm_jinja *t; const lm_tok *tok;
    uint8_t *id;                                                     /* bits: added tokens that the template writes */
    int32_t end[4]; int n_end;
    const char *open, *close;
};

static bool trusted(void *ud, const char *var, const json_t *m, const char *key) {
    (void)ud;
    if (!m) return strcmp(var, "messages") && strcmp(var, "tools") && strcmp(var, "documents");
    const char *role = json_string_value(json_object_get(m, "role"));
    return !strcmp(key, "role") || (role && !strcmp(role, "assistant"));
}
static bool visible(const char *p, size_t n) { for (size_t i = 0; i < n; i++) if ((unsigned char)p[i] > ' ') return true; return false; }
static lm_err find_added(lm_chat_format *f, const char *src, size_t n) {
    const int32_t V = lm_tok_vocab(f->tok);
    if (!(f->id = lm_calloc(f->ctx, LM_MEM_TOK, (size_t)V / 8 + 1, 1))) return LM_E_NOMEM;
    for (int32_t i = 0; i < V; i++) {
        size_t k;
        const char *p = lm_tok_type_of(f->tok, i) == LM_TOK_ADDED ? lm_tok_piece(f->tok, i, &k) : NULL;
        if (p && k && visible(p, k) && memmem(src, n, p, k)) f->id[i / 8] |= (uint8_t)(1 << i % 8);
    }
    return LM_OK;
}
/* The control token behind an answer, found by rendering one. A template that refuses the sample has none to tell of. */
static void find_end(lm_chat_format *f) {
    static const char mark[] = "q7f3k9";
    json_t *m = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "a", "role", "assistant", "content", mark);
    lm_str text = { .ctx = f->ctx };
    lm_tok_buf ids = { .ctx = f->ctx };
    if (m && !lm_chat_render(f, f->ctx, m, NULL, false, &ids, &text) && text.n) {
        const char *p = memmem(text.p, text.n, mark, sizeof mark - 1), *end = text.p + text.n;
        if (p) p += sizeof mark - 1;
        while (p && p < end && (*p == ' ' || *p == '\n')) p++;
        int32_t best = -1; size_t len = 0;
        for (int32_t i = 0; p && i < lm_tok_vocab(f->tok); i++) {
            size_t k;
            const char *s = lm_tok_type_of(f->tok, i) == LM_TOK_CONTROL ? lm_tok_piece(f->tok, i, &k) : NULL;
            if (s && k > len && k <= (size_t)(end - p) && !memcmp(s, p, k)) { best = i; len = k; }
        }
        if (best >= 0) f->end[f->n_end++] = best;
    }
    lm_str_free(&text); lm_tok_buf_free(&ids); json_decref(m);
}
lm_err lm_chat_format_new(lm_chat_format **out, lm_ctx *ctx, const lm_tok *tok, const char *name, const char *text, size_t n) {
    static const char *const think[][2] = { { "<think>", "</think>" }, { "[THINK]", "[/THINK]" }, { "<seed:think>", "</seed:think>" },
        { "<|START_THINKING|>", "<|END_THINKING|>" } };
    if (!text) {
        text = lm_tok_template(tok);
        if (!text)
            return lm_fail(ctx, LM_E_UNSUPPORTED,
                           "%s has no chat template (chat_template in tokenizer_config.json, chat_template.jinja, tokenizer.chat_template in GGUF), so how it is "
                           "spoken to is not known",
                           name);
        n = strlen(text);
    }
    lm_chat_format *f = lm_calloc(ctx, LM_MEM_TOK, 1, sizeof *f);
    if (!f) return LM_E_NOMEM;
    f->ctx = ctx; f->tok = tok;
    lm_err err;
    LM_GOTO(lm_jinja_compile(&f->t, ctx, name, text, n), fail);
    LM_GOTO(find_added(f, text, n), fail);
    for (int i = 0; i < LM_COUNT(think) && !f->open; i++)
        if (memmem(text, n, think[i][1], strlen(think[i][1])) || lm_tok_id(tok, think[i][1], strlen(think[i][1])) >= 0) {
            f->open = think[i][0]; f->close = think[i][1];
        }
    find_end(f);
    *out = f;
    return LM_OK;
fail:
    lm_chat_format_free(f);
    return err;
}
void lm_chat_format_free(lm_chat_format *f) {
    if (!f) return;
    lm_jinja_free(f->t); lm_free(f->ctx, f->id); lm_free(f->ctx, f);
}
const int32_t *lm_chat_ends(const lm_chat_format *f, int *n) { *n = f->n_end; return f->end; }
const char *lm_chat_think(const lm_chat_format *f, const char **close) { *close = f->close; return f->open; }

/* A role stands between control tokens and is trusted: it must be a word. */
static lm_err check(lm_ctx *ctx, const json_t *messages) {
    if (!json_is_array(messages)) return lm_fail(ctx, LM_E_CONFIG, "messages: wanted an array");
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        if (!role || !*role) return lm_fail(ctx, LM_E_CONFIG, "messages/%zu: wanted an object with a role", i);
        if (strlen(role) > 64 || strspn(role, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != strlen(role))
            return lm_fail(ctx, LM_E_CONFIG, "messages/%zu/role: \"%.60s\" is not a word", i, role);
    }
    return LM_OK;
}
static void put_token(json_t *vars, const lm_tok *tok, const char *name, int32_t id) {
    size_t n;
    const char *p = id >= 0 ? lm_tok_piece(tok, id, &n) : NULL;
    if (p && !json_object_get(vars, name)) json_object_set_new(vars, name, json_stringn(p, n));
}
lm_err lm_chat_render(const lm_chat_format *f, lm_ctx *ctx, const json_t *messages, const json_t *more, bool prompt, lm_tok_buf *ids, lm_str *text) {
    LM_TRY(check(ctx, messages));
    json_t *vars = json_object();
    lm_jinja_result r = { 0 };
    lm_err err = LM_E_NOMEM;
    int n; const int32_t *eos = lm_tok_eos(f->tok, &n);
    if (!vars || (more && json_object_update(vars, (json_t *)(uintptr_t)more)) || json_object_set(vars, "messages", (json_t *)(uintptr_t)messages) ||
        json_object_set_new(vars, "add_generation_prompt", json_boolean(prompt)))
        goto done;
    put_token(vars, f->tok, "bos_token", lm_tok_bos(f->tok)); put_token(vars, f->tok, "eos_token", n ? eos[0] : -1);
    put_token(vars, f->tok, "pad_token", lm_tok_pad(f->tok)); put_token(vars, f->tok, "unk_token", lm_tok_unk(f->tok));
    LM_GOTO(lm_jinja_render(f->t, ctx, vars, trusted, NULL, NULL, &r), done);
    const lm_tok_guard g = { r.marks.n ? (const uint8_t *)r.marks.p : (const uint8_t *)"", f->id };
    LM_GOTO(lm_tok_encode_guarded(f->tok, r.text.n ? r.text.p : "", r.text.n, &g, LM_TOK_SPECIAL, ids), done);
    if (text) { lm_str_add(text, r.text.n ? r.text.p : "", r.text.n); err = lm_str_err(text); }
done:
    json_decref(vars);
    lm_jinja_result_free(ctx, &r);
    return err;
}
