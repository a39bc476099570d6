/* test_tok_hostile.c — tokenizer files that lie, and memory that runs out: a named error each time, nothing leaked, nothing half made. */
#include <math.h>
#include <unistd.h>
#include "format/gguf.h"
#include "tok_test.h"

static const char byte_level[] = "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}";

static void test_json_lies(void) {
    static const struct { const char *body; lm_err err; const char *why;
    } bad[] = {
        { "[]", LM_E_FORMAT, "not a tokenizer file" },
        { "{", LM_E_FORMAT, ":1:" },
        { "{\"a\":1}", LM_E_CONFIG, "/model" },
        { "{\"model\":{\"type\":\"Unigram\",\"vocab\":[]}}", LM_E_UNSUPPORTED, "Unigram" },
        { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", LM_E_FORMAT, "unk_token \"[UNK]\"" },
        { "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"continuing_subword_prefix\":\"\",\"vocab\":{\"a\":0}}}", LM_E_UNSUPPORTED, "continuing_subword_prefix is empty" },
        { "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"max_input_chars_per_word\":-1,\"vocab\":{\"a\":0}}}", LM_E_RANGE, "max_input_chars_per_word" },
        { "{\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":3},\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"a\",\"vocab\":{\"a\":0}}}", LM_E_CONFIG, "lowercase" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}", LM_E_FORMAT, "empty vocabulary" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", LM_E_FORMAT, "wanted an id" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":999999999},\"merges\":[]}}", LM_E_FORMAT, "wanted an id" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":\"x\"},\"merges\":[]}}", LM_E_FORMAT, "wanted an id" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}", LM_E_FORMAT, "belongs to two tokens" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}", LM_E_FORMAT, "duplicate" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", LM_E_FORMAT,
          "the result is not in the vocabulary" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"a\",\"c\"]]}}", LM_E_FORMAT,
          "the right part is not in the vocabulary" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[[\"a\"]]}}", LM_E_FORMAT, "wanted two parts" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"ab\"]}}", LM_E_FORMAT, "one space between" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\" \"]}}", LM_E_FORMAT, "not in the vocabulary" },
        { "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}", LM_E_CONFIG, "/model/merges" },
        { "{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_UNSUPPORTED, "dropout" },
        { "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_UNSUPPORTED,
          "end_of_word_suffix" },
        { "{\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_FORMAT,
          "unk_token \"<unk>\" is not in the vocabulary" },
        { "{\"added_tokens\":[{\"id\":0,\"content\":\"b\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_FORMAT,
          "has the id 0 of" },
        { "{\"added_tokens\":[{\"id\":1,\"content\":\"a\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_FORMAT,
          "has two ids" },
        { "{\"added_tokens\":[{\"id\":4000000000,\"content\":\"b\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_RANGE, "/added_tokens/0" },
        { "{\"normalizer\":{\"type\":\"StripAccents\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_UNSUPPORTED,
          "normalizer \"StripAccents\"" },
        { "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AA\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},"
          "\"merges\":[]}}",
          LM_E_UNSUPPORTED, "Precompiled" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"},\"model\":{\"type\":\"BPE\","
          "\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_UNSUPPORTED, "( without )" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"},\"behavior\":\"Isolated\"},\"model\":{\"type\":\"BPE\","
          "\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_UNSUPPORTED, "empty pattern" },
        { "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"},\"behavior\":\"Sideways\"},\"model\":{\"type\":\"BPE\","
          "\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_UNSUPPORTED, "Sideways" },
        { "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_UNSUPPORTED, "UnicodeScripts" },
        { "{\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":{\"type\":\"Metaspace\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0}"
          ",\"merges\":[]}}",
          LM_E_UNSUPPORTED, "ByteLevel" },
        { "{\"decoder\":{\"type\":\"WordPiece\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}", LM_E_UNSUPPORTED,
          "a WordPiece decoder with another model" },
        { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{\"id\":\"A\"}}"
          "],\"special_tokens\":{\"x\":{\"id\":\"x\",\"ids\":[7]}}},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
          LM_E_FORMAT, "id 7 is not in the vocabulary" },
        { "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"special_tokens\":{}},\"model\":{\"type\":\"BPE\",\"vocab\":"
          "{\"a\":0},\"merges\":[]}}",
          LM_E_FORMAT, "without the text" },
    };
    lm_ctx *c = tok_ctx(1);
    for (int i = 0; i < LM_COUNT(bad); i++) {
        lm_tok *t = NULL;
        LM_CHECK_ERR(c, lm_tok_open_mem(c, "lies.json", bad[i].body, strlen(bad[i].body), NULL, &t), bad[i].err, bad[i].why);
        LM_CHECK(t == NULL);
        lm_tok_free(t);
    }
    lm_ctx_free(c);
}

static void test_other_lies(void) {
    static const struct { const char *name, *bytes; size_t n; lm_err err; const char *why; } bad[] = {
        { "x", "", 0, LM_E_FORMAT, "not a tokenizer file" },
        { "cl100k", "IQ== 0\nIg== 0\n", 14, LM_E_FORMAT, "belongs to two tokens" },
        { "cl100k", "IQ== 0\nI 1\n", 11, LM_E_FORMAT, "line 2" },
        { "cl100k", "IQ== 0\nIg== 99999999999\n", 24, LM_E_FORMAT, "line 2" },
        { "cl100k", "IQ== 0\nIg== 1\n", 14, LM_E_FORMAT, "the byte 0x00 has no rank" },
        { "some", "IQ== 0\nIg== 1\n", 14, LM_E_CONFIG, "unknown encoding" },
        { "m.model", "\x0a\x05\x0a\x01" "a\x10\x07", 7, LM_E_FORMAT, "m.model" },
        { "t.bin", "\x05\0\0\0\0\0\0\0\xff\xff\xff\x7f", 12, LM_E_FORMAT, "t.bin" },
        { "g", "GGUF\x03\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 24, LM_E_FORMAT, "g" },
    };
    lm_ctx *c = tok_ctx(1);
    for (int i = 0; i < LM_COUNT(bad); i++) {
        lm_tok *t = NULL;
        LM_CHECK_ERR(c, lm_tok_open_mem(c, bad[i].name, bad[i].bytes, bad[i].n, NULL, &t), bad[i].err, bad[i].why);
        LM_CHECK(t == NULL);
    }
    lm_tok *t = NULL;
    LM_CHECK_ERR(c, lm_tok_open_mem(c, "x", "IQ== 0\n", 7, &(lm_tok_opts){ .kind = "gpt9" }, &t), LM_E_CONFIG, "unknown kind \"gpt9\"");
    LM_CHECK_ERR(c, lm_tok_open(c, LM_FIXTURES, NULL, &t), LM_E_NOTFOUND, "looked for tokenizer.json");
    lm_ctx_free(c);
}

/* GGUF's tokenizer keys, one of them lying: the type of an array's items above all, since a reader that trusts it reads past its end. */
typedef struct { const char *text[5]; int32_t type[5]; float score[5]; int n_type, n_score; lm_gguf_type tokens, types, scores; const char *model, *pre, *merge[2]; int32_t bos; } vocab;
static lm_err gguf_vocab(lm_ctx *c, const char *path, const vocab *v) {
    lm_gguf_writer *w;
    lm_err err;
    LM_TRY(lm_gguf_writer_new(&w, c, path, 32));
    LM_GOTO(lm_gguf_put_str(w, "general.architecture", "llama", 5), fail);
    LM_GOTO(lm_gguf_put_str(w, "tokenizer.ggml.model", v->model, strlen(v->model)), fail);
    if (v->pre) LM_GOTO(lm_gguf_put_str(w, "tokenizer.ggml.pre", v->pre, strlen(v->pre)), fail);
    if (v->tokens == LM_GGUF_STR) err = lm_gguf_put_arr_str(w, "tokenizer.ggml.tokens", v->text, NULL, 5);
    else err = lm_gguf_put_arr(w, "tokenizer.ggml.tokens", v->tokens, v->type, 5);
    if (err) goto fail;
    if (v->types == LM_GGUF_STR) err = lm_gguf_put_arr_str(w, "tokenizer.ggml.token_type", v->text, NULL, v->n_type);
    else err = lm_gguf_put_arr(w, "tokenizer.ggml.token_type", v->types, v->types == LM_GGUF_F32 ? (const void *)v->score : v->type, v->n_type);
    if (err) goto fail;
    if (v->scores == LM_GGUF_STR) err = lm_gguf_put_arr_str(w, "tokenizer.ggml.scores", v->text, NULL, v->n_score);
    else err = lm_gguf_put_arr(w, "tokenizer.ggml.scores", v->scores, v->score, v->n_score);
    if (err) goto fail;
    if (v->merge[0]) LM_GOTO(lm_gguf_put_arr_str(w, "tokenizer.ggml.merges", v->merge, NULL, 1), fail);
    LM_GOTO(lm_gguf_put_i32(w, "tokenizer.ggml.bos_token_id", v->bos), fail);
    return lm_gguf_writer_commit(w);
fail:
    lm_gguf_writer_abort(w);
    return err;
}
static void test_gguf_lies(void) {
    static const vocab good = { { "<unk>", "<s>", "<0x41>", "a", "\xe2\x96\x81" "b" }, { 2, 3, 6, 1, 1 }, { 0, 0, 0, -1, -2 }, 5, 5, LM_GGUF_STR, LM_GGUF_I32, LM_GGUF_F32, "llama", NULL, { NULL, NULL }, 1 };
    lm_ctx *c = tok_ctx(1);
    char path[64];
    snprintf(path, sizeof path, "/tmp/loam-lies-%d.gguf", (int)getpid());
    for (int i = 0; i < 19; i++) {
        vocab v = good;
        lm_err want = LM_E_FORMAT;
        const char *why = "";
        lm_tok *t = NULL;
        switch (i) {
        case 0: want = LM_OK; break;
        case 1: v.text[2] = "<0x-1>"; why = "token 2 is of type byte but is spelled \"<0x-1>\""; break;
        case 2: v.text[2] = "<0x100>"; why = "wanted <0x00> to <0xFF>"; break;
        case 3: v.text[2] = "<0x4"; why = "of type byte"; break;
        case 4: v.text[2] = ""; want = LM_OK; break;                   /* one that can never occur */
        case 5: v.tokens = LM_GGUF_I32; want = LM_E_CONFIG; why = "tokenizer.ggml.tokens"; break;
        case 6: v.types = LM_GGUF_STR; want = LM_E_CONFIG; why = "tokenizer.ggml.token_type"; break;
        case 7: v.types = LM_GGUF_F32; want = LM_E_CONFIG; why = "tokenizer.ggml.token_type"; break;
        case 8: v.scores = LM_GGUF_STR; want = LM_E_CONFIG; why = "tokenizer.ggml.scores"; break;
        case 9: v.n_type = 4; why = "5 tokens, 4 types and 5 scores"; break;
        case 10: v.n_score = 1; why = "5 tokens, 5 types and 1 scores"; break;
        case 11: v.type[3] = 7; why = "token 3 has type 7; wanted 1 to 6"; break;
        case 12: v.type[3] = INT32_MIN; why = "token 3 has type -2147483648"; break;
        case 13: v.score[3] = NAN; why = "token 3 has the score"; break;
        case 14: v.bos = 5; why = "tokenizer.ggml.bos_token_id is 5, the vocabulary has 5"; break;
        case 15: v.bos = INT32_MIN; want = LM_E_RANGE; why = "tokenizer.ggml.bos_token_id"; break;
        case 16: v.model = "gpt9"; want = LM_E_UNSUPPORTED; why = "gpt9"; break;
        case 17: v.model = "gpt2"; want = LM_E_UNSUPPORTED; why = "tokenizer.ggml.pre is missing"; break;
        default: v.model = "gpt2"; v.pre = "gpt-2"; v.merge[0] = "ab"; why = "merge 0 has no space"; break;
        }
        LM_NEED_OK(c, gguf_vocab(c, path, &v));
        if (want) { LM_CHECK_ERR(c, lm_tok_open(c, path, NULL, &t), want, why); LM_CHECK(t == NULL); }
        else { LM_CHECK_OK(c, lm_tok_open(c, path, NULL, &t)); LM_CHECK(lm_tok_vocab(t) == 5); lm_tok_free(t); }
    }
    unlink(path);
    lm_ctx_free(c);
}
/* A vocabulary that lacks bytes: the text that needs them is refused, naming them. */
static void test_missing_byte(void) {
    lm_ctx *c = tok_ctx(1);
    char text[512];
    int n = snprintf(text, sizeof text, "{%s,\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}}", byte_level);
    lm_tok *t = NULL;
    LM_NEED_OK(c, lm_tok_open_mem(c, "small", text, (size_t)n, NULL, &t));
    lm_tok_buf b = { .ctx = c };
    LM_CHECK_OK(c, lm_tok_encode(t, "abab", 4, 0, &b));
    LM_CHECK(b.n == 2 && b.id[0] == 2);
    LM_CHECK_ERR(c, lm_tok_encode(t, "abc", 3, 0, &b), LM_E_DATA, "no token for the bytes 63");
    LM_CHECK(b.n == 2);
    lm_tok_buf_free(&b);
    lm_tok_free(t);
    lm_ctx_free(c);
}

/* Every allocation fails once: open, encode, decode, save, train. */
static lm_err open_use(lm_ctx *c, const char *file) {
    lm_tok *t = NULL;
    LM_TRY(lm_tok_open(c, tok_fixture(file), NULL, &t));
    lm_tok_buf b = { .ctx = c };
    lm_str s = { .ctx = c }, j = { .ctx = c };
    static const char text[] = "Hello <tool> [MASK] w\xc3\xb6rld e\xcc\x81 123 \xe4\xbd\xa0\xe5\xa5\xbd "
                               "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    lm_err err = lm_tok_encode(t, text, sizeof text - 1, LM_TOK_ADD | LM_TOK_SPECIAL, &b);
    if (!err) err = lm_tok_decode(t, b.id, b.n, LM_TOK_SPECIAL, &s);
    if (!err && !strstr(file, "spm")) err = lm_tok_to_json(c, t, &j);
    lm_str_free(&s);
    lm_str_free(&j);
    lm_tok_buf_free(&b);
    lm_tok_free(t);
    return err;
}
static lm_err train(lm_ctx *c, const char *file) {
    (void)file;
    lm_tok_text d[] = { { "the cat sat on the mat, the cat sat", 35 }, { "on the mat the hat", 18 } };
    lm_tok_train_opts o = { .vocab = 270, .pattern = "\\w+|\\W+" };
    lm_tok *t = NULL;
    lm_err err = lm_tok_train(c, &o, d, 2, &t);
    lm_tok_free(t);
    return err;
}
static void sweep(const char *file, lm_err (*fn)(lm_ctx *, const char *), int step) {
    lm_ctx *c = tok_ctx(1);
    LM_CHECK_OK(c, fn(c, file));
    for (int sticky = 0; sticky < 2; sticky++) {
        int n = 1;
        for (;; n += step) {
            lm_mem_fail_at(c, (uint64_t)n, sticky);
            lm_err err = fn(c, file);
            lm_ledger l;
            lm_mem_fail_at(c, 0, false);
            lm_mem_ledger(c, &l);
            if (l.now[LM_MEM_TOK]) { printf("%s: allocation %d left %zu bytes\n", file, n, l.now[LM_MEM_TOK]); LM_CHECK(!"a leak"); }
            if (err && err != LM_E_NOMEM) {
                printf("%s: allocation %d gave %s: %s\n", file, n, lm_err_name(err), lm_error(c));
                LM_CHECK(!"wanted E_NOMEM");
            }
            if (!err) break;
        }
        LM_CHECK(n > 15);
    }
    LM_CHECK_OK(c, fn(c, file));
    lm_ctx_free(c);
}
static void test_memory_runs_out(void) {
    sweep("gpt2.json", open_use, 3);
    sweep("llama3.json", open_use, 1);
    sweep("llama2.json", open_use, 5);
    sweep("bytenorm.json", open_use, 5);
    sweep("spm_plain.model", open_use, 1);
    sweep("", train, 1);
}

/* Bits of good files flipped, and good files cut short: any answer but a crash. */
static void test_damaged_files(void) {
    static const char *const files[] = { "llama3.json", "metaspace.json", "spm.model" };
    lm_ctx *c = tok_ctx(1);
    uint64_t seed = 1;
    for (int k = 0; k < LM_COUNT(files); k++) {
        char *p, *q;
        size_t n;
        LM_NEED_OK(c, lm_file_read_all(c, tok_fixture(files[k]), 1 << 20, &p, &n));
        q = lm_alloc(c, LM_MEM_MISC, n + 1);
        int opened = 0;
        for (int i = 0; q && i < 150; i++) {
            memcpy(q, p, n);
            size_t len = n;
            if (i % 3 == 0) len = tok_rand(&seed) % n;
            else for (int f = 0; f < 1 + i % 4; f++) q[tok_rand(&seed) % (i % 2 ? n : 400)] ^= (char)(1 << tok_rand(&seed) % 8);
            lm_tok *t = NULL;
            lm_tok_buf b = { .ctx = c };
            lm_str s = { .ctx = c };
            if (!lm_tok_open_mem(c, files[k], q, len, NULL, &t)) {
                opened++;
                if (!lm_tok_encode(t, "Hello <tool> 12 w\xc3\xb6rld", 21, LM_TOK_SPECIAL | LM_TOK_ADD, &b))
                    LM_CHECK_OK(c, lm_tok_decode(t, b.id, b.n, LM_TOK_SPECIAL, &s));
            } else LM_CHECK(t == NULL && lm_error(c)[0]);
            lm_str_free(&s);
            lm_tok_buf_free(&b);
            lm_tok_free(t);
        }
        LM_CHECK(opened < 150);
        lm_free(c, q);
        lm_free(c, p);
    }
    lm_ctx_free(c);
}

LM_TEST_MAIN(LM_T1(test_json_lies), LM_T1(test_other_lies), LM_T1(test_gguf_lies), LM_T1(test_missing_byte), LM_T1(test_memory_runs_out), LM_T1(test_damaged_files))
