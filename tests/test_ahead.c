/* test_ahead.c — greedy steps that begin before the host has seen the one before: on the fake device, which runs late and out of turn, the tokens, the sessions
 * and what an error leaves behind are those of one step after another, and a text that ends ends where it did. */
#include "fake_dev.h"
#include "infer/generate.h"
#include "test.h"

/* the fake device's rows are the processor's, and the portable ones: so both sides choose alike */
const lm_kernel *__real_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features);
const lm_kernel *__wrap_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features);
static bool on_card;
const lm_kernel *__wrap_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features) {
    if (on_card) return __real_lm_kernel_choose(op, c, dev, features);
    return __real_lm_kernel_choose(op, c, LM_DEV_CPU, dev == LM_DEV_CUDA ? LM_CPU_PORTABLE : features);
}
enum { V = 12, S = 4, MOST = 200 };
typedef struct { lm_ctx *ctx; lm_dev *dev; lm_store *store; lm_cfg c; lm_engine *e; lm_tok *tok; } rig;
static lm_err rig_new(rig *r, const lm_engine_opts *o, uint64_t seed, bool stepwise) {
    static const char text[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"d\":3,\"e\":4,\"f\":5,\"g\":6,\"h\":7,\"i\":8,\"j\":9,\"k\":10,\"l\":11},\"merges\":[]}}";
    *r = (rig){ .c = { .model = lm_model_by_name("llama"), .vocab = V, .d = 48, .n_layer = 2, .n_head = 4, .n_kv = 2, .d_head = 12, .d_ff = 100, .max_pos = 256, .eps = 1e-5,
                       .init_std = 0.6, .tie = true, .bos = -1, .hf_type = "llama" } };
    r->c.rope.d_head = 12; r->c.rope.base = 10000; r->c.rope.max_pos = 256;
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    r->dev = fake_open(r->ctx, seed);
    r->dev->stepwise = stepwise;
    LM_TRY(lm_tok_open_mem(r->ctx, "tokenizer.json", text, sizeof text - 1, NULL, &r->tok));
    LM_TRY(lm_store_new(&r->store, r->ctx));
    LM_TRY(lm_model_init(r->ctx, &r->c, r->store, 5));
    lm_engine_opts eo = *o;
    eo.dev = r->dev; eo.mm = eo.kv = LM_F32; eo.max_seqs = S; eo.chunk = 32;
    return lm_engine_new(&r->e, r->ctx, &r->c, r->store, &eo);
}
static void rig_free(rig *r) {
    lm_engine_free(r->e); lm_store_free(r->store); lm_tok_free(r->tok);
    r->dev->close(r->dev);
    lm_ctx_free(r->ctx);
}
/* what came: choices by request and step; stop_at: go_on says no behind that many steps; fail_at: row fails in that one */
typedef struct { int32_t id[S][MOST]; int n[S], stop_at, fail_at; } sink;
static lm_err row(void *ud, int r, const lm_peak_row *p, const float *logits) {
    sink *k = ud;
    LM_CHECK(!logits && p->n == 1 && !p->bad);
    if (k->n[r] + 1 == k->fail_at && r == 1) return LM_E_CANCELLED;
    k->id[r][k->n[r]++] = (int32_t)p->id[0];
    return LM_OK;
}
static bool go_on(void *ud) { const sink *k = ud; return k->n[0] != k->stop_at; }
static lm_err one(void *ud, int r, const lm_peak_row *p, const float *logits) {
    sink *k = ud; (void)logits;
    LM_CHECK(p->n >= 1);
    k->id[r][k->n[r]++] = (int32_t)p->id[0];
    return LM_OK;
}
static lm_err none(void *ud, int r, int64_t i, const float *l) { (void)ud; (void)r; (void)i; (void)l; return LM_OK; }
/* Sessions of different lengths, the second of which comes to a page's end at once. */
static void begin(rig *r, lm_session **s, int n) {
    static const int64_t len[S] = { 3, 64, 61, 20 };
    int32_t ids[64];
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 64; k++) ids[k] = (k * k + 3 * i + k) % V;
        LM_NEED_OK(r->ctx, lm_session_new(&s[i], r->e));
        LM_NEED_OK(r->ctx, lm_engine_run(r->e, &(lm_request){ s[i], ids, len[i], LM_WANT_NONE }, 1, none, NULL));
    }
}
static void end(lm_session **s, int n) { for (int i = 0; i < n; i++) lm_session_free(s[i]); }
static const int32_t first_id[S] = { 1, 2, 3, 4 };
static void ask(lm_session **s, lm_request *q, int n, const int32_t *id) { for (int i = 0; i < n; i++) q[i] = (lm_request){ s[i], &id[i], 1, LM_WANT_LAST }; }
/* One step after another: the truth. */
static void plain(rig *r, int n, int steps, sink *k, lm_session **s) {
    static const lm_near near[S];
    int32_t id[S];
    lm_request q[S];
    memset(k, 0, sizeof *k);
    memcpy(id, first_id, sizeof id);
    begin(r, s, n);
    for (int i = 0; i < steps; i++) {
        ask(s, q, n, id);
        LM_NEED_OK(r->ctx, lm_engine_choose(r->e, q, n, near, one, k));
        for (int j = 0; j < n; j++) id[j] = k->id[j][i];
    }
}
static void test_tokens(void) {
    for (uint64_t seed = 1; seed < 4; seed++)
        for (int stepwise = 0; stepwise < 2; stepwise++) {
            rig r;
            static const int ns[] = { 1, 2, 4 }, steps[] = { 1, 2, 5, 130 };
            LM_NEED_OK(NULL, rig_new(&r, &(lm_engine_opts){0}, seed, stepwise));
            const int64_t pages = lm_engine_free_pages(r.e);
            for (int a = 0; a < LM_COUNT(ns); a++)
                for (int b = 0; b < LM_COUNT(steps); b++) {
                    static sink want, got;
                    lm_session *s[S], *t[S];
                    lm_request q[S];
                    const int n = ns[a];
                    plain(&r, n, steps[b], &want, s);
                    int64_t len[S];
                    int32_t ids[S][256];
                    for (int i = 0; i < n; i++) { len[i] = lm_session_len(s[i]); memcpy(ids[i], lm_session_ids(s[i]), (size_t)len[i] * 4); }
                    end(s, n);
                    for (int stop = 0; stop < 2; stop++) {              /* by `most`, and by go_on with a step too many in flight */
                        memset(&got, 0, sizeof got);
                        got.stop_at = stop ? steps[b] : 0;
                        begin(&r, t, n);
                        ask(t, q, n, first_id);
                        LM_CHECK_OK(r.ctx, lm_engine_greedy(r.e, q, n, stop ? MOST : steps[b], row, go_on, &got));
                        for (int i = 0; i < n; i++) {
                            LM_CHECK(got.n[i] == steps[b] && !memcmp(got.id[i], want.id[i], (size_t)steps[b] * 4));
                            LM_CHECK(lm_session_len(t[i]) == len[i] && !memcmp(lm_session_ids(t[i]), ids[i], (size_t)len[i] * 4));
                        }
                        end(t, n);
                    }
                    LM_CHECK(lm_engine_free_pages(r.e) == pages);
                }
            rig_free(&r);
        }
}
/* Steps end where pages or the context do, and the next call says why; an error leaves the sessions as they were, and they go on as if nothing had been. */
static void test_ends(void) {
    rig r;
    static sink want, got;
    lm_session *s[S];
    lm_request q[S];
    LM_NEED_OK(NULL, rig_new(&r, &(lm_engine_opts){ .context = 100, .kv_tokens = 4 * 64 }, 7, false));
    plain(&r, 2, 30, &want, s);
    end(s, 2);
    memset(&got, 0, sizeof got);
    begin(&r, s, 2);                                                    /* 3 and 64 tokens: the second takes a third page, and ends at 100 */
    ask(s, q, 2, first_id);
    LM_CHECK_OK(r.ctx, lm_engine_greedy(r.e, q, 2, MOST, row, go_on, &got));
    LM_CHECK(got.n[0] == 36 && lm_session_len(s[1]) == 100 && lm_session_len(s[0]) == 39 && !memcmp(got.id[1], want.id[1], 30 * 4));
    const int32_t id[2] = { got.id[0][35], got.id[1][35] };
    ask(s, q, 2, id);
    LM_CHECK_ERR(r.ctx, lm_engine_greedy(r.e, q, 2, MOST, row, go_on, &got), LM_E_RANGE, "do not fit the context of 100");
    end(s, 2);
    begin(&r, s, 3);                                                    /* 3, 64 and 61: pages 1, 1 and 1; the fourth is the second's, and then none is left for the third */
    ask(s, q, 3, first_id);
    memset(&got, 0, sizeof got);
    LM_CHECK_OK(r.ctx, lm_engine_greedy(r.e, q, 3, MOST, row, go_on, &got));
    LM_CHECK(got.n[2] == 3 && lm_session_len(s[2]) == 64 && lm_engine_free_pages(r.e) == 0);
    const int32_t three[3] = { got.id[0][2], got.id[1][2], got.id[2][2] };
    ask(s, q, 3, three);
    LM_CHECK_ERR(r.ctx, lm_engine_greedy(r.e, q, 3, MOST, row, go_on, &got), LM_E_NOMEM, "the key-value pool is full: 1 pages are needed, 0 are free");
    LM_CHECK(lm_session_len(s[2]) == 64);
    end(s, 3);
    for (int fail = 1; fail < 4; fail++) {
        begin(&r, s, 2);
        const int64_t pages = lm_engine_free_pages(r.e);
        ask(s, q, 2, first_id);
        memset(&got, 0, sizeof got);
        got.fail_at = fail;
        LM_CHECK(lm_engine_greedy(r.e, q, 2, MOST, row, go_on, &got) == LM_E_CANCELLED);
        LM_CHECK(lm_session_len(s[0]) == 3 && lm_session_len(s[1]) == 64 && lm_engine_free_pages(r.e) == pages);
        memset(&got, 0, sizeof got);
        LM_CHECK_OK(r.ctx, lm_engine_greedy(r.e, q, 2, 30, row, go_on, &got));
        LM_CHECK(!memcmp(got.id[0], want.id[0], 30 * 4) && !memcmp(got.id[1], want.id[1], 30 * 4));
        end(s, 2);
    }
    begin(&r, s, 1);
    q[0] = q[1] = (lm_request){ s[0], first_id, 1, LM_WANT_LAST };
    LM_CHECK_ERR(r.ctx, lm_engine_greedy(r.e, q, 2, 5, row, go_on, &got), LM_E_MISMATCH, "its session is in an earlier request");
    q[0].n = 2;
    LM_CHECK_ERR(r.ctx, lm_engine_greedy(r.e, q, 1, 5, row, go_on, &got), LM_E_RANGE, "has 2 tokens");
    q[0].n = 1;
    LM_CHECK_ERR(r.ctx, lm_engine_greedy(r.e, q, S + 1, 5, row, go_on, &got), LM_E_UNSUPPORTED, "as many sessions as one run takes");
    end(s, 1);
    rig_free(&r);
}
/* A whole text: its length, an end token, a stop string and a caller that has had enough end it where they end it on the processor. */
typedef struct { int at, seen; } enough;
static int hear(void *ud, int i, const char *bytes, size_t n) { enough *k = ud; (void)i; (void)bytes; k->seen += (int)n; return k->at && k->seen >= k->at; }
static void test_texts(void) {
    rig r;
    LM_NEED_OK(NULL, rig_new(&r, &(lm_engine_opts){0}, 9, false));
    lm_engine *cpu;
    LM_NEED_OK(r.ctx, lm_engine_new(&cpu, r.ctx, &r.c, r.store, &(lm_engine_opts){ .max_seqs = S, .chunk = 32, .mm = LM_F32, .kv = LM_F32, .features = LM_CPU_PORTABLE }));
    static const int32_t prompt[] = { 3, 1, 4 };
    lm_generation whole;
    LM_NEED_OK(r.ctx, lm_generate(cpu, r.tok, prompt, 3, &(lm_generate_opts){ .max_tokens = 150, .n = 1, .sample = { .repetition = 1, .typical = 1 } }, &whole));
    const int32_t last = whole.out[0].tokens[40];
    char stop[4] = { whole.out[0].text[70], whole.out[0].text[71], whole.out[0].text[72], 0 };
    const char *const stops[] = { stop };
    const lm_generate_opts o[] = { { .max_tokens = 150, .n = 1 },
                                   { .max_tokens = 1, .n = 1 },
                                   { .max_tokens = 150, .n = 3 },
                                   { .max_tokens = 150, .n = 1, .end = &last, .n_end = 1 },
                                   { .max_tokens = 150, .n = 2, .stop = stops, .n_stop = 1 },
                                   { .max_tokens = 150, .n = 1, .text = hear },
                                   { .max_tokens = 60, .n = 2, .sample = { .temperature = 0.9, .min_p = 0.05, .top_p = 1, .seed = 4 } },
                                   { .max_tokens = 60, .n = 2, .sample = { .top_k = 1, .temperature = 1, .seed = 4 } } };
    for (int i = 0; i < LM_COUNT(o); i++) {
        lm_generate_opts go = o[i];
        lm_generation a, b;
        enough ka = { .at = 33 }, kb = { .at = 33 };
        go.sample.repetition = go.sample.typical = 1;
        if (!go.sample.top_p) go.sample.top_p = 1;
        go.ud = &ka;
        LM_NEED_OK(r.ctx, lm_generate(cpu, r.tok, prompt, 3, &go, &a));
        go.ud = &kb;
        LM_NEED_OK(r.ctx, lm_generate(r.e, r.tok, prompt, 3, &go, &b));
        for (int k = 0; k < go.n; k++) {
            LM_CHECK(a.out[k].n == b.out[k].n && a.out[k].why == b.out[k].why && !memcmp(a.out[k].tokens, b.out[k].tokens, (size_t)a.out[k].n * 4));
            LM_CHECK(a.out[k].text_bytes == b.out[k].text_bytes && !memcmp(a.out[k].text, b.out[k].text, a.out[k].text_bytes));
        }
        LM_CHECK(ka.seen == kb.seen);
        if (i == 3) LM_CHECK(b.out[0].why == LM_STOP_EOS && b.out[0].n <= 41);
        if (i == 4) LM_CHECK(b.out[0].why == LM_STOP_STRING);
        if (i == 5) LM_CHECK(b.out[0].why == LM_STOP_CANCELLED && b.out[0].n == 33);
        lm_generation_free(&a); lm_generation_free(&b);
    }
    lm_generation_free(&whole);
    lm_engine_free(cpu);
    rig_free(&r);
}
/* On a card: sessions of several lengths side by side, where every logit has three twins, in its tile and far away: the choices of steps in flight are those of one
 * step after another, and these the least of the largest logits. */
enum { CARD_V = 13000, CARD_S = 64, CARD_STEPS = 24 };
typedef struct { int32_t id[CARD_S][CARD_STEPS]; int n[CARD_S]; bool least; } card_sink;
static lm_err card_row(void *ud, int r, const lm_peak_row *p, const float *logits) {
    card_sink *k = ud; (void)logits;
    LM_CHECK(!p->bad);
    if (p->n > 0) k->id[r][k->n[r]++] = (int32_t)p->id[0];
    return LM_OK;
}
static lm_err card_logits(void *ud, int r, int64_t i, const float *x) {
    card_sink *k = ud; (void)i;
    int32_t best = 0;
    for (int32_t v = 1; v < CARD_V; v++) if (x[v] > x[best]) best = v;
    k->id[r][k->n[r]++] = best;
    return LM_OK;
}
static bool card_go_on(void *ud) { const card_sink *k = ud; return k->n[0] < CARD_STEPS; }
/* how: 0 steps in flight, 1 one after another, 2 by all logits */
static void card_run(lm_ctx *ctx, lm_engine *e, int n, int how, card_sink *k) {
    static const lm_near near[CARD_S];
    lm_session *s[CARD_S];
    lm_request q[CARD_S];
    int32_t ids[200], id[CARD_S];
    memset(k, 0, sizeof *k);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < 200; j++) ids[j] = (j * j * 7 + i * j + i) % CARD_V;
        LM_NEED_OK(ctx, lm_session_new(&s[i], e));
        LM_NEED_OK(ctx, lm_engine_run(e, &(lm_request){ s[i], ids, 1 + (i * 37 + 60) % 190, LM_WANT_NONE }, 1, none, NULL));
        id[i] = i;
    }
    for (int step = 0; step < (how ? CARD_STEPS : 1); step++) {
        ask(s, q, n, id);
        if (!how) LM_CHECK_OK(ctx, lm_engine_greedy(e, q, n, MOST, card_row, card_go_on, k));
        else if (how == 1) LM_CHECK_OK(ctx, lm_engine_choose(e, q, n, near, card_row, k));
        else LM_CHECK_OK(ctx, lm_engine_run(e, q, n, card_logits, k));
        for (int i = 0; i < n; i++) id[i] = k->id[i][step];
    }
    end(s, n);
}
static void test_on_card(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    on_card = true;
    lm_ctx *ctx; lm_dev *dev; lm_store *f, *w;
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = CARD_V, .d = 512, .n_layer = 2, .n_head = 8, .n_kv = 2, .d_head = 64, .d_ff = 1096,
                 .max_pos = 256, .eps = 1e-5, .init_std = 0.05, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 256;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    LM_NEED_OK(ctx, lm_store_new(&f, ctx)); LM_NEED_OK(ctx, lm_store_new(&w, ctx));
    LM_NEED_OK(ctx, lm_model_init(ctx, &c, f, 5));
    for (int i = 0; i < lm_store_count(f); i++) {
        lm_tensor t, u;
        const char *name = lm_store_name(f, i, &t);
        if (strstr(name, "embed_tokens")) for (int64_t k = 0; k < CARD_V; k++) memcpy((float *)t.data + k * 512, (float *)t.data + k % (CARD_V / 2) / 2 * 2 * 512, 512 * 4);
        const lm_type type = lm_type_make(t.rank == 2 ? LM_BF16 : LM_F32, t.rank, t.dim);
        LM_NEED_OK(ctx, lm_store_add(w, name, &type, LM_PLAIN, LM_MEM_WEIGHTS, &u));
        lm_convert(u.data, (lm_dtype)u.dtype, t.data, LM_F32, lm_numel(&t));
    }
    static card_sink in_flight, after, all;
    static const int n[] = { 1, 3, 16, 40, CARD_S };
    for (int mode = 0; mode < 2; mode++) {
        lm_engine *e;
        LM_NEED_OK(ctx, lm_engine_new(&e, ctx, &c, w, &(lm_engine_opts){ .dev = dev, .mm = LM_BF16, .kv = LM_BF16, .max_seqs = CARD_S, .chunk = 64, .rows = CARD_S, .deterministic = mode }));
        for (int i = 0; i < LM_COUNT(n); i++) {
            card_run(ctx, e, n[i], 0, &in_flight); card_run(ctx, e, n[i], 1, &after); card_run(ctx, e, n[i], 2, &all);
            for (int k = 0; k < n[i]; k++) {
                LM_CHECK(in_flight.n[k] == CARD_STEPS && after.n[k] == CARD_STEPS);
                LM_CHECK(!memcmp(in_flight.id[k], after.id[k], sizeof after.id[k]) && !memcmp(after.id[k], all.id[k], sizeof all.id[k]));
            }
        }
        lm_engine_free(e);
    }
    lm_store_free(f); lm_store_free(w); lm_dev_close(dev); lm_ctx_free(ctx);
}
/* Deterministic mode: rows that do not say how they treat a row beside many others (the processor's names are not a device's) keep runs at 64 of them. */
static void test_rows_that_do_not_say(void) {
    rig r;
    lm_engine *e;
    LM_NEED_OK(NULL, rig_new(&r, &(lm_engine_opts){ .context = 256 }, 3, false));
    for (int mode = 0; mode < 2; mode++) {
        LM_NEED_OK(r.ctx, lm_engine_new(&e, r.ctx, &r.c, r.store, &(lm_engine_opts){ .dev = r.dev, .mm = LM_F32, .kv = LM_F32, .context = 256, .chunk = 200, .deterministic = mode }));
        LM_CHECK(lm_engine_opts_of(e)->chunk == (mode ? 64 : 200));
        lm_session *s;
        int32_t ids[190];
        for (int k = 0; k < 190; k++) ids[k] = (k * k + k) % V;
        LM_NEED_OK(r.ctx, lm_session_new(&s, e));
        LM_CHECK_OK(r.ctx, lm_engine_run(e, &(lm_request){ s, ids, 190, LM_WANT_ALL }, 1, none, NULL));
        lm_session_free(s); lm_engine_free(e);
    }
    rig_free(&r);
}
LM_TEST_MAIN(LM_T1(test_on_card), LM_T1(test_rows_that_do_not_say), LM_T1(test_tokens), LM_T1(test_ends), LM_T1(test_texts))
