/* load_ranks.c — tiktoken: lines of "base64 rank"; the rank is the id and the order of merging.
 *
 * The file says neither how words are split nor which special tokens there are: the encoding's name does, taken from opts.kind, from the file's
 * name, or from the number of ranks, which differs for all encodings known. */
#include "tok/tok_int.h"
#include <stdio.h>

typedef struct { int32_t id; const char *text; } special;
static const special s_r50k[] = { { 50256, "<|endoftext|>" }, { 0, NULL } };
static const special s_cl100k[] = { { 100257, "<|endoftext|>" },  { 100258, "<|fim_prefix|>" },  { 100259, "<|fim_middle|>" },
                                    { 100260, "<|fim_suffix|>" }, { 100276, "<|endofprompt|>" }, { 0, NULL } };
static const special s_o200k[] = { { 199999, "<|endoftext|>" }, { 200018, "<|endofprompt|>" }, { 0, NULL } };
static const special s_qwen2[] = { { 151643, "<|endoftext|>" }, { 151644, "<|im_start|>" }, { 151645, "<|im_end|>" }, { 0, NULL } };
static const special s_llama3[] = {
    { 128000, "<|begin_of_text|>" },   { 128001, "<|end_of_text|>" },   { 128004, "<|finetune_right_pad_id|>" },
    { 128006, "<|start_header_id|>" }, { 128007, "<|end_header_id|>" }, { 128008, "<|eom_id|>" },
    { 128009, "<|eot_id|>" },          { 128010, "<|python_tag|>" },    { 0, NULL }
};

/* reserved: ids up to here without a name become <|reserved_special_token_N|>, counted from 0. eos: those that end a text or a turn, first
 * the text. */
static const struct {
    const char *kind, *in_name, *split;
    int32_t n_ranks;
    const special *specials;
    int32_t reserved;
    bool nfc;
    const char *bos;
    const char *eos[4];
} sets[] = {
    { "r50k", "r50k", "gpt2", 50256, s_r50k, 0, false, NULL, { "<|endoftext|>" } },
    { "p50k", "p50k", "gpt2", 50280, s_r50k, 0, false, NULL, { "<|endoftext|>" } },
    { "cl100k", "cl100k", "cl100k", 100256, s_cl100k, 0, false, NULL, { "<|endoftext|>" } },
    { "o200k", "o200k", "o200k", 199998, s_o200k, 0, false, NULL, { "<|endoftext|>" } },
    { "llama3",
      "llama3",
      "llama3",
      128000,
      s_llama3,
      128255,
      false,
      "<|begin_of_text|>",
      { "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>" } },
    { "qwen2", "qwen", "qwen2", 151643, s_qwen2, 0, true, NULL, { "<|endoftext|>", "<|im_end|>" } },
    { "gpt2", "gpt2", "gpt2", 50256, s_r50k, 0, false, NULL, { "<|endoftext|>" } },
};

static int digit64(uint8_t c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Strict base64 with padding; -1 if malformed, else the number of bytes. out has room for 3 * n / 4. */
static int64_t base64(const uint8_t *p, size_t n, uint8_t *out) {
    if (!n || n % 4) return -1;
    int64_t k = 0;
    for (size_t i = 0; i < n; i += 4) {
        int pad = i + 4 == n ? (p[n - 1] == '=') + (p[n - 2] == '=' && p[n - 1] == '=') : 0;
        uint32_t v = 0;
        for (int j = 0; j < 4; j++) {
            int d = j >= 4 - pad ? 0 : digit64(p[i + (size_t)j]);
            if (d < 0) return -1;
            v = v << 6 | (uint32_t)d;
        }
        for (int j = 0; j < 3 - pad; j++) out[k++] = (uint8_t)(v >> (16 - 8 * j));
    }
    return k;
}

/* One line "base64 rank"; p moves behind it. 0 = the end, 1 = a line, -1 = malformed. */
static int next_line(const uint8_t **p, const uint8_t *end, uint8_t *bytes, size_t room, int64_t *n, int64_t *rank) {
    while (*p < end && (**p == '\n' || **p == '\r')) ++*p;
    if (*p == end) return 0;
    const uint8_t *s = *p, *e = memchr(s, '\n', (size_t)(end - s));
    if (!e) e = end;
    *p = e;
    if (e > s && e[-1] == '\r') e--;
    const uint8_t *sp = memchr(s, ' ', (size_t)(e - s));
    if (!sp || sp + 1 == e || (size_t)(sp - s) / 4 * 3 > room) return -1;
    if ((*n = base64(s, (size_t)(sp - s), bytes)) < 1) return -1;
    *rank = 0;
    for (const uint8_t *c = sp + 1; c < e; c++) {
        if (*c < '0' || *c > '9' || *rank >= LM_TOK_MAX_VOCAB) return -1;
        *rank = *rank * 10 + (*c - '0');
    }
    return 1;
}

bool lm_tok_is_ranks(const uint8_t *p, size_t n) {
    uint8_t bytes[1024];
    int64_t k, rank;
    const uint8_t *at = p;
    size_t look = n < 4096 ? n : 4096;
    if (look < n) while (look && p[look - 1] != '\n') look--;
    return next_line(&at, p + look, bytes, sizeof bytes, &k, &rank) == 1;
}

static lm_err which_set(lm_tok *t, const char *name, const char *kind, int32_t n_ranks, int *out) {
    const char *base = strrchr(name, '/');
    base = base ? base + 1 : name;
    for (int pass = kind ? 0 : 1; pass < 3; pass++)
        for (int i = 0; i < LM_COUNT(sets); i++) {
            bool is = pass == 0 ? !strcmp(kind, sets[i].kind) : pass == 1 ? strstr(base, sets[i].in_name) != NULL : sets[i].n_ranks == n_ranks;
            if (is) { *out = i; return LM_OK; }
            if (pass == 0 && i == LM_COUNT(sets) - 1)
                return lm_fail(t->ctx, LM_E_CONFIG, "%s: unknown kind \"%.40s\"; wanted r50k, p50k, cl100k, o200k, llama3 or qwen2", name, kind);
        }
    return lm_fail(t->ctx, LM_E_CONFIG,
                   "%s: %d tiktoken ranks of an unknown encoding; name its kind: r50k, p50k, cl100k, o200k, llama3 or qwen2", name,
                   n_ranks);
}

static lm_err add_specials(lm_tok *t, int set) {
    for (const special *s = sets[set].specials; s->text; s++) LM_TRY(lm_tok_put_added(t, s->id, s->text, strlen(s->text), LM_ADDED_SPECIAL));
    int k = 0;
    for (int32_t id = sets[set].n_ranks; id <= sets[set].reserved; id++) {
        if (id < t->n_all && t->tok[id].type != LM_TOK_NONE) continue;
        char name[48];
        snprintf(name, sizeof name, "<|reserved_special_token_%d|>", k++);
        LM_TRY(lm_tok_put_added(t, id, name, strlen(name), LM_ADDED_SPECIAL));
    }
    return LM_OK;
}

lm_err lm_tok_load_ranks(lm_tok *t, const char *name, const uint8_t *p, size_t n, const lm_tok_opts *opts) {
    uint8_t bytes[4096];
    lm_str text = { .ctx = t->ctx };
    const uint8_t *at = p, *end = p + n;
    int32_t count = 0;
    size_t line = 0;
    lm_err err = LM_OK;
    while (!err) {
        int64_t k, rank;
        line++;
        int got = next_line(&at, end, bytes, sizeof bytes, &k, &rank);
        if (!got) break;
        if (got < 0 || rank > 4 * (int64_t)(n / 4) + 65536) { err = lm_fail(t->ctx, LM_E_FORMAT, "%s: rank line %zu: wanted \"base64 rank\"",
            name, line); break; }
        lm_str_clear(&text);
        lm_bytes_to_text(bytes, (size_t)k, &text);
        err = lm_str_err(&text);
        if (!err) err = lm_tok_put(t, rank, text.p, text.n, LM_TOK_NORMAL, true);
        if (!err) t->tok[rank].score = -(float)rank;
        count++;
    }
    lm_str_free(&text);
    LM_TRY(err);
    int set = 0;
    LM_TRY(which_set(t, name, opts ? opts->kind : NULL, count, &set));
    t->ignore_merges = true;                               /* a word that is a token is that token, whatever the merges would give */
    LM_TRY(add_specials(t, set));
    LM_TRY(lm_tok_index_text(t));
    for (int b = 0; b < 256; b++) {
        lm_str one = { .ctx = t->ctx };
        uint8_t c = (uint8_t)b;
        lm_bytes_to_text(&c, 1, &one);
        if (one.bad) return LM_E_NOMEM;
        bool there = lm_tok_find_text(t, one.p, one.n) >= 0;
        lm_str_free(&one);
        if (!there) return lm_fail(t->ctx, LM_E_FORMAT, "%s: the byte 0x%02x has no rank", name, b);
    }
    if (sets[set].bos) t->bos = lm_tok_find_text(t, sets[set].bos, strlen(sets[set].bos));
    for (int i = 0; i < 4 && sets[set].eos[i]; i++) {
        int32_t id = lm_tok_find_text(t, sets[set].eos[i], strlen(sets[set].eos[i]));
        if (id >= 0) LM_TRY(lm_tok_add_eos(t, id));
    }
    char *post;
    LM_TRY(lm_tok_post_template(t, t->bos, -1, &post));
    err = lm_tok_byte_pipeline(t, lm_split_by_name(sets[set].split), sets[set].nfc, post);
    lm_free(t->ctx, post);
    return err;
}
