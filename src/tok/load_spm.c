/* load_spm.c — SentencePiece BPE: the .model file, and llama2.c's tokenizer.bin, which is one written out; and the pipelines that loaders share. */
#include "format/llama2c.h"
#include "format/spm.h"
#include "tok/tok_int.h"
#include <math.h>

#define META "\xe2\x96\x81"

lm_err lm_tok_meta_pipeline(lm_tok *t, bool prefix, bool collapse) {
    lm_str s = { .ctx = t->ctx };
    lm_str_puts(&s, "{\"type\":\"Sequence\",\"normalizers\":[");
    if (collapse)
        lm_str_puts(&s, "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"\\\\A +| "
                        "+\\\\z\"},\"content\":\"\"},{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"},");
    if (prefix) lm_str_puts(&s, "{\"type\":\"Prepend\",\"prepend\":\"" META "\"},");
    lm_str_puts(&s, "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"" META "\"}]}");
    const char *dec = prefix ? "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" META
                               "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
                               "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}"
                             : "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" META
                               "\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
                               "{\"type\":\"Fuse\"}]}";
    char *post = NULL;
    lm_err err = lm_str_err(&s);
    if (!err) err = lm_tok_post_template(t, t->bos, -1, &post);
    if (!err) err = lm_tok_set_pipeline(t, s.p, NULL, post, dec);
    lm_free(t->ctx, post);
    lm_str_free(&s);
    return err;
}

lm_err lm_tok_byte_pipeline(lm_tok *t, const lm_split_row *row, bool nfc, const char *post) {
    static const char bytes_dec[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}";
    const char *norm = nfc ? "{\"type\":\"NFC\"}" : NULL;
    if (!strcmp(row->name, "gpt2"))
        return lm_tok_set_pipeline(t, norm, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":true}",
                                   post, bytes_dec);
    lm_str s = { .ctx = t->ctx };
    lm_str_puts(&s, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":");
    lm_str_json(&s, row->pattern, strlen(row->pattern));
    lm_str_puts(&s, "},\"behavior\":\"Isolated\",\"invert\":false},{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":"
                    "false,\"use_regex\":false}]}");
    lm_err err = lm_str_err(&s);
    if (!err) err = lm_tok_set_pipeline(t, norm, s.p, post, bytes_dec);
    lm_str_free(&s);
    return err;
}

static lm_err bytes_complete(lm_tok *t, bool must) {
    LM_TRY(lm_tok_index_text(t));
    bool all = true;
    char s[] = "<0x00>";
    for (int b = 0; b < 256 && all; b++) {
        s[3] = "0123456789ABCDEF"[b >> 4];
        s[4] = "0123456789ABCDEF"[b & 15];
        int32_t id = lm_tok_find_text(t, s, 6);
        all = id >= 0 && t->tok[id].type == LM_TOK_BYTE;
    }
    t->byte_fallback = all;
    return all || !must ? LM_OK : lm_fail(t->ctx, LM_E_FORMAT, "%s: byte_fallback without the byte token %s", t->name, s);
}

/* Is a user-defined piece found before normalization the same as after? Then tokenizer.json can say it. */
static bool same_before(const lm_spm *m, const char *s) {
    return !m->add_dummy_prefix && !m->remove_extra_whitespaces && !strchr(s, ' ') && !strstr(s, META);
}

static lm_err fill(lm_tok *t, const lm_spm *m) {
    for (int i = 0; i < m->n_piece; i++) {
        const lm_spm_piece *p = &m->piece[i];
        if (!isfinite(p->score)) return lm_fail(t->ctx, LM_E_FORMAT, "%s: piece %d has the score %g", t->name, i, (double)p->score);
        size_t n = (size_t)p->n;
        switch (p->type) {
        case LM_SPM_NORMAL: LM_TRY(lm_tok_put(t, i, p->s, n, LM_TOK_NORMAL, true)); break;
        case LM_SPM_BYTE: LM_TRY(lm_tok_put(t, i, p->s, n, LM_TOK_BYTE, false)); break;
        case LM_SPM_UNKNOWN:
            LM_TRY(lm_tok_put(t, i, p->s, n, LM_TOK_UNKNOWN, false));
            LM_TRY(lm_tok_put_added(t, i, p->s, n, LM_ADDED_SPECIAL));
            break;
        case LM_SPM_CONTROL: LM_TRY(lm_tok_put_added(t, i, p->s, n, LM_ADDED_SPECIAL)); break;
        case LM_SPM_USER_DEFINED:
            LM_TRY(lm_tok_put(t, i, p->s, n, LM_TOK_NORMAL, true));
            LM_TRY(lm_tok_put_added(t, i, p->s, n, same_before(m, p->s) ? 0 : LM_ADDED_EXACT));
            break;
        case LM_SPM_UNUSED: return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: piece %d is marked unused; such models are not supported", t->name, i);
        }
        t->tok[i].score = p->score;
        if (p->type == LM_SPM_UNKNOWN) t->unk = i;
    }
    t->bos = m->bos_id;
    t->pad = m->pad_id;
    if (m->eos_id >= 0) LM_TRY(lm_tok_add_eos(t, m->eos_id));
    t->spm = t->fuse_unk = true;
    LM_TRY(bytes_complete(t, m->byte_fallback));
    t->byte_fallback = m->byte_fallback;
    return lm_tok_meta_pipeline(t, m->add_dummy_prefix, m->remove_extra_whitespaces);
}

lm_err lm_tok_load_spm(lm_tok *t, const char *name, const uint8_t *p, size_t n) {
    lm_spm *m;
    LM_TRY(lm_spm_parse(&m, t->ctx, name, p, n));
    lm_err err = LM_OK;
    static const char *const kinds[] = { "?", "Unigram", "BPE", "word", "character" };
    if (m->model_type != LM_SPM_BPE)
        err = lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: a SentencePiece model of type %s; only BPE is supported", name,
                      kinds[m->model_type <= 4 ? m->model_type : 0]);
    else if (m->charsmap_n)
        err = lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: the model normalizes by a table (%.40s), which is not supported; only identity is",
                      name, m->norm_name ? m->norm_name : "unnamed");
    else if (m->whitespace_as_suffix || !m->escape_whitespaces)
        err = lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: only models with escaped white space in front of words are supported", name);
    if (!err) err = fill(t, m);
    lm_spm_free(m);
    return err;
}

static lm_err fill_l2c(lm_tok *t, const lm_l2c_tok *m) {
    lm_str s = { .ctx = t->ctx };
    lm_err err = LM_OK;
    for (int i = 0; i < m->n && !err; i++) {
        const lm_l2c_piece *p = &m->v[i];
        if (p->n < 0 || !isfinite(p->score)) { err = lm_fail(t->ctx, LM_E_FORMAT, "%s: piece %d is malformed", t->name, i); break; }
        int byte = lm_tok_byte_token(p->s, (size_t)p->n);
        if (i == 0) {
            err = lm_tok_put(t, i, "<unk>", 5, LM_TOK_UNKNOWN, false);
            if (!err) err = lm_tok_put_added(t, i, "<unk>", 5, LM_ADDED_SPECIAL);
        }
        else if (i < 3) err = lm_tok_put_added(t, i, i == 1 ? "<s>" : "</s>", i == 1 ? 3 : 4, LM_ADDED_SPECIAL);
        else if (byte == i - 3) err = lm_tok_put(t, i, p->s, (size_t)p->n, LM_TOK_BYTE, false);
        else {
            lm_str_clear(&s);
            for (int k = 0; k < p->n; k++)
                if (p->s[k] == ' ') lm_str_puts(&s, META);
                else lm_str_putc(&s, p->s[k]);
            err = lm_str_err(&s);
            if (!err) err = lm_tok_put(t, i, s.p ? s.p : "", s.n, LM_TOK_NORMAL, true);
        }
        if (!err) t->tok[i].score = p->score;
    }
    lm_str_free(&s);
    LM_TRY(err);
    t->unk = 0;
    t->spm = t->fuse_unk = true;
    if (m->n > 1) t->bos = 1;
    if (m->n > 2) LM_TRY(lm_tok_add_eos(t, 2));
    LM_TRY(bytes_complete(t, false));
    return lm_tok_meta_pipeline(t, true, false);
}

lm_err lm_tok_load_llama2c(lm_tok *t, const char *name, const uint8_t *p, size_t n) {
    lm_l2c_tok m;
    LM_TRY(lm_l2c_tok_parse(t->ctx, name, p, n, 0, &m));
    lm_err err = fill_l2c(t, &m);
    lm_l2c_tok_free(t->ctx, &m);
    return err;
}
