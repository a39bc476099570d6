/* test_lookup.c — speculation by lookup changes no token: greedy and sampled, with penalties, ends and stop strings, from a prompt or a session. */
#include "api/api_int.h"
#include "test.h"

static lm_ctx *ctx;
static loam_model *m;
static bool begin(void) {
    if (m) return true;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 })) return false;
    loam_context c = { .ctx = ctx };
    return !loam_model_open(&m, &c, LM_FIXTURES "/models/llama2-gqa", &(loam_model_options){ .size = sizeof(loam_model_options), .context = 320, .sessions = 2 });
}
static lm_err make(const int32_t *ids, int64_t n, int64_t max, const lm_sample_opts *s, const char *stop, lm_session *on, bool lookup, lm_generation *g) {
    const lm_generate_opts o = { .max_tokens = max, .n = 1, .sample = *s, .stop = &stop, .n_stop = stop != NULL, .lookup = lookup, .guess_always = true, .want_logprobs = true, .session = on };
    return lm_generate(m->e, m->tok.tok, ids, n, &o, g);
}
static bool same(const lm_generation *a, const lm_generation *b) {
    const lm_generated *x = a->out, *y = b->out;
    return x->n == y->n && x->why == y->why && x->text_bytes == y->text_bytes && !memcmp(x->text, y->text, x->text_bytes) && !memcmp(x->tokens, y->tokens, (size_t)x->n * 4) &&
           !memcmp(x->logprobs, y->logprobs, (size_t)x->n * 4);
}
static void test_same(void) {
    if (!begin()) LM_SKIP("no model");
    int64_t drafted = 0, kept = 0, runs = 0;
    for (int c = 0; c < (LM_T_WATCHED ? 24 : 60); c++) {
        int32_t ids[90];
        const int period = 1 + c % 7;
        for (int i = 0; i < 90; i++) ids[i] = (int32_t)(40 + (i % period) * 13 + c);       /* copies of itself: there is much to look up */
        const double temperature[] = { 0, 0.3, 1, 2 };
        lm_sample_opts s = { .temperature = temperature[c % 4], .top_p = c % 3 ? 1 : 0.9, .repetition = c % 5 == 4 ? 1.2 : 1, .top_k = c % 6 == 5 ? 5 : 0, .seed = (uint64_t)c };
        if (c % 8 == 7) s.frequency = 0.3;
        static const float up[] = { 6, 6 };
        const int32_t pair[] = { ids[0], ids[1] };
        if (c % 4 >= 2) { s.bias_id = pair; s.bias = up; s.n_bias = 2; }              /* draws that repeat, so that drafts are often right and often wrong */
        lm_generation a, b;
        const int64_t max = c % 3 == 2 ? 1 + c : 200;
        const char *stop = c % 10 == 9 ? "e" : NULL;
        LM_NEED_OK(ctx, make(ids, 90, max, &s, stop, NULL, false, &a));
        LM_NEED_OK(ctx, make(ids, 90, max, &s, stop, NULL, true, &b));
        if (!same(&a, &b)) { lm_t_fail++; printf("case %d: %lld and %lld tokens differ\n", c, (long long)a.out->n, (long long)b.out->n); }
        LM_CHECK(b.kept <= b.drafted && a.drafted == 0);
        drafted += b.drafted; kept += b.kept; runs++;
        lm_generation_free(&a); lm_generation_free(&b);
    }
    LM_CHECK(drafted > (LM_T_WATCHED ? 200 : 500) && kept > (LM_T_WATCHED ? 40 : 100) && kept < drafted);
    printf("%lld runs: %lld tokens proposed, %lld kept\n", (long long)runs, (long long)drafted, (long long)kept);
}
/* The session is left as plain generation leaves it, also at the end of the context and when stopped in the middle of a draft. */
static int stop_at_20(void *ud, int i, const char *p, size_t n) { (void)i; (void)p; (void)n; return ++*(int *)ud >= 20; }
static void test_session(void) {
    if (!begin()) LM_SKIP("no model");
    int32_t ids[60];
    for (int i = 0; i < 60; i++) ids[i] = 50 + i % 3;
    const float up[] = { 20, 20, 20 };
    const int32_t three[] = { 50, 51, 52 };
    const lm_sample_opts s = { .temperature = 1, .top_p = 1, .repetition = 1, .bias_id = three, .bias = up, .n_bias = 3 };
    for (int k = 0; k < 2; k++) {
        lm_session *x, *y;
        lm_generation a, b;
        LM_NEED_OK(ctx, lm_session_new(&x, m->e));
        LM_NEED_OK(ctx, lm_session_new(&y, m->e));
        LM_NEED_OK(ctx, make(ids, 60, k ? 261 : 40, &s, NULL, x, false, &a));
        LM_NEED_OK(ctx, make(ids, 60, k ? 261 : 40, &s, NULL, y, true, &b));
        LM_CHECK(same(&a, &b) && b.drafted > 0);
        LM_CHECK(lm_session_len(x) == 60 + a.out->n - 1 && lm_session_len(y) == lm_session_len(x) && !memcmp(lm_session_ids(x), lm_session_ids(y), (size_t)lm_session_len(x) * 4));
        lm_generation_free(&a); lm_generation_free(&b);
        if (!k) {
            LM_NEED_OK(ctx, make(ids, 5, 20, &s, NULL, x, false, &a));
            LM_NEED_OK(ctx, make(ids, 5, 20, &s, NULL, y, true, &b));
            LM_CHECK(same(&a, &b));
            lm_generation_free(&a); lm_generation_free(&b);
            int calls = 0;
            const int64_t before = lm_session_len(y);
            const lm_generate_opts o = { .max_tokens = 100, .n = 1, .sample = s, .lookup = true, .guess_always = true, .session = y, .text = stop_at_20, .ud = &calls };
            LM_NEED_OK(ctx, lm_generate(m->e, m->tok.tok, ids, 3, &o, &a));
            LM_CHECK(a.out->why == LM_STOP_CANCELLED && lm_session_len(y) == before + 3 + a.out->n - 1);
            lm_generation_free(&a);
        }
        lm_session_free(x); lm_session_free(y);
    }
    loam_generate_options bad = LOAM_GENERATE_DEFAULTS;
    bad.speculate = "magic";
    LM_CHECK(loam_generate(m, "a", 1, &bad, NULL) == LOAM_E_CONFIG && strstr(lm_error(ctx), "no proposer is called \"magic\""));
}
LM_TEST_MAIN(LM_T1(test_same), LM_T1(test_session))
