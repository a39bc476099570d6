/* test_api.c — the public interface, as a program outside would use it: train, open, write, score, fork, save. */
#include "loam.h"
#include "test.h"
#include <unistd.h>

static char dir[64];
static const char text[] = "the cat sat on the mat. the dog sat on the log. the cat saw the dog and the dog saw the cat. ";
static int steps;
static void on_event(void *ud, const loam_train_event *e) { (void)ud; if (e->step > steps) steps = (int)e->step; LM_CHECK(e->size == sizeof *e); }
static char *path(const char *name) {
    static char p[4][128];
    static int i;
    i = (i + 1) % 4;
    snprintf(p[i], sizeof p[i], "%s/%s", dir, name);
    return p[i];
}
static loam_context *context(void) {
    loam_context *c = NULL;
    const loam_context_options o = { .size = sizeof o, .threads = 2 };
    LM_CHECK(!loam_context_new(&c, &o));
    return c;
}
static void test_train(void) {
    snprintf(dir, sizeof dir, "/tmp/loam-api-XXXXXX");
    LM_CHECK(mkdtemp(dir) != NULL);
    FILE *f = fopen(path("text.txt"), "w");
    for (int i = 0; i < 60; i++) fputs(text, f);
    fclose(f);
    char data[160], out[160];
    snprintf(data, sizeof data, "data.path=%s", path("text.txt")); snprintf(out, sizeof out, "out=%s", path("run"));
    const char *set[] = { data,
                          out,
                          "data.seq=64",
                          "tokenizer.vocab=280",
                          "model.d=64",
                          "model.n_layer=2",
                          "model.n_head=4",
                          "model.max_pos=128",
                          "train.steps=40",
                          "train.batch=4",
                          "optim.lr=0.01",
                          "train.checkpoint_every=20",
                          "train.val_every=20" };
    loam_context *c = context();
    const loam_train_options o = { .size = sizeof o, .on_event = on_event };
    int e = loam_train(c, NULL, set, LM_COUNT(set), &o);
    if (e) printf("%s\n", loam_error(c));
    LM_CHECK(!e && steps == 40);
    LM_CHECK(loam_train(c, NULL, set, LM_COUNT(set), &o) == LOAM_E_CONFIG && strstr(loam_error(c), "already holds a run"));
    const char *bad[] = { "train.stepz=3" };
    LM_CHECK(loam_train(c, NULL, bad, 1, NULL) == LOAM_E_CONFIG && strstr(loam_error(c), "train.steps"));
    loam_context_free(c);
}
static char heard[4096]; static size_t n_heard;
static int hear(void *ud, int i, const char *p, size_t n) {
    (void)ud;
    (void)i;
    if (n_heard + n < sizeof heard) {
        memcpy(heard + n_heard, p, n);
        n_heard += n;
    }
    return 0;
}
static void test_write_and_score(void) {
    loam_context *c = context();
    loam_model *m = NULL;
    LM_CHECK(loam_model_open(&m, c, path("nothing"), NULL) != LOAM_OK && *loam_error(c));
    if (loam_model_open(&m, c, path("run"), NULL)) { LM_CHECK(false); printf("%s\n", loam_error(c)); return; }
    loam_generate_options o = LOAM_GENERATE_DEFAULTS;
    o.temperature = 0; o.max_tokens = 20; o.on_text = hear;
    loam_text t, again;
    LM_CHECK(!loam_generate(m, "the cat ", 8, &o, &t));
    LM_CHECK(t.bytes == n_heard && !memcmp(t.text, heard, n_heard) && t.n_tokens == 20);
    o.on_text = NULL;
    LM_CHECK(!loam_generate(m, "the cat ", 8, &o, &again));
    LM_CHECK_STR(t.text, again.text);
    loam_text_free(&t); loam_text_free(&again);
    /* Two texts at once; log-probabilities are those that scoring gives. */
    loam_text two[2];
    o.n = 2;
    loam_model *wide = NULL;
    LM_CHECK(!loam_model_open(&wide, c, path("run"), &(loam_model_options){ .size = sizeof(loam_model_options), .sessions = 2 }));
    o.logprobs = 3;
    LM_CHECK(!loam_generate(wide, "the cat ", 8, &o, two));
    LM_CHECK_STR(two[0].text, two[1].text);
    LM_CHECK(two[0].n_top == 2 && two[0].prompt_tokens > 0);
    int32_t all[64]; size_t np = 64; float lp[64]; float *rows = malloc(64 * (size_t)loam_model_vocab(wide) * sizeof *rows);
    LM_CHECK(!loam_encode(loam_model_tokenizer(wide), "the cat ", 8, LOAM_ADD, all, &np) && np == (size_t)two[0].prompt_tokens);
    memcpy(all + np, two[0].tokens, 20 * sizeof *all);
    loam_session *q;
    LM_CHECK(!loam_session_new(&q, wide) && !loam_session_score(q, all, np + 20, lp));
    LM_CHECK(!loam_session_truncate(q, 0) && !loam_session_logits(q, all, np + 20, rows));
    for (size_t i = 0; i < 20; i++) {
        LM_CHECK(two[0].logprobs[i] == lp[np + i] && two[0].top_tokens[2 * i] == two[0].tokens[i] &&
                 two[0].top_logprobs[2 * i] == two[0].logprobs[i]);
        const float *at = rows + (np + i - 1) * (size_t)loam_model_vocab(wide);
        for (int64_t k = 0; k < loam_model_vocab(wide); k++) LM_CHECK(at[k] <= at[two[0].tokens[i]]);
    }
    size_t len;
    LM_CHECK(loam_token_text(loam_model_tokenizer(wide), two[0].tokens[0], &len) && len > 0 &&
             !loam_token_text(loam_model_tokenizer(wide), 1 << 20, &len));
    free(rows); loam_session_free(q); loam_text_free(&two[0]); loam_text_free(&two[1]); loam_model_free(wide);

    const loam_tokenizer *tok = loam_model_tokenizer(m);
    int32_t ids[256]; size_t n = 256, bytes = 0;
    LM_CHECK(!loam_encode(tok, text, strlen(text), 0, ids, &n));
    LM_CHECK(!loam_decode(tok, ids, n, LOAM_SPECIAL, NULL, &bytes) && bytes == strlen(text));
    char back[256]; bytes = sizeof back;
    LM_CHECK(!loam_decode(tok, ids, n, LOAM_SPECIAL, back, &bytes));
    LM_CHECK_STR(back, text);
    size_t little = 2;
    LM_CHECK(loam_encode(tok, text, strlen(text), 0, ids, &little) == LOAM_E_RANGE && little == n);

    /* The whole at once, or a prefix, saved and loaded, forked, cut back and continued: the same log-probabilities. */
    loam_session *s, *f, *l;
    float a[256], b[256];
    if (n > 60) n = 60;
    LM_CHECK(!loam_session_new(&s, m) && !loam_session_score(s, ids, n, a));
    loam_session_free(s);
    LM_CHECK(!loam_session_new(&s, m) && !loam_session_extend(s, ids, 10, NULL) && !loam_session_save(s, path("s.kv")));
    loam_session_free(s);
    LM_CHECK(!loam_session_load(&l, m, path("s.kv")) && loam_session_length(l) == 10);
    LM_CHECK(!loam_session_truncate(l, 7));
    loam_session_free(l);
    LM_CHECK(!loam_session_new(&s, m) && !loam_session_extend(s, ids, 9, NULL) && !loam_session_truncate(s, 0) && !loam_session_score(s, ids, n, b));
    for (size_t i = 1; i < n; i++) LM_CHECK(a[i] == b[i]);
    int forked = loam_session_fork(&f, s);                            /* a pool of one session may have no page for the copy */
    LM_CHECK(forked == LOAM_OK || forked == LOAM_E_NOMEM);
    if (!forked) { LM_CHECK(loam_session_length(f) == (int64_t)n); loam_session_free(f); }
    loam_session_free(s);
    loam_model_free(m); loam_context_free(c);
}
static void test_vectors(void) {
    loam_context *c = context();
    loam_embedder *e = NULL;
    const char *const texts[] = { "the sea", "A ship at anchor, and no wind.", "x" };
    const size_t bytes[] = { 7, 30, 1 };
    LM_CHECK(loam_embedder_open(&e, c, LM_FIXTURES "/nowhere", NULL) == LOAM_E_NOTFOUND && !e);
    LM_CHECK(loam_embedder_open(&e, c, LM_FIXTURES "/embed/tiny-bert", &(loam_embedder_options){ .size = sizeof(loam_embedder_options), .pool = "middle" }) == LOAM_E_CONFIG);
    LM_CHECK(strstr(loam_error(c), "middle") != NULL);
    LM_CHECK(loam_embedder_open(&e, c, LM_FIXTURES "/embed/tiny-bert", &(loam_embedder_options){ .size = 3 }) == LOAM_E_CONFIG);
    LM_CHECK(!loam_embedder_open(&e, c, LM_FIXTURES "/embed/tiny-bert", &(loam_embedder_options){ .size = sizeof(loam_embedder_options), .normalize = 1 }));
    const size_t d = (size_t)loam_embedder_width(e);
    float *v = calloc(3 * d, sizeof *v), *one = calloc(d, sizeof *one);
    LM_CHECK(!loam_embed(e, texts + 2, bytes + 2, 1, one));                   /* short ones first: the plan grows with what comes */
    LM_CHECK(!loam_embed(e, texts, bytes, 3, v));
    LM_CHECK(!memcmp(one, v + 2 * d, d * sizeof *v));
    LM_CHECK(!loam_embed(e, texts + 1, bytes + 1, 1, one) && !memcmp(one, v + d, d * sizeof *v));
    double length = 0;
    for (size_t i = 0; i < d; i++) length += (double)v[i] * (double)v[i];
    LM_CHECK(length > 0.9999 && length < 1.0001);
    char *many = malloc(4 * (size_t)loam_embedder_longest(e) + 1);
    for (int64_t i = 0; i < loam_embedder_longest(e); i++) memcpy(many + 4 * i, "sea ", 5);
    LM_CHECK(loam_embed(e, (const char *const *)&many, (size_t[]){ strlen(many) }, 1, v) == LOAM_E_RANGE);
    LM_CHECK(!loam_embed(e, texts, bytes, 3, v));                              /* and goes on */
    free(many); free(v); free(one);
    loam_embedder_free(e); loam_context_free(c);
}
static void test_clean_up(void) {
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir);
    LM_CHECK(!strncmp(dir, "/tmp/loam-api-", 14) && system(cmd) == 0);
}
LM_TEST_MAIN(LM_T1(test_train), LM_T1(test_write_and_score), LM_T1(test_vectors), LM_T1(test_clean_up))
