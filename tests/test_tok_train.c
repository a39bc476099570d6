/* test_tok_train.c — training: the merges of Hugging Face's trainer on the same lines, any number of threads, saving, refusals. */
#include "tok_test.h"

static lm_tok_text *lines(lm_ctx *c, char **text, size_t *n) {
    size_t size, k = 0;
    if (lm_file_read_all(c, tok_fixture("train.txt"), 1 << 20, text, &size)) return NULL;
    lm_tok_text *d = lm_calloc(c, LM_MEM_MISC, size + 1, sizeof *d);
    for (char *p = *text, *e; d && p; p = e ? e + 1 : NULL) {
        e = strchr(p, '\n');
        d[k++] = (lm_tok_text){ p, e ? (size_t)(e - p) : strlen(p) };
    }
    *n = k;
    return d;
}

static void same_merges(lm_ctx *c, const lm_tok *t, const char *fixture) {
    lm_str s = { .ctx = c };
    json_t *v = NULL, *want = tok_json(c, fixture);
    LM_CHECK_OK(c, lm_tok_to_json(c, t, &s));
    LM_CHECK_OK(c, lm_json_parse(c, "trained", s.p, s.n, 0, &v));
    const json_t *a = json_object_get(json_object_get(v, "model"), "merges"), *b = json_object_get(want, "merges");
    LM_CHECK(json_array_size(a) == json_array_size(b) && json_array_size(b) > 500);
    for (size_t i = 0; i < json_array_size(b); i++)
        if (!json_equal(json_array_get(a, i), json_array_get(b, i))) { LM_CHECK(!"the merges differ"); printf("at merge %zu\n", i); break; }
    lm_json_free(v);
    lm_json_free(want);
    lm_str_free(&s);
}

static void test_same_as_hf(void) {
    static const char *const special[] = { "<|endoftext|>", "<|im_start|>" };
    static const struct {
        const char *fixture, *pattern;
        int64_t min;
    } runs[] = { { "train_gpt2.json", NULL, 0 }, { "train_llama3.json", "llama3", 3 } };
    lm_hash128_t h[2][3];
    for (int threads = 1; threads <= 3; threads++) {
        lm_ctx *c = tok_ctx(threads);
        char *text = NULL;
        size_t n = 0;
        lm_tok_text *d = lines(c, &text, &n);
        LM_CHECK(d && n > 50);
        for (int i = 0; d && i < 2; i++) {
            lm_tok *t = NULL;
            lm_tok_train_opts o = {
                .vocab = 1200, .min_count = runs[i].min, .special = special, .n_special = 2, .eos = special[0], .pattern = runs[i].pattern
            };
            LM_CHECK_OK(c, lm_tok_train(c, &o, d, n, &t));
            if (!t) continue;
            same_merges(c, t, runs[i].fixture);
            h[i][threads - 1] = lm_tok_hash(t);
            LM_CHECK(lm_tok_id(t, special[1], strlen(special[1])) == 1 && lm_tok_is_eos(t, 0) && lm_tok_type_of(t, 0) == LM_TOK_CONTROL);
            lm_tok_free(t);
        }
        lm_free(c, d);
        lm_free(c, text);
        lm_ctx_free(c);
    }
    for (int i = 0; i < 2; i++) LM_CHECK(h[i][0].lo == h[i][1].lo && h[i][0].lo == h[i][2].lo && h[i][0].hi == h[i][2].hi);
    LM_CHECK(h[0][0].lo != h[1][0].lo);
}

static bool stop_at_300(void *ud, const char *stage, int64_t done, int64_t all) { (void)stage; (void)all; ++*(int *)ud; return done < 300; }

static void test_options(void) {
    lm_ctx *c = tok_ctx(2);
    lm_tok_text d[] = { { "hello hello hello world 12345", 29 }, { "", 0 } };
    lm_tok *t = NULL;
    static const char *const special[] = { "<s>", "</s>", "<pad>" };
    lm_tok_train_opts o = { .vocab = 100 };
    LM_CHECK_ERR(c, lm_tok_train(c, &o, d, 2, &t), LM_E_CONFIG, "wanted 257");
    o = (lm_tok_train_opts){ .vocab = 400,
                             .special = special,
                             .n_special = 3,
                             .bos = "<s>",
                             .eos = "</s>",
                             .pad = "<pad>",
                             .add_bos = true,
                             .pattern = "\\p{L}+|\\p{N}|[^\\p{L}\\p{N}]+" };
    LM_CHECK_OK(c, lm_tok_train(c, &o, d, 2, &t));
    if (t) {
        lm_tok_buf b = { .ctx = c };
        LM_CHECK(lm_tok_bos(t) == 0 && lm_tok_is_eos(t, 1) && lm_tok_pad(t) == 2 && lm_tok_adds_bos(t));
        LM_CHECK_OK(c, lm_tok_encode(t, "hello 12", 8, LM_TOK_ADD, &b));
        LM_CHECK(b.n == 5 && b.id[0] == 0);                /* <s> hello, space, 1, 2 */
        LM_CHECK(lm_tok_vocab(t) == 259 + 8);              /* hello and world: four merges each; nothing else repeats inside a word */
        lm_tok_buf_free(&b);
        lm_tok_free(t);
        t = NULL;
    }
    o.min_count = 2;
    LM_CHECK_OK(c, lm_tok_train(c, &o, d, 2, &t));
    LM_CHECK(t && lm_tok_vocab(t) == 259 + 4);
    lm_tok_free(t);
    t = NULL;
    o.eos = "<nope>";
    LM_CHECK_ERR(c, lm_tok_train(c, &o, d, 2, &t), LM_E_CONFIG, "eos \"<nope>\" is not one of the special tokens");
    o.eos = NULL;
    o.pattern = "(";
    LM_CHECK_ERR(c, lm_tok_train(c, &o, d, 2, &t), LM_E_UNSUPPORTED, "( without )");
    o.pattern = NULL;
    lm_tok_text bad[] = { { "fine", 4 }, { "b\xff", 2 } };
    LM_CHECK_ERR(c, lm_tok_train(c, &o, bad, 2, &t), LM_E_DATA, "document 1 is not UTF-8");
    static const char *const twice[] = { "<s>", "<s>" };
    o = (lm_tok_train_opts){ .vocab = 400, .special = twice, .n_special = 2 };
    LM_CHECK_ERR(c, lm_tok_train(c, &o, d, 2, &t), LM_E_CONFIG, "given twice");
    int calls = 0;
    char *text = NULL;
    size_t n = 0;
    lm_tok_text *lots = lines(c, &text, &n);
    o = (lm_tok_train_opts){ .vocab = 1000, .progress = stop_at_300, .ud = &calls };
    LM_CHECK_ERR(c, lm_tok_train(c, &o, lots, n, &t), LM_E_CANCELLED, "stopped");
    LM_CHECK(calls > 0 && t == NULL);
    lm_free(c, lots);
    lm_free(c, text);
    lm_ctx_free(c);
}

/* Counting in pieces is counting at once. */
static void test_pieces_of_corpus(void) {
    lm_ctx *c = tok_ctx(2);
    char *text = NULL;
    size_t n = 0;
    lm_tok_text *d = lines(c, &text, &n);
    lm_tok_train_opts o = { .vocab = 600, .pattern = "qwen2" };
    lm_tok *a = NULL, *b = NULL;
    lm_tok_trainer *tr = NULL;
    LM_CHECK_OK(c, lm_tok_train(c, &o, d, n, &a));
    LM_NEED_OK(c, lm_tok_trainer_new(c, &o, &tr));
    for (size_t i = n; i > 0;) {                           /* and in another order */
        size_t k = i < 7 ? i : 7;
        i -= k;
        LM_CHECK_OK(c, lm_tok_trainer_add(tr, d + i, k));
    }
    LM_CHECK_OK(c, lm_tok_trainer_finish(tr, &b));
    LM_CHECK_ERR(c, lm_tok_trainer_finish(tr, &b), LM_E_CONFIG, "has finished");
    lm_tok_trainer_free(tr);
    LM_CHECK(a && b && lm_tok_hash(a).lo == lm_tok_hash(b).lo);
    lm_tok_free(a);
    lm_tok_free(b);
    lm_free(c, d);
    lm_free(c, text);
    lm_ctx_free(c);
}

LM_TEST_MAIN(LM_T1(test_same_as_hf), LM_T1(test_options), LM_T1(test_pieces_of_corpus))
