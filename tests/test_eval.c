/* test_eval.c — perplexity: equal to transformers in float64 over several windows, and to sums made here from plain logits. */
#include <math.h>
#include "data_test.h"
#include "eval/perplexity.h"
#include "format/json.h"

typedef struct {
    lm_ctx *ctx;
    lm_weights *w;
    lm_store *store;
    lm_engine *e;
    lm_tok *tok;
    json_t *v;
    lm_jv root;
    const char *text;
    size_t n;
    int32_t *ids;
    int64_t n_ids;
    size_t base;
} rig;
static lm_err rig_new(rig *r, const char *model, int threads, int64_t context) {
    char path[700];
    *r = (rig){0};
    r->ctx = t_ctx(threads);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    r->base = l.total_now;
    snprintf(path, sizeof path, "%s/models/%s", LM_FIXTURES, model);
    LM_TRY(lm_weights_open(&r->w, r->ctx, path));
    LM_TRY(lm_store_new(&r->store, r->ctx));
    LM_TRY(lm_weights_load(r->w, r->store, &(lm_load_opts){ .dtype = LM_F32 }));
    LM_TRY(lm_engine_new(&r->e, r->ctx, lm_weights_cfg(r->w), r->store,
                         &(lm_engine_opts){ .context = context, .chunk = 50, .mm = LM_F32, .kv = LM_F32 }));
    snprintf(path, sizeof path, "%s/models/gpt2", LM_FIXTURES);
    LM_TRY(lm_tok_open(r->ctx, path, NULL, &r->tok));
    snprintf(path, sizeof path, "%s/eval/perplexity.json", LM_FIXTURES);
    LM_TRY(lm_json_load(r->ctx, path, 0, &r->v));
    r->root = lm_json_root(r->ctx, "perplexity.json", r->v);
    LM_TRY(lm_json_str(&r->root, "text", LM_JSON_NEED, NULL, &r->text, &r->n));
    lm_jv a, x;
    LM_TRY(lm_json_arr(&r->root, "ids", LM_JSON_NEED, &a));
    r->n_ids = (int64_t)lm_json_len(&a);
    r->ids = calloc((size_t)r->n_ids, sizeof *r->ids);
    for (int64_t i = 0, v = 0; i < r->n_ids; i++, r->ids[i - 1] = (int32_t)v) {
        LM_TRY(lm_json_item(&a, (size_t)i, &x));
        LM_TRY(lm_json_as_int(&x, 0, 319, &v));
    }
    return LM_OK;
}
static void rig_free(rig *r) {
    lm_json_free(r->v);
    free(r->ids);
    lm_tok_free(r->tok);
    lm_engine_free(r->e);
    lm_store_free(r->store);
    lm_weights_close(r->w);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    LM_CHECK(l.total_now == r->base);
    lm_ctx_free(r->ctx);
}
static void test_transformers(void) {
    static const char *const models[] = { "gpt2", "llama3" };
    for (int m = 0; m < 2; m++) {
        rig r;
        lm_jv all, rows, row;
        LM_NEED_OK(r.ctx, rig_new(&r, models[m], 2, 264));
        lm_tok_buf b = { .ctx = r.ctx };
        LM_CHECK_OK(r.ctx, lm_tok_encode(r.tok, r.text, r.n, 0, &b));
        LM_CHECK((int64_t)b.n == r.n_ids && !memcmp(b.id, r.ids, b.n * sizeof *b.id));
        lm_tok_buf_free(&b);
        LM_NEED_OK(r.ctx, lm_json_obj(&r.root, "models", LM_JSON_NEED, &all));
        LM_NEED_OK(r.ctx, lm_json_arr(&all, models[m], LM_JSON_NEED, &rows));
        LM_CHECK(lm_json_len(&rows) > 8);
        for (size_t i = 0; i < lm_json_len(&rows); i += LM_T_WATCHED ? 4 : 1) {
            int64_t window, stride, bos, tokens;
            double nll;
            lm_perplexity p;
            LM_NEED_OK(r.ctx, lm_json_item(&rows, i, &row));
            LM_NEED_OK(r.ctx, lm_json_int(&row, "window", LM_JSON_NEED, 0, 0, 1000, &window));
            LM_NEED_OK(r.ctx, lm_json_int(&row, "stride", LM_JSON_NEED, 0, 0, 1000, &stride));
            LM_NEED_OK(r.ctx, lm_json_int(&row, "bos", LM_JSON_NEED, 0, -1, 1000, &bos));
            LM_NEED_OK(r.ctx, lm_json_int(&row, "tokens", LM_JSON_NEED, 0, 0, 1000, &tokens));
            LM_NEED_OK(r.ctx, lm_json_num(&row, "nll", LM_JSON_NEED, 0, 0, 1e9, &nll));
            lm_perplexity_opts o = { .window = window, .stride = stride, .add_bos = bos >= 0 };
            LM_CHECK_OK(r.ctx, lm_eval_perplexity_ids(r.ctx, r.e, r.ids, r.n_ids, (int32_t)bos, &o, &p));
            LM_CHECK(p.tokens == tokens);
            LM_CHECK_NEAR(p.nll / nll, 1, 2e-6);
            LM_CHECK_NEAR(p.ppl, exp(nll / (double)tokens), 1e-4 * p.ppl);
            if (bos >= 0) continue;
            lm_perplexity q;
            LM_CHECK_OK(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &q));
            LM_CHECK(q.nll == p.nll && q.tokens == p.tokens && q.docs == 1);
        }
        rig_free(&r);
    }
}
typedef struct { const int32_t *ids; int64_t n, V; double nll; } naive;
static lm_err naive_row(void *ud, int q, int64_t i, const float *logits) {
    naive *c = ud; (void)q;
    if (i + 1 >= c->n) return LM_OK;
    double z = 0;
    for (int64_t v = 0; v < c->V; v++) z += exp((double)logits[v]);
    c->nll += log(z) - (double)logits[c->ids[i + 1]];
    return LM_OK;
}
/* Documents of a file are scored apart; sums, bytes and rates add up; threads change no bit. */
static void test_documents(void) {
    lm_perplexity first = {0};
    for (int threads = 1; threads <= 7; threads += 3) {
        rig r;
        LM_NEED_OK(r.ctx, rig_new(&r, "llama3", threads, 300));
        t_doc *d = t_docs(9, 120, 40);
        d[8].p = realloc(d[8].p, 2);
        memcpy(d[8].p, "a", 2);
        d[8].n = 1;                                                      /* one token: nothing to score */
        t_write_jsonl(t_path("docs.jsonl"), d, 9);
        double nll = 0;
        int64_t tokens = 0, bytes = 0;
        for (int i = 0; i < 9; i++) {
            lm_tok_buf b = { .ctx = r.ctx };
            lm_session *s;
            LM_NEED_OK(r.ctx, lm_tok_encode(r.tok, d[i].p, d[i].n, 0, &b));
            LM_NEED_OK(r.ctx, lm_session_new(&s, r.e));
            naive c = { b.id, (int64_t)b.n, 320, 0 };
            LM_CHECK_OK(r.ctx, lm_engine_run(r.e, &(lm_request){ s, b.id, (int64_t)b.n, LM_WANT_ALL }, 1, naive_row, &c));
            size_t k = 0;
            if (b.n) lm_tok_piece(r.tok, b.id[0], &k);
            nll += c.nll;
            tokens += b.n ? (int64_t)b.n - 1 : 0;
            bytes += (int64_t)(d[i].n - k);
            lm_session_free(s);
            lm_tok_buf_free(&b);
        }
        lm_perplexity p;
        LM_CHECK_OK(r.ctx, lm_eval_perplexity_file(r.ctx, r.e, r.tok, t_path("docs.jsonl"), NULL, &p));
        LM_CHECK(p.docs == 9 && p.tokens == tokens && p.bytes == bytes && p.window == 300 && p.stride == 150);
        LM_CHECK_NEAR(p.nll, nll, 1e-5 * nll);
        LM_CHECK_NEAR(p.bits_per_byte, nll / log(2) / (double)bytes, 1e-4);
        if (threads == 1) first = p;
        LM_CHECK(p.nll == first.nll);
        t_write(t_path("one.txt"), r.text, r.n);
        lm_perplexity a, b;
        lm_perplexity_opts o = { .window = 40, .stride = 10 };
        LM_CHECK_OK(r.ctx, lm_eval_perplexity_file(r.ctx, r.e, r.tok, t_path("one.txt"), &o, &a));
        LM_CHECK_OK(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &b));
        LM_CHECK(a.nll == b.nll && a.bytes == b.bytes);
        t_docs_free(d, 9);
        rig_free(&r);
    }
    t_done();
}
typedef struct { int64_t calls, done, total, stop_at; } watch;
static bool watching(void *ud, int64_t done, int64_t total, double rate, double nll) {
    watch *w = ud;
    LM_CHECK(done > w->done && done <= total && rate >= 0 && nll > 0);
    w->calls++; w->done = done; w->total = total;
    return done < w->stop_at;
}
static void test_progress_and_errors(void) {
    rig r;
    LM_NEED_OK(r.ctx, rig_new(&r, "gpt2", 1, 128));
    watch w = { .stop_at = 1 << 30 };
    lm_perplexity p = { .nll = -1 };
    lm_perplexity_opts o = { .window = 64, .stride = 16, .progress = watching, .ud = &w };
    LM_CHECK_OK(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p));
    LM_CHECK(w.calls == 1 + (r.n_ids - 64 + 15) / 16 && w.done == w.total && w.total == r.n_ids - 1);
    w = (watch){ .stop_at = 100 };
    p.nll = -1;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CANCELLED, "stopped after");
    LM_CHECK(p.nll == -1);
    o.progress = NULL;
    o.stride = 65;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CONFIG, "stride is 65");
    o.stride = -1;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CONFIG, "stride is -1");
    o.stride = 0; o.window = 129;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CONFIG, "context holds 128");
    o.window = 1;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CONFIG, "at least 2");
    o.window = 0; o.add_bos = true;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p), LM_E_CONFIG, "no BOS");
    o.add_bos = false;
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, "", 0, &o, &p), LM_E_DATA, "no token to score");
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, "a", 1, &o, &p), LM_E_DATA, "two tokens");
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, "\xff", 1, &o, &p), LM_E_DATA, "UTF-8");
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity_ids(r.ctx, r.e, (int32_t[]){ 1, 320, 2 }, 3, -1, &o, &p), LM_E_RANGE, "320");
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity_file(r.ctx, r.e, r.tok, t_path("none"), &o, &p), LM_E_NOTFOUND, "none");
    t_write(t_path("bad.jsonl"), "{\"text\": \"ab\"}\n{\n", 17);
    LM_CHECK_ERR(r.ctx, lm_eval_perplexity_file(r.ctx, r.e, r.tok, t_path("bad.jsonl"), &o, &p), LM_E_DATA, "bad.jsonl:2");
    LM_CHECK(p.nll == -1);
    /* a session that could not be freed would keep its pages */
    LM_CHECK_OK(r.ctx, lm_eval_perplexity(r.ctx, r.e, r.tok, r.text, r.n, &o, &p));
    t_write(t_path("good.jsonl"), "{\"text\": \"the seed in the soil\"}\n", 33);
    for (uint64_t k = 1; k < 200; k++) {
        lm_mem_fail_at(r.ctx, k, true);
        lm_err e = lm_eval_perplexity_file(r.ctx, r.e, r.tok, t_path("good.jsonl"), &o, &p);
        lm_mem_fail_at(r.ctx, 0, false);
        if (!e) { LM_CHECK(k > 10); break; }
        LM_CHECK(e == LM_E_NOMEM);
    }
    rig_free(&r);
    t_done();
}
/* By hand; and a model against itself and against a coarser copy. */
static void test_divergence(void) {
    lm_ctx *ctx = t_ctx(1);
    lm_divergence d;
    /* p = (1/2, 1/4, 1/4), q = (1/4, 1/2, 1/4): KL = 1/2 ln 2 - 1/4 ln 2; the other place is equal, whatever is added to its logits */
    const float p[] = { 0.69314718f, 0, 0 }, q[] = { 5, 5.69314718f, 5 }, r[] = { 5.69314718f, 5, 5 }, bad[] = { 0, NAN, 0 }, none[] = { -INFINITY, 0, 0 };
    lm_divergence_begin(&d, ctx);
    LM_CHECK_OK(ctx, lm_divergence_add(&d, p, q, 3, 0));
    LM_CHECK_OK(ctx, lm_divergence_add(&d, p, r, 3, 1));
    LM_CHECK_OK(ctx, lm_divergence_add(&d, none, q, 3, 1));                   /* p = (0, 1/2, 1/2), q = (1/4, 1/2, 1/4): 1/2 ln 2 */
    LM_CHECK_ERR(ctx, lm_divergence_add(&d, bad, q, 3, 0), LM_E_DATA, "reference");
    LM_CHECK_ERR(ctx, lm_divergence_add(&d, p, none, 3, 0), LM_E_DATA, "infinite");
    lm_divergence_end(&d);
    LM_CHECK(d.tokens == 3 && d.same_top == 1 + 1);                           /* of two alike the first counts */
    LM_CHECK(fabs(d.mean - (0.25 + 0 + 0.5) * 0.6931471806 / 3) < 1e-7 && fabs(d.median - 0.25 * 0.6931471806) < 1e-7);
    LM_CHECK(fabs(d.largest - 0.5 * 0.6931471806) < 1e-7);
    LM_CHECK(fabs(d.nll - (log(4) + log(4) + log(2))  ) < 1e-6 && fabs(d.nll_reference - (log(2) + log(4) + log(2))) < 1e-6);
    lm_ctx_free(ctx);
    rig a, b;
    LM_NEED_OK(a.ctx, rig_new(&a, "llama3", 2, 64));
    LM_NEED_OK(b.ctx, rig_new(&b, "gpt2", 1, 64));
    lm_engine *half = NULL, *twin = NULL;
    LM_CHECK_OK(a.ctx, lm_engine_new(&twin, a.ctx, lm_weights_cfg(a.w), a.store, &(lm_engine_opts){ .context = 64, .chunk = 9, .mm = LM_F32, .kv = LM_F32 }));
    LM_CHECK_OK(a.ctx, lm_engine_new(&half, a.ctx, lm_weights_cfg(a.w), a.store, &(lm_engine_opts){ .context = 64, .chunk = 7, .mm = LM_BF16, .kv = LM_BF16 }));
    lm_perplexity plain, with;
    lm_perplexity_opts o = { .window = 40, .stride = 15 };
    LM_CHECK_OK(a.ctx, lm_eval_perplexity_ids(a.ctx, a.e, a.ids, a.n_ids, -1, &o, &plain));
    for (int k = 0; k < 2; k++) {
        lm_divergence_begin(&d, a.ctx);
        o.against = k ? half : twin; o.divergence = &d;
        LM_CHECK_OK(a.ctx, lm_eval_perplexity_ids(a.ctx, a.e, a.ids, a.n_ids, -1, &o, &with));
        lm_divergence_end(&d);
        LM_CHECK(with.tokens == plain.tokens && d.tokens == plain.tokens && fabs(with.nll - plain.nll) < 1e-5 * plain.nll);
        if (!k) LM_CHECK(d.largest < 1e-12 && d.same_top == d.tokens && fabs(d.nll - d.nll_reference) < 1e-9);
        else LM_CHECK(d.mean > 0 && d.mean < 0.01 && d.largest >= d.p99 && d.p99 >= d.median && fabs(d.nll_reference - d.nll) < 0.01 * d.nll);
    }
    if (lm_weights_cfg(b.w)->vocab != lm_weights_cfg(a.w)->vocab) {
        o.against = b.e;
        LM_CHECK_ERR(a.ctx, lm_eval_perplexity_ids(a.ctx, a.e, a.ids, a.n_ids, -1, &o, &with), LM_E_MISMATCH, "vocabulary");
    }
    lm_engine_free(half); lm_engine_free(twin);
    rig_free(&b); rig_free(&a);
}
LM_TEST_MAIN(LM_T1(test_divergence), LM_T1(test_transformers), LM_T1(test_documents), LM_T1(test_progress_and_errors))
