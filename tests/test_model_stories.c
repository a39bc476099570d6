/* test_model_stories.c — a real model, stories260K: the text that llama2.c writes from it, byte for byte, from both of its file formats,
 * and from what we make of it. */
#include <unistd.h>
#include "base/file.h"
#include "infer/infer.h"
#include "op/xent/xent.h"
#include "test.h"
#include "tok/tok.h"

enum { STEPS = 200, N = STEPS + 1 };                          /* BOS and 200 more */
static const char *data_dir(void) { return getenv("LOAM_DATA"); }
static const char *at(const char *name) {
    static char buf[4][1200]; static int k;
    char *p = buf[k++ % 4];
    snprintf(p, sizeof buf[0], "%s/weights/stories260K/%s", data_dir(), name);
    return p;
}
typedef struct { int64_t V; int32_t id; float *row; } last;
static lm_err keep(void *ud, int q, int64_t i, const float *z) {
    last *k = ud; (void)q; (void)i;
    k->id = 0;
    for (int64_t v = 1; v < k->V; v++) if (z[v] > z[k->id]) k->id = (int32_t)v;
    return LM_OK;
}
/* Greedy ids from BOS, and the mean negative log-probability of `text` (n ids, BOS first) if given. */
static lm_err run(lm_ctx *ctx, const char *path, const lm_load_opts *o, int32_t *ids, const int32_t *text, int n, double *nll) {
    lm_weights *w; lm_store *s = NULL; lm_engine *e = NULL; lm_session *t = NULL, *u = NULL;
    LM_TRY(lm_weights_open(&w, ctx, path));
    lm_err err;
    float lp[N];
    LM_GOTO(lm_store_new(&s, ctx), done);
    LM_GOTO(lm_weights_load(w, s, o), done);
    LM_GOTO(lm_engine_new(&e, ctx, lm_weights_cfg(w), s, &(lm_engine_opts){ .max_seqs = 2, .mm = LM_F32, .kv = LM_F32 }), done);
    LM_GOTO(lm_session_new(&t, e), done);
    last k = { .V = lm_weights_cfg(w)->vocab, .id = lm_weights_cfg(w)->bos };
    for (int i = 0; ids && i < STEPS; i++) {
        const int32_t id = k.id;
        const lm_request q = { t, &id, 1, LM_WANT_LAST };
        ids[i] = id;
        LM_GOTO(lm_engine_run(e, &q, 1, keep, &k), done);
        ids[i + 1] = k.id;
    }
    if (nll) {
        LM_GOTO(lm_session_new(&u, e), done);
        LM_GOTO(lm_engine_score(e, u, text, n, lp), done);
        *nll = 0;
        for (int i = 1; i < n; i++) *nll -= (double)lp[i] / (n - 1);
    }
    err = LM_OK;
done:
    lm_session_free(t); lm_session_free(u); lm_engine_free(e); lm_store_free(s); lm_weights_close(w);
    return err;
}
static void check_text(lm_ctx *ctx, const lm_tok *tok, const char *what, const int32_t *ids) {
    char *want; size_t n;
    lm_str got = { .ctx = ctx };
    LM_NEED_OK(ctx, lm_file_read_all(ctx, at("expected_greedy_200.txt"), 1 << 16, &want, &n));
    LM_CHECK_OK(ctx, lm_tok_decode(tok, ids, N, 0, &got));
    while (n && want[n - 1] == '\n') n--;                     /* the file's last line break is the file's */
    if (got.n < n || memcmp(got.p, want, n)) { lm_t_fail++; printf("%s wrote:\n%s\nwanted:\n%s\n", what, got.p ? got.p : "", want); }
    LM_CHECK(got.n == n);
    lm_str_free(&got); lm_free(ctx, want);
}
static void test_stories(void) {
    if (!data_dir()) LM_SKIP("LOAM_DATA is not set");
    lm_ctx *ctx; lm_tok *tok; lm_ledger l;
    char dir[600], hf[700], gguf[700];
    const char *tmp = getenv("TMPDIR");
    if (lm_ctx_new(&ctx, NULL)) abort();
    lm_mem_ledger(ctx, &l);
    const size_t base = l.total_now;
    snprintf(dir, sizeof dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) abort();
    snprintf(hf, sizeof hf, "%s/hf", dir); snprintf(gguf, sizeof gguf, "%s/s.gguf", dir);
    LM_NEED_OK(ctx, lm_tok_open(ctx, at("tok512.bin"), NULL, &tok));
    int32_t a[N], b[N];
    const lm_load_opts plain = { .dtype = LM_F32 }, panels = { .dtype = LM_F32, .panels = true };
    LM_CHECK_OK(ctx, run(ctx, at("stories260K.bin"), &plain, a, NULL, 0, NULL));
    check_text(ctx, tok, "the legacy file", a);
    LM_CHECK_OK(ctx, run(ctx, at("stories260K_v1.bin"), &panels, b, NULL, 0, NULL));
    check_text(ctx, tok, "version 1", b);
    LM_CHECK(!memcmp(a, b, sizeof a));

    lm_weights *w; lm_store *s;
    LM_NEED_OK(ctx, lm_weights_open(&w, ctx, at("stories260K.bin")));
    LM_CHECK_STR(lm_weights_kind(w), "llama2c");
    LM_CHECK(lm_weights_count(w) == 2 + 9 * 5);
    LM_NEED_OK(ctx, lm_store_new(&s, ctx));
    LM_NEED_OK(ctx, lm_weights_load(w, s, &panels));
    LM_CHECK_OK(ctx, lm_model_save_hf(ctx, lm_weights_cfg(w), s, hf, LM_F32, 0));
    LM_CHECK_OK(ctx, run(ctx, hf, &plain, b, NULL, 0, NULL));
    LM_CHECK(!memcmp(a, b, sizeof a));
    LM_CHECK_OK(ctx, lm_model_save_gguf(ctx, lm_weights_cfg(w), s, gguf, LM_F32, NULL, NULL, NULL));
    lm_store_free(s);

    double f32, q;
    LM_CHECK_OK(ctx, run(ctx, hf, &plain, NULL, a, N, &f32));
    LM_CHECK_OK(ctx, run(ctx, gguf, &panels, NULL, a, N, &q));
    LM_CHECK(q == f32);
    static const struct { const char *name; double more; } formats[] = { { "Q8_0", 0.01 }, { "Q5_0", 0.1 }, { "Q4_0", 0.3 } };
    for (int i = 0; i < LM_COUNT(formats); i++) {              /* its down projections, 172 wide, stay floats */
        LM_CHECK_OK(ctx, run(ctx, hf, &(lm_load_opts){ .dtype = LM_F32, .quant = lm_quant_by_name(formats[i].name), .quant_embed = true },
                             NULL, a, N, &q));
        if (!(fabs(q - f32) <= formats[i].more && q != f32)) {
            lm_t_fail++;
            printf("%s: %.4f nats a token, f32 has %.4f\n", formats[i].name, q, f32);
        }
        if (getenv("LOAM_PARITY")) printf("%s: %.5f nats a token on its own text, f32 %.5f\n", formats[i].name, q, f32);
    }
    LM_CHECK_OK(ctx, run(ctx, hf, &(lm_load_opts){ .dtype = LM_BF16, .panels = true }, NULL, a, N, &q));
    LM_CHECK_NEAR(q, f32, 0.01);
    lm_weights_close(w); lm_tok_free(tok);
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, dir));
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.total_now == base);
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_stories))
