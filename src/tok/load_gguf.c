/* load_gguf.c — the tokenizer in a GGUF file: "llama" is SentencePiece BPE, "gpt2" byte-level BPE whose pre-tokenizer has a name.
 *
 * A row per name: the patterns that the original tokenizer.json states, one after the other, each cutting what the ones before left. Names that
 * are not here are refused: a wrong pattern gives ids that look right. */
#include "format/gguf.h"
#include "tok/tok_int.h"
#include <math.h>

enum { NFC = 1, WHOLE = 2 /* a word that is a token is taken whole */, BOS = 4 };
typedef struct { const char *names; const char *patterns[6]; unsigned flags; } pre_row;   /* names: separated by blanks */
#define KNOWN(name) "=" name                               /* a pattern of split.c */
#define HAN_AND_HANGUL "[\xe4\xb8\x80-\xe9\xbe\xa5\xe0\xa0\x80-\xe4\xb8\x80\xea\xb0\x80-\xed\x9f\xbf]+"
#define CASED "A-Za-z\\u00b5\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u01ba\\u01bc-\\u01bf\\u01c4-\\u0293\\u0295-\\u02af\\u0370-\\u0373\\u0376\\u0377\\u037b-\\u037d\\u037f" \
    "\\u0386\\u0388-\\u038a\\u038c\\u038e-\\u03a1\\u03a3-\\u03f5\\u03f7-\\u0481\\u048a-\\u052f\\u0531-\\u0556\\u10a0-\\u10c5\\u13a0-\\u13f5\\u13f8-\\u13fd\\u1c90-\\u1cba" \
    "\\u1cbd-\\u1cbf\\u1d00-\\u1d2b\\u1d6b-\\u1d77\\u1d79-\\u1d9a\\u1e00-\\u1f15\\u1f18-\\u1f1d\\u1f20-\\u1f45\\u1f48-\\u1f4d\\u1f50-\\u1f57\\u1f59\\u1f5b\\u1f5d\\u1f5f-\\u1f7d" \
    "\\u1f80-\\u1fb4\\u1fb6-\\u1fbc\\u1fbe\\u1fc2-\\u1fc4\\u1fc6-\\u1fcc\\u1fd0-\\u1fd3\\u1fd6-\\u1fdb\\u1fe0-\\u1fec\\u1ff2-\\u1ff4\\u1ff6-\\u1ffc\\u2102\\u2107" \
    "\\u210a-\\u2113\\u2115\\u2119-\\u211d\\u2124\\u2126\\u2128\\u212a-\\u212d\\u212f-\\u2134\\u2139\\u213c-\\u213f\\u2145-\\u2149\\u214e\\u2183\\u2184\\u2c00-\\u2c7b" \
    "\\u2c7e-\\u2ce4\\u2ceb-\\u2cee\\u2cf2\\u2cf3\\ua640-\\ua66d\\ua680-\\ua69b\\ua722-\\ua76f\\ua771-\\ua787\\ua78b-\\ua78e\\uab70-\\uabbf\\ufb00-\\ufb06\\ufb13-\\ufb17" \
    "\\uff21-\\uff3a\\uff41-\\uff5a\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
#define CONTR "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define DEEPSEEK3 "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define BLOOM " ?[^(\\s|.,!?\xe2\x80\xa6\xe3\x80\x82\xef\xbc\x8c\xe3\x80\x81\xe0\xa5\xa4\xdb\x94\xd8\x8c)]+"
#define UPS "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWS "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define ANY "[^\\r\\n\\p{L}\\p{N}]?"
#define REST "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const pre_row rows[] = {
    { "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe jais trillion mellum modern-bert gigachat "
      "a.x-4.0 exaone4 granite-docling",
      { KNOWN("gpt2") },
      0 },
    { "olmo mpt", { KNOWN("gpt2") }, NFC },
    { "starcoder refact smollm codeshell exaone minerva-7b mellum2", { "\\p{N}", KNOWN("gpt2") }, 0 },
    { "command-r", { "\\p{N}", KNOWN("gpt2") }, NFC },
    { "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2", { KNOWN("llama3") }, WHOLE | BOS },
    { "dbrx smaug-bpe glm4 chatglm-bpe", { KNOWN("cl100k") }, 0 },
    { "qwen2 deepseek-r1-qwen megrez", { KNOWN("qwen2") }, NFC },
    { "stablelm2 hunyuan solar-open grok-2", { KNOWN("qwen2") }, 0 },
    { "qwen35", { CONTR "|" ANY "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" }, NFC },
    { "gpt-4o llama4 kanana2 minimax-m2", { KNOWN("o200k") }, 0 },
    { "tekken",
      { ANY UPS "*" LOWS "+|" ANY UPS "+" LOWS "*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" },
      WHOLE | BOS },
    { "deepseek-llm",
      { "[\\r\\n]", "\\s?[" CASED "]+", "\\s?[!-/:-~\\uff01-\\uff0f\\uff1a-\\uff5e\\u2018-\\u201f\\u3000-\\u3002]+", "\\s+$",
        HAN_AND_HANGUL, "\\p{N}+" },
      0 },
    { "deepseek-coder", { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN_AND_HANGUL, "\\p{N}" }, 0 },
    { "deepseek-v3 hunyuan-dense joyai-llm",
      { "\\p{N}{1,3}", "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+", DEEPSEEK3 },
      0 },
    { "falcon", { "[\\p{P}\\$\\+<=>\\^~\\|`]+", KNOWN("gpt2"), "[0-9][0-9][0-9]" }, 0 },
    { "poro-chat bloom gpt3-finnish", { BLOOM }, 0 },
    { "viking", { BLOOM, "\\p{N}" }, 0 },
    { "bailingmoe bailingmoe2 llada-moe",
      { "'(?i:[sdmt]|ll|ve|re)|" ANY "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" },
      0 },
    { "seed-coder", { CONTR "|" ANY "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+" }, 0 },
    { "minicpm5", { "\\p{N}{1,3}", CONTR "|" ANY "\\p{L}+|\\p{N}+" REST }, WHOLE },
    { "default", { "[\\p{P}\\$\\+<=>\\^~\\|]+", KNOWN("gpt2"), "\\p{N}+", "[0-9][0-9][0-9]" }, 0 },
};

static const pre_row *row_of(const char *name) {
    size_t n = strlen(name);
    for (int i = 0; i < LM_COUNT(rows); i++)
        for (const char *s = rows[i].names; *s;) {
            size_t k = strcspn(s, " ");
            if (k == n && !memcmp(s, name, n)) return &rows[i];
            s += k + (s[k] == ' ');
        }
    return NULL;
}

static lm_err pipeline(lm_tok *t, const pre_row *r, const char *post) {
    lm_str s = { .ctx = t->ctx };
    lm_str_puts(&s, "{\"type\":\"Sequence\",\"pretokenizers\":[");
    for (int i = 0; i < LM_COUNT(r->patterns) && r->patterns[i]; i++) {
        const char *p = *r->patterns[i] == '=' ? lm_split_by_name(r->patterns[i] + 1)->pattern : r->patterns[i];
        lm_str_puts(&s, "{\"type\":\"Split\",\"pattern\":{\"Regex\":");
        lm_str_json(&s, p, strlen(p));
        lm_str_puts(&s, "},\"behavior\":\"Isolated\",\"invert\":false},");
    }
    lm_str_puts(&s, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}]}");
    lm_err err = lm_str_err(&s);
    if (!err) err = lm_tok_set_pipeline(t, r->flags & NFC ? "{\"type\":\"NFC\"}" : NULL, s.p, post,
                                        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":false,\"use_regex\":false}");
    lm_str_free(&s);
    return err;
}

/* ggml's token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. */
static lm_err tokens(lm_tok *t, lm_gguf *g) {
    lm_gguf_strs text;
    lm_gguf_nums type, score;
    LM_TRY(lm_gguf_arr_str(g, "tokenizer.ggml.tokens", true, &text));
    LM_TRY(lm_gguf_arr_int(g, "tokenizer.ggml.token_type", false, &type));
    LM_TRY(lm_gguf_arr_num(g, "tokenizer.ggml.scores", t->spm, &score));
    if ((type.n && type.n != text.n) || (score.n && score.n != text.n))
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: %lld tokens, %lld types and %lld scores",
            t->name, (long long)text.n, (long long)type.n, (long long)score.n);
    if (text.n > LM_TOK_MAX_VOCAB)
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: %lld tokens, the limit is %d", t->name, (long long)text.n, LM_TOK_MAX_VOCAB);
    for (int64_t i = 0; i < text.n; i++) {
        size_t n;
        const char *s = lm_gguf_strs_at(&text, i, &n);
        int64_t k = type.n ? lm_gguf_nums_int(&type, i) : 1;
        if (!n) continue;                                  /* an empty one can never occur */
        switch (k) {
        case 1: LM_TRY(lm_tok_put(t, i, s, n, LM_TOK_NORMAL, true)); break;
        case 2:
            LM_TRY(lm_tok_put(t, i, s, n, LM_TOK_UNKNOWN, false));
            LM_TRY(lm_tok_put_added(t, i, s, n, LM_ADDED_SPECIAL));
            if (t->unk < 0) t->unk = (int32_t)i;
            break;
        case 3: LM_TRY(lm_tok_put_added(t, i, s, n, LM_ADDED_SPECIAL)); break;
        case 4: LM_TRY(lm_tok_put_added(t, i, s, n, 0)); break;
        case 5: LM_TRY(lm_tok_put(t, i, s, n, LM_TOK_UNUSED, false)); break;
        case 6:
            if (lm_tok_byte_token(s, n) < 0)
                return lm_fail(t->ctx, LM_E_FORMAT, "%s: token %lld is of type byte but is spelled \"%.*s\"; wanted <0x00> to <0xFF>",
                    t->name, (long long)i, (int)lm_min64((int64_t)n, 40), s);
            LM_TRY(lm_tok_put(t, i, s, n, LM_TOK_BYTE, false));
            break;
        default: return lm_fail(t->ctx, LM_E_FORMAT, "%s: token %lld has type %lld; wanted 1 to 6", t->name, (long long)i, (long long)k);
        }
        double v = score.n ? lm_gguf_nums_num(&score, i) : 0;
        if (!isfinite(v)) return lm_fail(t->ctx, LM_E_FORMAT, "%s: token %lld has the score %g", t->name, (long long)i, v);
        t->tok[i].score = (float)v;
    }
    return lm_tok_index_text(t);
}

static lm_err merges(lm_tok *t, lm_gguf *g) {
    lm_gguf_strs m;
    LM_TRY(lm_gguf_arr_str(g, "tokenizer.ggml.merges", true, &m));
    for (int64_t i = 0; i < m.n; i++) {
        size_t n;
        const char *s = lm_gguf_strs_at(&m, i, &n), *sp = n > 1 ? memchr(s + 1, ' ', n - 1) : NULL;
        if (!sp) return lm_fail(t->ctx, LM_E_FORMAT, "%s: merge %lld has no space between two parts", t->name, (long long)i);
        LM_TRY(lm_tok_put_merge_text(t, s, (size_t)(sp - s), sp + 1, n - (size_t)(sp + 1 - s), (uint32_t)i, (size_t)i));
    }
    return LM_OK;
}

/* An id key; -1 if absent. */
static lm_err id_key(lm_tok *t, lm_gguf *g, const char *key, int32_t *out) {
    int64_t id;
    LM_TRY(lm_gguf_int(g, key, false, -1, -1, UINT32_MAX, &id));
    if (id == UINT32_MAX) id = -1;
    if (id >= t->n_vocab) return lm_fail(t->ctx, LM_E_FORMAT, "%s: %s is %lld, the vocabulary has %d", t->name, key, (long long)id, t->n_vocab);
    *out = (int32_t)id;
    return LM_OK;
}

static lm_err ends(lm_tok *t, lm_gguf *g) {
    static const char *const eos[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id" };
    int32_t id;
    LM_TRY(id_key(t, g, "tokenizer.ggml.bos_token_id", &t->bos));
    LM_TRY(id_key(t, g, "tokenizer.ggml.padding_token_id", &t->pad));
    LM_TRY(id_key(t, g, "tokenizer.ggml.unknown_token_id", &id));
    if (id >= 0 && t->spm) t->unk = id;
    for (int i = 0; i < LM_COUNT(eos); i++) {
        LM_TRY(id_key(t, g, eos[i], &id));
        if (id >= 0) LM_TRY(lm_tok_add_eos(t, id));
    }
    lm_tok_guess_ends(t);
    bool b;
    if (lm_gguf_has(g, "tokenizer.ggml.add_bos_token")) {
        LM_TRY(lm_gguf_bool(g, "tokenizer.ggml.add_bos_token", true, false, &b));
        t->add_bos_said = b && t->bos >= 0 ? 1 : -1;
    }
    if (lm_gguf_has(g, "tokenizer.ggml.add_eos_token")) {
        LM_TRY(lm_gguf_bool(g, "tokenizer.ggml.add_eos_token", true, false, &b));
        t->add_eos_said = b && t->n_eos ? 1 : -1;
    }
    const char *s;
    size_t n;
    LM_TRY(lm_gguf_str(g, "tokenizer.chat_template", false, NULL, &s, &n));
    return s ? lm_tok_set_chat(t, s, n) : LM_OK;
}

static lm_err load_spm(lm_tok *t, lm_gguf *g) {
    lm_gguf_nums map;
    bool prefix, collapse;
    LM_TRY(lm_gguf_arr_int(g, "tokenizer.ggml.precompiled_charsmap", false, &map));
    if (map.n)
        return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: the tokenizer normalizes by a table (precompiled_charsmap), which is not supported", t->name);
    LM_TRY(lm_gguf_bool(g, "tokenizer.ggml.add_space_prefix", false, true, &prefix));
    LM_TRY(lm_gguf_bool(g, "tokenizer.ggml.remove_extra_whitespaces", false, false, &collapse));
    t->spm = t->fuse_unk = true;
    LM_TRY(tokens(t, g));
    LM_TRY(ends(t, g));
    t->byte_fallback = true;
    char s[] = "<0x00>";
    for (int b = 0; b < 256 && t->byte_fallback; b++) {
        s[3] = "0123456789ABCDEF"[b >> 4];
        s[4] = "0123456789ABCDEF"[b & 15];
        t->byte_fallback = lm_tok_find_text(t, s, 6) >= 0;
    }
    return lm_tok_meta_pipeline(t, prefix, collapse);
}

static lm_err load_bpe(lm_tok *t, lm_gguf *g) {
    const char *pre;
    LM_TRY(lm_gguf_str(g, "tokenizer.ggml.pre", false, NULL, &pre, NULL));
    if (!pre)
        return lm_fail(
            t->ctx, LM_E_UNSUPPORTED,
            "%s: tokenizer.ggml.pre is missing, so how words are split is not known; convert the model again with a newer converter",
            t->name);
    const pre_row *r = row_of(pre);
    if (!r) return lm_fail(t->ctx, LM_E_UNSUPPORTED, "%s: pre-tokenizer \"%.60s\" is not known", t->name, pre);
    LM_TRY(tokens(t, g));
    LM_TRY(merges(t, g));
    LM_TRY(ends(t, g));
    t->ignore_merges = r->flags & WHOLE;
    char *post;
    LM_TRY(lm_tok_post_template(t, r->flags & BOS ? t->bos : -1, -1, &post));
    lm_err err = pipeline(t, r, post);
    lm_free(t->ctx, post);
    return err;
}

/* Words begin with U+2581 there, what continues one with nothing; the text is always lowered and its accents are stripped. */
static lm_err load_wordpiece(lm_tok *t, lm_gguf *g) {
    lm_gguf_strs text;
    lm_gguf_nums type;
    LM_TRY(lm_gguf_arr_str(g, "tokenizer.ggml.tokens", true, &text));
    LM_TRY(lm_gguf_arr_int(g, "tokenizer.ggml.token_type", false, &type));
    if (text.n > LM_TOK_MAX_VOCAB || (type.n && type.n != text.n))
        return lm_fail(t->ctx, LM_E_FORMAT, "%s: %lld tokens and %lld types; at most %d tokens", t->name, (long long)text.n, (long long)type.n, LM_TOK_MAX_VOCAB);
    lm_str s = { .ctx = t->ctx };
    lm_err err = LM_OK;
    for (int64_t i = 0; !err && i < text.n; i++) {
        size_t n;
        const char *p = lm_gguf_strs_at(&text, i, &n);
        const int64_t k = type.n ? lm_gguf_nums_int(&type, i) : 1;
        if (!n) continue;
        lm_str_clear(&s);
        if (k != 1) lm_str_add(&s, p, n);
        else if (n > 3 && !memcmp(p, "\xe2\x96\x81", 3)) lm_str_add(&s, p + 3, n - 3);
        else { lm_str_add(&s, "##", 2); lm_str_add(&s, p, n); }
        if ((err = lm_str_err(&s))) break;
        err = lm_tok_put(t, i, s.p, s.n, LM_TOK_NORMAL, true);
        if (!err && (k == 2 || k == 3)) err = lm_tok_put_added(t, i, s.p, s.n, LM_ADDED_SPECIAL);
    }
    lm_str_free(&s);
    LM_TRY(err);
    LM_TRY(lm_tok_index_text(t));
    LM_TRY(id_key(t, g, "tokenizer.ggml.padding_token_id", &t->pad));
    LM_TRY(id_key(t, g, "tokenizer.ggml.unknown_token_id", &t->unk));
    if (t->unk < 0) t->unk = lm_tok_find_text(t, "[UNK]", 5);
    return lm_tok_bert_pipeline(t, true, 0, true);
}

lm_err lm_tok_open_gguf(lm_ctx *ctx, const char *name, struct lm_gguf *g, const lm_tok_opts *opts, lm_tok **out) {
    const char *model;
    LM_TRY(lm_gguf_str(g, "tokenizer.ggml.model", true, NULL, &model, NULL));
    bool spm = !strcmp(model, "llama");
    const bool pieces = !strcmp(model, "bert");
    if (!spm && !pieces && strcmp(model, "gpt2"))
        return lm_fail(ctx, LM_E_UNSUPPORTED,
                       "%s: tokenizer model \"%.40s\" is not supported; \"llama\" (SentencePiece BPE), \"gpt2\" (byte-level BPE) and \"bert\" (WordPiece) are",
                       name, model);
    lm_tok *t;
    LM_TRY(lm_tok_new(ctx, name, &t));
    lm_err err = spm ? load_spm(t, g) : pieces ? load_wordpiece(t, g) : load_bpe(t, g);
    if (!err) err = lm_tok_finish(t, opts, spm);
    if (err) { lm_tok_free(t); return err; }
    *out = t;
    return LM_OK;
}
