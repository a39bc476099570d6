/* save_gguf.c — a tokenizer as GGUF metadata: "llama" for character models (tokens, scores, types), "gpt2" for byte-level ones (tokens,
 * types, merges and the name of the word pattern).
 *
 * GGUF names a word pattern, it does not state it; a pattern without a name is refused, because any other gives ids that look right. A
 * character model's merges are written as scores: minus the rank of the first merge that makes a token, which is what SentencePiece's
 * training gives. */
#include "format/gguf.h"
#include "tok/tok_int.h"
#include <stdio.h>

/* What splits words before the bytes step, as far as GGUF has names for it. */
static const char *pattern_name(const lm_tok *t) {
    lm_split_fn *word = NULL;
    bool digits = false, nfc = t->n_norm == 1 && t->norm[0].kind == LM_NORM_NFC;
    if (t->n_norm > 1 || (t->n_norm && !nfc)) return NULL;
    for (int i = 0; i < t->n_pre; i++) {
        const lm_tok_pre *p = &t->pre[i];
        if (p->kind == LM_PRE_BYTES && p->prefix) return NULL;
        if (p->kind == LM_PRE_BYTES && !p->fn) continue;
        if (p->kind == LM_PRE_DIGITS && p->how == LM_SPLIT_ISOLATED && !word && !digits) { digits = true; continue; }
        if ((p->kind != LM_PRE_KNOWN && p->kind != LM_PRE_BYTES) || word) return NULL;
        if (p->kind == LM_PRE_KNOWN && (p->how != LM_SPLIT_ISOLATED || p->invert)) return NULL;
        word = p->fn;
    }
    const struct { const char *split; bool digits, nfc, whole; const char *name;
    } known[] = { { "gpt2", false, false, false, "gpt-2" },      { "gpt2", true, false, false, "smollm" },
                  { "gpt2", false, true, false, "olmo" },        { "gpt2", true, true, false, "command-r" },
                  { "llama3", false, false, true, "llama-bpe" }, { "llama3", false, false, false, "smaug-bpe" },
                  { "cl100k", false, false, false, "dbrx" },     { "qwen2", false, true, false, "qwen2" },
                  { "qwen2", false, false, false, "stablelm2" }, { "o200k", false, false, false, "gpt-4o" } };
    for (int i = 0; word && i < LM_COUNT(known); i++) {
        const lm_split_row *r = lm_split_by_name(known[i].split);
        if (r && r->fn == word && known[i].digits == digits && known[i].nfc == nfc && known[i].whole == t->ignore_merges) return known[i].name;
    }
    return NULL;
}
typedef struct { const char **text; size_t *len; int32_t *type; float *score; int64_t n; lm_arena *a; } columns;
static lm_err fill(lm_ctx *ctx, const lm_tok *t, columns *c) {
    static const int32_t type_of[] = { [LM_TOK_NONE] = 5, [LM_TOK_NORMAL] = 1,  [LM_TOK_CONTROL] = 3, [LM_TOK_ADDED] = 4,
                                       [LM_TOK_BYTE] = 6, [LM_TOK_UNKNOWN] = 2, [LM_TOK_UNUSED] = 5 };
    if (!(c->text = lm_arena_alloc(c->a, (size_t)c->n * sizeof *c->text)) ||
        !(c->len = lm_arena_alloc(c->a, (size_t)c->n * sizeof *c->len)) ||
        !(c->type = lm_arena_alloc(c->a, (size_t)c->n * sizeof *c->type)) ||
        !(c->score = lm_arena_alloc(c->a, (size_t)c->n * sizeof *c->score)))
        return LM_E_NOMEM;
    for (int64_t i = 0; i < c->n; i++) {
        lm_tok_type k = i < t->n_vocab ? (lm_tok_type)t->tok[i].type : LM_TOK_NONE;
        c->type[i] = type_of[k];
        c->score[i] = t->spm && i < t->n_vocab ? t->tok[i].score : k == LM_TOK_NORMAL && !t->byte_level ? -1e9f : 0.0f;
        if (k != LM_TOK_NONE) { c->text[i] = lm_tok_text_of(t, (int32_t)i, &c->len[i]); continue; }
        char *pad = lm_arena_printf(c->a, "[PAD%lld]", (long long)i);       /* rows of the embedding that no id of the tokenizer has */
        if (!pad) return LM_E_NOMEM;
        c->text[i] = pad; c->len[i] = strlen(pad);
    }
    if (!t->spm && !t->byte_level)
        for (size_t k = t->n_merge; k-- > 0;) if (t->merge[k].id < t->n_vocab) c->score[t->merge[k].id] = -(float)t->merge[k].rank;
    (void)ctx;
    return LM_OK;
}
static lm_err put_merges(lm_ctx *ctx, const lm_tok *t, lm_gguf_writer *w, lm_arena *a) {
    const char **m = lm_arena_alloc(a, (t->n_merge + 1) * sizeof *m);
    size_t *len = lm_arena_alloc(a, (t->n_merge + 1) * sizeof *len);
    if (!m || !len) return LM_E_NOMEM;
    for (size_t i = 0; i < t->n_merge; i++) {
        const lm_tok_merge *x = &t->merge[i];
        if (x->left >= t->n_vocab || x->right >= t->n_vocab)
            return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: token %d is made of characters that are no tokens, which GGUF cannot express",
                           t->name, x->id);
        size_t ln, rn;
        const char *l = lm_tok_text_of(t, x->left, &ln), *r = lm_tok_text_of(t, x->right, &rn);
        char *s = lm_arena_alloc(a, ln + rn + 2);
        if (!s) return LM_E_NOMEM;
        memcpy(s, l, ln); s[ln] = ' '; memcpy(s + ln + 1, r, rn);
        m[i] = s; len[i] = ln + rn + 1;
    }
    return lm_gguf_put_arr_str(w, "tokenizer.ggml.merges", m, len, (int64_t)t->n_merge);
}
/* "bert" says nothing of the pipeline: its readers lower letters and strip accents. */
static lm_err put_wordpiece(lm_ctx *ctx, const lm_tok *t, lm_gguf_writer *w, int64_t vocab, lm_arena *a) {
    bool low = false, unmark = false;
    for (int i = 0; i < t->n_norm; i++) { low |= t->norm[i].kind == LM_NORM_LOWER; unmark |= t->norm[i].kind == LM_NORM_UNMARK; }
    if (!low || !unmark || strcmp(t->wp_prefix, "##"))
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: a GGUF file of a WordPiece tokenizer means lower case without accents, and \"##\"", t->name);
    columns c = { .n = vocab > t->n_vocab ? vocab : t->n_vocab, .a = a };
    LM_TRY(fill(ctx, t, &c));
    for (int64_t i = 0; i < c.n; i++) {
        if (c.type[i] != 1) continue;
        if (c.len[i] > 2 && !memcmp(c.text[i], "##", 2)) { c.text[i] += 2; c.len[i] -= 2; continue; }
        char *s = lm_arena_alloc(a, c.len[i] + 3);
        if (!s) return LM_E_NOMEM;
        memcpy(s, "\xe2\x96\x81", 3); memcpy(s + 3, c.text[i], c.len[i]);
        c.text[i] = s; c.len[i] += 3;
    }
    LM_TRY(lm_gguf_put_str(w, "tokenizer.ggml.model", "bert", 4));
    LM_TRY(lm_gguf_put_str(w, "tokenizer.ggml.pre", "default", 7));
    LM_TRY(lm_gguf_put_arr_str(w, "tokenizer.ggml.tokens", c.text, c.len, c.n));
    LM_TRY(lm_gguf_put_arr(w, "tokenizer.ggml.token_type", LM_GGUF_I32, c.type, c.n));
    const struct { const char *key, *text; } ids[] = { { "bos", "[CLS]" },      { "cls", "[CLS]" },  { "eos", "[SEP]" },     { "seperator", "[SEP]" },
                                                       { "unknown", "[UNK]" },  { "mask", "[MASK]" }, { "padding", "[PAD]" } };
    for (int i = 0; i < LM_COUNT(ids); i++) {
        char key[64];
        const int32_t id = lm_tok_find_text(t, ids[i].text, strlen(ids[i].text));
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", ids[i].key);
        if (id >= 0) LM_TRY(lm_gguf_put_u32(w, key, (uint32_t)id));
    }
    return LM_OK;
}
static lm_err put(lm_ctx *ctx, const lm_tok *t, lm_gguf_writer *w, int64_t vocab, lm_arena *a) {
    const char *model = t->byte_level ? "gpt2" : "llama", *pre = t->byte_level ? pattern_name(t) : "default";
    if (!pre) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: GGUF has no name for the way this tokenizer splits words", t->name);
    if (t->wp_prefix) return put_wordpiece(ctx, t, w, vocab, a);
    if (!t->byte_level && !t->byte_fallback)
        return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: GGUF wants byte tokens (<0x00> to <0xFF>) of a character model", t->name);
    columns c = { .n = vocab > t->n_vocab ? vocab : t->n_vocab, .a = a };
    LM_TRY(fill(ctx, t, &c));
    LM_TRY(lm_gguf_put_str(w, "tokenizer.ggml.model", model, strlen(model)));
    LM_TRY(lm_gguf_put_str(w, "tokenizer.ggml.pre", pre, strlen(pre)));
    LM_TRY(lm_gguf_put_arr_str(w, "tokenizer.ggml.tokens", c.text, c.len, c.n));
    LM_TRY(lm_gguf_put_arr(w, "tokenizer.ggml.token_type", LM_GGUF_I32, c.type, c.n));
    if (t->byte_level) LM_TRY(put_merges(ctx, t, w, a));
    else {
        bool prefix = false, collapse = false;
        for (int i = 0; i < t->n_norm; i++) {
            prefix |= t->norm[i].kind == LM_NORM_PREPEND;
            collapse |= t->norm[i].kind == LM_NORM_REPLACE && t->norm[i].re;
        }
        for (int i = 0; i < t->n_pre; i++) prefix |= t->pre[i].kind == LM_PRE_META && t->pre[i].prefix;
        LM_TRY(lm_gguf_put_arr(w, "tokenizer.ggml.scores", LM_GGUF_F32, c.score, c.n));
        LM_TRY(lm_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", prefix));
        LM_TRY(lm_gguf_put_bool(w, "tokenizer.ggml.remove_extra_whitespaces", collapse));
    }
    const struct {
        const char *key;
        int32_t id;
    } ids[] = { { "tokenizer.ggml.bos_token_id", t->bos },
                { "tokenizer.ggml.eos_token_id", t->n_eos ? t->eos[0] : -1 },
                { "tokenizer.ggml.eot_token_id", t->n_eos > 1 ? t->eos[1] : -1 },
                { "tokenizer.ggml.unknown_token_id", t->unk },
                { "tokenizer.ggml.padding_token_id", t->pad } };
    for (int i = 0; i < LM_COUNT(ids); i++) if (ids[i].id >= 0) LM_TRY(lm_gguf_put_u32(w, ids[i].key, (uint32_t)ids[i].id));
    LM_TRY(lm_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", lm_tok_adds_bos(t)));
    LM_TRY(lm_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", t->n_suffix > 0));
    return t->chat ? lm_gguf_put_str(w, "tokenizer.chat_template", t->chat, strlen(t->chat)) : LM_OK;
}
lm_err lm_tok_put_gguf(lm_ctx *ctx, const lm_tok *t, lm_gguf_writer *w, int64_t vocab) {
    lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_TOK, (size_t)1 << 18));
    lm_err err = put(ctx, t, w, vocab, a);
    lm_arena_free(a);
    return err;
}
