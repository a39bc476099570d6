/* save.c — tokenizer.json and tokenizer_config.json, as Hugging Face's libraries read them. */
#include "base/file.h"
#include "format/cursor.h"
#include "tok/tok_int.h"
#include <stdlib.h>

static lm_err text_json(lm_ctx *ctx, const lm_tok *t, int32_t id, lm_str *s) {
    size_t n;
    const char *p = lm_tok_text_of(t, id, &n);
    if (!lm_utf8_ok(p, n)) return lm_fail(ctx, LM_E_UNSUPPORTED, "%s: token %d is not UTF-8 and cannot be written as JSON", t->name, id);
    lm_str_json(s, p, n);
    return LM_OK;
}

static const char *yes(bool b) { return b ? "true" : "false"; }
static int by_id(const void *a, const void *b) { return *(const int32_t *)a < *(const int32_t *)b ? -1 : 1; }

/* Readers number added tokens on from the vocabulary's size, whatever id the file states, unless they are in the vocabulary. */
static bool added_follow(const lm_tok *t) {
    int32_t n = 0;
    for (int32_t id = 0; id < t->n_vocab; id++) n += t->tok[id].type != LM_TOK_NONE && (t->tok[id].model || !t->tok[id].added);
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (t->tok[id].added && !t->tok[id].model && id != n++) return false;
    return true;
}

static lm_err added(lm_ctx *ctx, const lm_tok *t, lm_str *s) {
    int32_t *id = lm_alloc(ctx, LM_MEM_TOK, ((size_t)t->n_added + 1) * sizeof *id);
    if (!id) return LM_E_NOMEM;
    for (int32_t i = 0; i < t->n_added; i++) id[i] = t->added[i].id;
    qsort(id, (size_t)t->n_added, sizeof *id, by_id);
    lm_err err = LM_OK;
    for (int32_t i = 0; i < t->n_added && !err; i++) {
        uint32_t f = t->added[t->tok[id[i]].added - 1].flags;
        if (f & LM_ADDED_EXACT) {
            err =
                lm_fail(ctx, LM_E_UNSUPPORTED,
                        "%s: token %d is a user-defined piece that is looked for after normalization, which tokenizer.json cannot express",
                        t->name, id[i]);
            break;
        }
        lm_str_printf(s, "%s\n    {\"id\": %d, \"content\": ", i ? "," : "", id[i]);
        err = text_json(ctx, t, id[i], s);
        lm_str_printf(s, ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}", yes(f & LM_ADDED_SINGLE_WORD),
                      yes(f & LM_ADDED_LSTRIP), yes(f & LM_ADDED_RSTRIP), yes(f & LM_ADDED_NORMALIZED), yes(f & LM_ADDED_SPECIAL));
    }
    lm_free(ctx, id);
    return err;
}

lm_err lm_tok_to_json(lm_ctx *ctx, const lm_tok *t, lm_str *s) {
    lm_str_puts(s, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": [");
    LM_TRY(added(ctx, t, s));
    lm_str_printf(s, "\n  ],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": %s,\n  \"post_processor\": %s,\n  \"decoder\": %s,\n",
        t->json_norm, t->json_pre, t->json_post, t->json_dec);
    if (t->wp_prefix) {
        lm_str_printf(s, "  \"model\": {\n    \"type\": \"WordPiece\",\n    \"max_input_chars_per_word\": %d,\n    \"continuing_subword_prefix\": ", t->wp_max_chars);
        lm_str_json(s, t->wp_prefix, strlen(t->wp_prefix));
        lm_str_puts(s, ",\n    \"unk_token\": ");
    } else lm_str_puts(s, "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": ");
    if (t->unk >= 0) LM_TRY(text_json(ctx, t, t->unk, s));
    else lm_str_puts(s, "null");
    if (t->wp_prefix) lm_str_puts(s, ",\n    \"vocab\": {");
    else lm_str_printf(s,
                  ",\n    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n    \"fuse_unk\": %s,\n    "
                  "\"byte_fallback\": %s,\n    \"ignore_merges\": %s,\n    \"vocab\": {",
                  yes(t->fuse_unk), yes(t->byte_fallback), yes(t->ignore_merges));
    const char *sep = "";
    bool all = !added_follow(t);
    for (int32_t id = 0; id < t->n_vocab; id++) {
        const lm_tok_one *o = &t->tok[id];
        if (o->type == LM_TOK_NONE || (o->added && !o->model && !all)) continue;
        lm_str_printf(s, "%s\n      ", sep);
        LM_TRY(text_json(ctx, t, id, s));
        lm_str_printf(s, ": %d", id);
        sep = ",";
    }
    if (t->wp_prefix) { lm_str_puts(s, "\n    }\n  }\n}\n"); return lm_str_err(s); }
    lm_str_puts(s, "\n    },\n    \"merges\": [");
    for (size_t i = 0; i < t->n_merge; i++) {
        const lm_tok_merge *m = &t->merge[i];
        if (m->left >= t->n_vocab || m->right >= t->n_vocab)
            return lm_fail(ctx, LM_E_UNSUPPORTED,
                           "%s: token %d is made of characters that are no tokens, which tokenizer.json cannot express", t->name, m->id);
        lm_str_puts(s, i ? ",\n      [" : "\n      [");
        LM_TRY(text_json(ctx, t, m->left, s));
        lm_str_puts(s, ", ");
        LM_TRY(text_json(ctx, t, m->right, s));
        lm_str_putc(s, ']');
    }
    lm_str_puts(s, "\n    ]\n  }\n}\n");
    return lm_str_err(s);
}

static lm_err config(lm_ctx *ctx, const lm_tok *t, lm_str *s) {
    const struct {
        const char *key;
        int32_t id;
    } ends[] = { { "bos_token", t->bos }, { "eos_token", t->n_eos ? t->eos[0] : -1 }, { "pad_token", t->pad }, { "unk_token", t->unk } };
    lm_str_printf(s, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n  \"clean_up_tokenization_spaces\": false,\n  \"add_bos_token\": %s",
        yes(lm_tok_adds_bos(t)));
    for (int i = 0; i < LM_COUNT(ends); i++) {
        lm_str_printf(s, ",\n  \"%s\": ", ends[i].key);
        if (ends[i].id >= 0) LM_TRY(text_json(ctx, t, ends[i].id, s));
        else lm_str_puts(s, "null");
    }
    if (t->chat) {
        lm_str_puts(s, ",\n  \"chat_template\": ");
        lm_str_json(s, t->chat, strlen(t->chat));
    }
    lm_str_puts(s, "\n}\n");
    return lm_str_err(s);
}

lm_err lm_tok_save(lm_ctx *ctx, const lm_tok *t, const char *dir) {
    LM_TRY(lm_dir_make(ctx, dir));
    lm_err err = LM_OK;
    for (int i = 0; i < 2 && !err; i++) {
        lm_str s = { .ctx = ctx };
        char *path = NULL;
        err = i ? config(ctx, t, &s) : lm_tok_to_json(ctx, t, &s);
        if (!err) err = lm_path_join(ctx, &path, dir, i ? "tokenizer_config.json" : "tokenizer.json");
        if (!err) err = lm_file_write_atomic(ctx, path, s.p, s.n);
        lm_free(ctx, path);
        lm_str_free(&s);
    }
    return err;
}
