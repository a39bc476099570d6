/* test_tok_data.c — published tokenizers and the vectors published with them (LOAM_DATA/tokenizers): llama.cpp's, tiktoken's, swift-transformers'. */
#include "tok_test.h"
#include <jansson.h>
#include <zlib.h>

static const char *data_dir(void) { const char *d = getenv("LOAM_DATA"); return d && *d ? d : NULL; }
static const char *data(const char *name) {
    static char path[4][1024];
    static int k;
    char *p = path[k++ & 3];
    snprintf(p, 1024, "%s/%s", data_dir(), name);
    return p;
}
/* A file, unpacked if it is gzip; free(). */
static char *slurp(const char *name, size_t *n) {
    gzFile f = gzopen(data(name), "rb");
    if (!f) return NULL;
    size_t cap = 1 << 20;
    char *p = malloc(cap + 1);
    *n = 0;
    for (int k; p && (k = gzread(f, p + *n, (unsigned)(cap - *n))) > 0;) {
        *n += (size_t)k;
        if (*n == cap) { char *q = realloc(p, 2 * cap + 1); if (!q) { free(p); p = NULL; break; } p = q; cap *= 2; }
    }
    gzclose(f);
    if (p) p[*n] = 0;
    return p;
}
static lm_tok *open_packed(lm_ctx *c, const char *name, const char *as, const lm_tok_opts *o) {
    size_t n;
    char *p = slurp(name, &n);
    lm_tok *t = NULL;
    LM_CHECK(p != NULL);
    if (p) LM_CHECK_OK(c, lm_tok_open_mem(c, as, p, n, o, &t));
    free(p);
    return t;
}

/* Cases of NAME.inp (separated by a line) against the lines of NAME.out. */
static void vectors(lm_ctx *c, const lm_tok *t, const char *name) {
    static const char cut[] = "\n__ggml_vocab_test__\n";
    char file[128];
    size_t n, m;
    snprintf(file, sizeof file, "tokenizers/llama.cpp/ggml-vocab-%s.gguf.inp", name);
    char *inp = slurp(file, &n), *out;
    snprintf(file, sizeof file, "tokenizers/llama.cpp/ggml-vocab-%s.gguf.out", name);
    out = slurp(file, &m);
    LM_CHECK(inp && out && t);
    lm_tok_buf b = { .ctx = c };
    int cases = 0, bad = 0;
    for (char *p = inp, *line = out; t && p && line;) {
        char *e = strstr(p, cut), *end = strchr(line, '\n');
        size_t k = e ? (size_t)(e - p) : strlen(p);
        b.n = 0;
        LM_CHECK_OK(c, lm_tok_encode(t, p, k, 0, &b));
        if (end) *end = 0;
        size_t i = 0;
        char *s = line, *stop;
        for (long v; v = strtol(s, &stop, 10), stop != s; s = stop, i++)
            if (i >= b.n || b.id[i] != v) break;
        while (*s == ' ') s++;
        if (*s || i != b.n) { bad++; printf("%s case %d: \"%.*s\"\n", name, cases, (int)(k < 60 ? k : 60), p); }
        cases++;
        p = e ? e + sizeof cut - 1 : NULL;
        line = end ? end + 1 : NULL;
    }
    LM_CHECK(bad == 0 && cases > 40);
    lm_tok_buf_free(&b);
    free(inp);
    free(out);
}

static void test_gguf_vectors(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    static const char *const names[] = { "bert-bge", "deepseek-llm", "falcon", "gpt-2", "llama-spm", "phi-3", "starcoder" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        char file[128];
        lm_tok *t = NULL;
        snprintf(file, sizeof file, "tokenizers/llama.cpp/ggml-vocab-%s.gguf", names[i]);
        LM_CHECK_OK(c, lm_tok_open(c, data(file), NULL, &t));
        vectors(c, t, names[i]);
        lm_tok_free(t);
    }
    lm_ctx_free(c);
}

/* BERT's vocab.txt; questions with their ids (swift-transformers'). */
static void test_wordpiece_vectors(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = NULL;
    size_t n, m;
    char *text = slurp("tokenizers/bert/question_tokens.json.gz", &n), *ids = slurp("tokenizers/bert/tokenized_questions.json.gz", &m);
    json_t *q = text ? json_loadb(text, n, 0, NULL) : NULL, *w = ids ? json_loadb(ids, m, 0, NULL) : NULL;
    LM_CHECK_OK(c, lm_tok_open(c, data("tokenizers/bert/vocab.txt"), NULL, &t));
    LM_CHECK(q && w && json_array_size(q) == json_array_size(w) && json_array_size(q) > 1000);
    lm_tok_buf b = { .ctx = c };
    size_t bad = 0;
    for (size_t i = 0; t && q && w && i < json_array_size(q); i++) {
        const json_t *s = json_object_get(json_array_get(q, i), "original"), *want = json_array_get(w, i);
        b.n = 0;
        LM_CHECK_OK(c, lm_tok_encode(t, json_string_value(s), json_string_length(s), 0, &b));
        bool same = b.n == json_array_size(want);
        for (size_t k = 0; same && k < b.n; k++) same = b.id[k] == json_integer_value(json_array_get(want, k));
        bad += !same;
    }
    LM_CHECK(bad == 0);
    if (t) LM_CHECK(!strcmp(lm_tok_kind(t), "WordPiece") && lm_tok_vocab(t) == 30522 && lm_tok_unk(t) == 100 && lm_tok_pad(t) == 0);
    lm_tok_buf_free(&b); lm_tok_free(t); json_decref(q); json_decref(w);
    free(text); free(ids);
    lm_ctx_free(c);
}
static void test_rank_vectors(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_packed(c, "tokenizers/tiktoken/llama3-tokenizer.model.gz", "tokenizer.model", NULL);      /* known by its number of ranks */
    vectors(c, t, "llama-bpe");
    if (t) LM_CHECK(lm_tok_bos(t) == 128000 && lm_tok_is_eos(t, 128009) && lm_tok_id(t, "<|reserved_special_token_247|>", 30) == 128255);
    lm_tok_free(t);
    t = open_packed(c, "tokenizers/tiktoken/qwen.tiktoken.gz", "qwen.tiktoken", NULL);
    vectors(c, t, "qwen2");
    vectors(c, t, "deepseek-r1-qwen");
    lm_tok_free(t);
    lm_ctx_free(c);
}

static void test_tiktoken_plans(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    size_t n;
    char *plans = slurp("tokenizers/tiktoken/TestPlans.txt", &n);
    static const char *const names[] = { "r50k_base", "cl100k_base", "o200k_base" };
    LM_CHECK(plans != NULL);
    for (int k = 0; plans && k < 3; k++) {
        char file[128];
        snprintf(file, sizeof file, "tokenizers/tiktoken/%s.tiktoken.gz", names[k]);
        lm_tok *t = open_packed(c, file, names[k], NULL);
        lm_tok_buf b = { .ctx = c };
        int cases = 0, bad = 0;
        for (char *p = plans; t && (p = strstr(p, "EncodingName: "));) {
            p += 14;
            bool mine = !strncmp(p, names[k], strlen(names[k]));
            char *s = strstr(p, "\nSample: "), *e = s ? strstr(s, "\nEncoded: [") : NULL;
            if (!e) break;
            p = e;
            if (!mine) continue;
            s += 9;
            b.n = 0;
            LM_CHECK_OK(c, lm_tok_encode(t, s, (size_t)(e - s), 0, &b));
            char *q = e + 11, *stop;
            size_t i = 0;
            for (; *q && *q != ']'; q = stop + (*stop == ',')) {
                long v = strtol(q, &stop, 10);
                if (stop == q || i >= b.n || b.id[i++] != v) { i = (size_t)-1; break; }
            }
            if (i != b.n) { bad++; printf("%s: \"%.*s\"\n", names[k], (int)(e - s < 60 ? e - s : 60), s); }
            cases++;
        }
        LM_CHECK(bad == 0 && cases > 50);
        lm_tok_buf_free(&b);
        lm_tok_free(t);
    }
    free(plans);
    lm_ctx_free(c);
}

static void hf_vector(lm_ctx *c, const lm_tok *t, const char *name) {
    size_t n;
    char file[128];
    snprintf(file, sizeof file, "tokenizers/vectors/%s.json", name);
    char *p = slurp(file, &n);
    json_t *v = NULL;
    LM_CHECK(p && t);
    if (!p || !t) { free(p); return; }
    LM_CHECK_OK(c, lm_json_parse(c, name, p, n, 0, &v));
    lm_tok_buf b = { .ctx = c };
    const json_t *text = json_object_get(v, "text");
    LM_CHECK_OK(c, lm_tok_encode(t, json_string_value(text), json_string_length(text), LM_TOK_ADD | LM_TOK_SPECIAL, &b));
    LM_CHECK(tok_same(&b, json_object_get(v, "token_ids"), name, 0));
    lm_tok_buf_free(&b);
    lm_json_free(v);
    free(p);
}

static void test_hf_vectors(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    lm_tok *t = open_packed(c, "tokenizers/hf/llama2/tokenizer.json.gz", "llama2.json", NULL);
    hf_vector(c, t, "llama_encoded");
    lm_tok_free(t);
    t = open_packed(c, "tokenizers/tiktoken/llama3-tokenizer.model.gz", "llama3", NULL);
    hf_vector(c, t, "llama_3.2_encoded");
    lm_tok_free(t);
    t = open_packed(c, "tokenizers/tiktoken/r50k_base.tiktoken.gz", "r50k_base", NULL);
    hf_vector(c, t, "gpt2_encoded_tokens");
    lm_tok_free(t);
    t = NULL;
    size_t n;
    char *p = slurp("tokenizers/hf/t5-small/tokenizer.json.gz", &n);
    if (p) LM_CHECK_ERR(c, lm_tok_open_mem(c, "t5", p, n, NULL, &t), LM_E_UNSUPPORTED, "Unigram");
    free(p);
    LM_CHECK_ERR(c, lm_tok_open(c, data("tokenizers/sentencepiece/test_model.model"), NULL, &t), LM_E_UNSUPPORTED, "type Unigram");
    lm_ctx_free(c);
}

/* One vocabulary in three files: SentencePiece, GGUF and llama2.c's. */
static void test_one_vocabulary(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *c = tok_ctx(1);
    static const char *const files[] = { "tokenizers/sentencepiece/llama2.model", "tokenizers/llama.cpp/ggml-vocab-llama-spm.gguf",
                                         "weights/stories260K/llama2-tokenizer.bin" };
    lm_hash128_t h[3] = { { 0, 0 } };
    for (int i = 0; i < 3; i++) {
        lm_tok *t = NULL;
        LM_CHECK_OK(c, lm_tok_open(c, data(files[i]), NULL, &t));
        if (t) h[i] = lm_tok_hash(t);
        lm_tok_free(t);
    }
    LM_CHECK(h[0].lo && h[0].lo == h[1].lo && h[0].lo == h[2].lo && h[0].hi == h[2].hi);
    lm_tok *t = NULL;
    lm_tok_buf b = { .ctx = c };
    lm_str s = { .ctx = c };
    LM_CHECK_OK(c, lm_tok_open(c, data("weights/stories260K/tok512.bin"), NULL, &t));
    if (t) {
        const char *text = "Once upon a time, there was a little girl named Lily. \xf0\x9f\x98\x80";
        LM_CHECK(lm_tok_vocab(t) == 512);
        LM_CHECK_OK(c, lm_tok_encode(t, text, strlen(text), LM_TOK_ADD, &b));
        LM_CHECK_OK(c, lm_tok_decode(t, b.id, b.n, 0, &s));
        LM_CHECK_STR(s.p, text);
        LM_CHECK(b.n > 2 && b.id[0] == 1 && b.id[1] == 403);       /* " Once", as llama2.c's own run shows */
    }
    lm_str_free(&s);
    lm_tok_buf_free(&b);
    lm_tok_free(t);
    lm_ctx_free(c);
}

LM_TEST_MAIN(LM_T1(test_gguf_vectors), LM_T1(test_wordpiece_vectors), LM_T1(test_rank_vectors), LM_T1(test_tiktoken_plans), LM_T1(test_hf_vectors), LM_T1(test_one_vocabulary))
