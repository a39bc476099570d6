/* test_data_loader.c — mixing rule and loader against plain re-implementations. */
#include "data/mix.h"
#include "data_test.h"

/* ---- mixing ---- */
static void check_mix(const double *w, int n) {
    lm_ctx *ctx = t_ctx(1);
    lm_mix m;
    double sum = 0, worst = 0, far = 0;
    LM_NEED_OK(ctx, lm_mix_new(ctx, w, n, &m));
    uint64_t *seen = calloc((size_t)n, sizeof *seen);
    for (int i = 0; i < n; i++) sum += w[i];
    const uint64_t all = 2 * (uint64_t)m.period + 17;
    for (uint64_t i = 0; i < all; i++) {
        uint64_t k;
        int s = lm_mix_at(&m, i, &k);
        if (k != seen[s]) { LM_CHECK(k == seen[s]); break; }
        seen[s]++;
        for (int j = 0; j < n; j++) {
            double share = (double)m.share[j] / m.period;
            worst = fmax(worst, fabs((double)seen[j] - share * (double)(i + 1)));
        }
    }
    for (int j = 0; j < n; j++) far = fmax(far, fabs((double)m.share[j] / m.period - w[j] / sum));
    if (!(worst < 1) || !(far < 1.0 / 65536)) { lm_t_fail++; printf("n %d: a source is %g draws off; a share is %g off\n", n, worst, far); }
    free(seen);
    lm_mix_free(ctx, &m);
    lm_ctx_free(ctx);
}
static void test_mix(void) {
    const double a[] = { 1 }, b[] = { 0.7, 0.3 }, c[] = { 1, 1, 1 }, d[] = { 3.14159, 2.71828, 0.57721, 0.01 }, e[] = { 1e-4, 1 },
                 f[] = { 0.9, 0.05, 0.03, 0.02 };
    check_mix(a, 1); check_mix(b, 2); check_mix(c, 3); check_mix(d, 4); check_mix(e, 2); check_mix(f, 4);
    lm_rng r = lm_rng_of(3, "weights");
    for (int k = 0; k < 6; k++) {
        double w[13];
        int n = 2 + 2 * k;
        for (int i = 0; i < n; i++) w[i] = 0.02 + lm_rng_double(r, (uint64_t)(k * 20 + i));
        check_mix(w, n);
    }
    lm_ctx *ctx = t_ctx(1);
    lm_mix m;
    LM_NEED_OK(ctx, lm_mix_new(ctx, b, 2, &m));
    LM_CHECK(m.period == 10 && m.share[0] == 7 && m.share[1] == 3);
    lm_mix_free(ctx, &m);
    LM_CHECK_ERR(ctx, lm_mix_new(ctx, (double[]){ 1, 1e-6 }, 2, &m), LM_E_CONFIG, "source 1");
    LM_CHECK_ERR(ctx, lm_mix_new(ctx, (double[]){ 1, -1 }, 2, &m), LM_E_CONFIG, "positive");
    LM_CHECK_ERR(ctx, lm_mix_new(ctx, (double[]){ NAN, 1 }, 2, &m), LM_E_CONFIG, "positive");
    LM_CHECK_ERR(ctx, lm_mix_new(ctx, (double[]){ 1e308, 1e308 }, 2, &m), LM_E_CONFIG, "add up");
    lm_ctx_free(ctx);
}

/* ---- a corpus known token by token ---- */
typedef struct { lm_ctx *ctx; lm_tok *tok; lm_shards *s; int32_t *id; int64_t *doc_of; int64_t n, docs; } corpus;
static lm_err corpus_new(corpus *c, lm_ctx *ctx, int n_docs, size_t most, int64_t shard_tokens, uint64_t seed) {
    *c = (corpus){ .ctx = ctx, .tok = t_tok(ctx, 257) };
    t_doc *d = t_docs(n_docs, most, seed);
    char in[64], out[64];
    snprintf(in, sizeof in, "in%d.jsonl", (int)seed);
    snprintf(out, sizeof out, "out%d", (int)seed);
    t_write_jsonl(t_path(in), d, n_docs);
    int32_t eos = lm_tok_eos(c->tok, &(int){0})[0];
    for (int i = 0; i < n_docs; i++) {
        if (!d[i].n) continue;
        lm_tok_buf b = { .ctx = ctx };
        LM_TRY(lm_tok_encode(c->tok, d[i].p, d[i].n, 0, &b));
        c->id = realloc(c->id, (size_t)(c->n + (int64_t)b.n + 1) * sizeof *c->id);
        c->doc_of = realloc(c->doc_of, (size_t)(c->n + (int64_t)b.n + 1) * sizeof *c->doc_of);
        for (size_t k = 0; k <= b.n; k++) { c->id[c->n] = k < b.n ? b.id[k] : eos; c->doc_of[c->n++] = c->docs; }
        c->docs++;
        lm_tok_buf_free(&b);
    }
    t_docs_free(d, n_docs);
    const char *paths[] = { t_path(in) };
    lm_tokenize_opts o = { .out = t_path(out), .in = paths, .n_in = 1, .shard_tokens = shard_tokens, .add_eos = true };
    LM_TRY(lm_data_tokenize(ctx, c->tok, &o));
    return lm_shards_open(&c->s, ctx, t_path(out));
}
static void corpus_free(corpus *c) { lm_shards_close(c->s); lm_tok_free(c->tok); free(c->id); free(c->doc_of); }

static void test_get(void) {
    lm_ctx *ctx = t_ctx(2);
    corpus c;
    LM_NEED_OK(ctx, corpus_new(&c, ctx, 60, 90, 300, 1));
    LM_CHECK(lm_shards_tokens(c.s) == c.n);
    LM_CHECK(lm_shards_docs(c.s) == c.docs);
    LM_CHECK(c.s->n > 3);
    int32_t *x = malloc((size_t)c.n * sizeof *x);
    for (int64_t from = 0; from < c.n; from += 37)
        for (int64_t n = 0; n <= c.n - from; n += 101) {
            LM_CHECK_OK(ctx, lm_shards_get(c.s, from, n, x));
            LM_CHECK(!memcmp(x, c.id + from, (size_t)n * sizeof *x));
        }
    for (int64_t t = 0; t < c.n; t++) {
        int64_t at = lm_shards_doc_start(c.s, t);
        LM_CHECK(c.doc_of[at] == c.doc_of[t] && (at == 0 || c.doc_of[at - 1] != c.doc_of[t]));
    }
    LM_CHECK(lm_shards_doc_start(c.s, -1) == -1 && lm_shards_doc_start(c.s, c.n) == -1);
    LM_CHECK_ERR(ctx, lm_shards_get(c.s, c.n, 1, x), LM_E_RANGE, "tokens");
    LM_CHECK_ERR(ctx, lm_shards_get(c.s, 0, c.n + 1, x), LM_E_RANGE, "tokens");
    LM_CHECK_ERR(ctx, lm_shards_get(c.s, INT64_MAX, INT64_MAX, x), LM_E_RANGE, "tokens");
    LM_CHECK_OK(ctx, lm_shards_verify(c.s));
    free(x);
    corpus_free(&c);
    lm_ctx_free(ctx);
    t_done();
}

/* Which window a row is: the corpus is random enough that ids tell. -1: none. */
static int64_t find_window(const corpus *c, int64_t first, int64_t count, const int32_t *row, int64_t seq) {
    for (int64_t w = 0; w < count / seq; w++) if (!memcmp(c->id + first + w * seq, row, (size_t)seq * sizeof *row)) return w;
    return -1;
}
static void check_row(const corpus *c, const lm_batch *b, int64_t r, int64_t at, int64_t end, bool mask, int64_t *targets) {
    int64_t seq = b->seq, row = r * seq;
    int bad = 0;
    for (int64_t t = 0; t < seq; t++) {
        int64_t i = row + t, g = at + t, from = t;
        while (from > 0 && (!mask || c->doc_of[at + from - 1] == c->doc_of[g])) from--;
        bool none = g + 1 >= end || (mask && c->doc_of[g + 1] != c->doc_of[g]);
        int32_t target = none ? -1 : c->id[g + 1];
        *targets += target >= 0;
        bad += b->tokens[i] != c->id[g] || b->target[i] != target || b->pos[i] != t - from || b->start[i] != row + from;
    }
    LM_CHECK(bad == 0);
}
static void check_loader(corpus *c, int64_t first, int64_t count, int64_t seq, bool mask, bool shuffle) {
    lm_ctx *ctx = c->ctx;
    lm_source src = { c->s, 2.5, first, count };
    int64_t n = count ? count : c->n - first, windows = n / seq;
    lm_loader *l;
    lm_batch b;
    LM_NEED_OK(ctx, lm_loader_new(&l, ctx,
                                  &(lm_loader_opts){
                                      .sources = &src, .n_source = 1, .seq = seq, .seed = 42, .mask_docs = mask, .shuffle = shuffle }));
    LM_CHECK(lm_loader_epoch_seqs(l) == windows);
    LM_NEED_OK(ctx, lm_batch_alloc(ctx, &b, 3, seq));
    int *seen = calloc((size_t)windows * 2, sizeof *seen);
    int64_t *order = calloc((size_t)windows * 2 + 3, sizeof *order), moved = 0, same = 0;
    for (int64_t i = 0; i < 2 * windows; i += 3) {                     /* two epochs, batches that straddle them */
        LM_NEED_OK(ctx, lm_loader_fill(l, &b, (uint64_t)i));
        int64_t targets = 0;
        for (int64_t r = 0; r < 3; r++) {
            int64_t w = find_window(c, first, n, b.tokens + r * seq, seq);
            if (w < 0) { LM_CHECK(w >= 0); goto done; }
            if (i + r < 2 * windows) { seen[(i + r) / windows * windows + w]++; order[i + r] = w; moved += w != (i + r) % windows; }
            check_row(c, &b, r, first + w * seq, first + n, mask, &targets);
        }
        LM_CHECK(b.n_target == targets);
    }
    for (int64_t i = 0; i < 2 * windows; i++) LM_CHECK(seen[i] == 1);  /* every window exactly once in each epoch */
    for (int64_t i = 0; i < windows; i++) same += order[i] == order[i + windows];
    if (shuffle && windows > 12) LM_CHECK(moved > windows && same < windows / 2);
    if (!shuffle) LM_CHECK(moved == 0);
done:
    free(seen);
    free(order);
    lm_batch_free(ctx, &b);
    lm_loader_free(l);
}
static void test_windows(void) {
    lm_ctx *ctx = t_ctx(1);
    corpus c;
    LM_NEED_OK(ctx, corpus_new(&c, ctx, 90, 151, 1000, 2));
    for (int mask = 0; mask < 2; mask++)
        for (int shuffle = 0; shuffle < 2; shuffle++) {
            check_loader(&c, 0, 0, 64, mask, shuffle);
            check_loader(&c, 0, 0, 257, mask, shuffle);
            check_loader(&c, 333, 64 * 20, 64, mask, shuffle);         /* ends inside: the last target would be held-out text */
            check_loader(&c, c.n - 500, 500, 100, mask, shuffle);
            check_loader(&c, 5, 77, 77, mask, shuffle);
        }
    corpus_free(&c);
    lm_ctx_free(ctx);
    t_done();
}
/* Documents shorter and longer than a window, one-token windows, a document per shard. */
static void test_odd_documents(void) {
    lm_ctx *ctx = t_ctx(1);
    corpus c;
    LM_NEED_OK(ctx, corpus_new(&c, ctx, 40, 9, 1, 3));
    LM_CHECK(c.s->n == c.docs);
    lm_batch b;
    lm_loader *l;
    lm_source src = { c.s, 1, 0, 0 };
    const int64_t lengths[] = { 1, 2, 3, 7, 50 };
    for (int k = 0; k < LM_COUNT(lengths); k++) {
        int64_t seq = lengths[k], n = c.n / seq, targets = 0;
        LM_NEED_OK(ctx, lm_loader_new(&l, ctx, &(lm_loader_opts){ .sources = &src, .n_source = 1, .seq = seq, .mask_docs = true }));
        LM_NEED_OK(ctx, lm_batch_alloc(ctx, &b, n, seq));
        LM_CHECK_OK(ctx, lm_loader_fill(l, &b, 0));
        for (int64_t r = 0; r < n; r++) check_row(&c, &b, r, r * seq, c.n, true, &targets);
        LM_CHECK(b.n_target == targets);
        lm_batch_free(ctx, &b);
        lm_loader_free(l);
    }
    corpus_free(&c);
    lm_ctx_free(ctx);
    t_done();
}
static bool rows_equal(const lm_batch *a, int64_t ra, const lm_batch *b, int64_t rb) {
    int64_t n = a->seq, x = ra * n, y = rb * n;
    for (int64_t t = 0; t < n; t++)
        if (a->tokens[x + t] != b->tokens[y + t] || a->target[x + t] != b->target[y + t] || a->pos[x + t] != b->pos[y + t] ||
            a->start[x + t] - (int32_t)x != b->start[y + t] - (int32_t)y)
            return false;
    return true;
}
/* Resuming at i is continuing; any number of ranks sees the same sequences; two loaders agree; shares are kept in each batch. */
static void test_stream(void) {
    lm_ctx *ctx = t_ctx(1);
    corpus c[3];
    LM_NEED_OK(ctx, corpus_new(&c[0], ctx, 60, 200, 0, 4));
    LM_NEED_OK(ctx, corpus_new(&c[1], ctx, 20, 150, 500, 5));
    LM_NEED_OK(ctx, corpus_new(&c[2], ctx, 10, 90, 100, 6));
    enum { T = 33, N = 4000 };
    lm_source src[3] = { { c[0].s, 0.5, 0, 0 }, { c[1].s, 0.3, 10, 0 }, { c[2].s, 0.2, 0, 0 } };
    lm_loader_opts o = { .sources = src, .n_source = 3, .seq = T, .seed = 9, .mask_docs = true, .shuffle = true };
    lm_loader *l, *again, *other;
    LM_NEED_OK(ctx, lm_loader_new(&l, ctx, &o));
    LM_NEED_OK(ctx, lm_loader_new(&again, ctx, &o));
    o.seed = 10;
    LM_NEED_OK(ctx, lm_loader_new(&other, ctx, &o));
    lm_batch all, part, one;
    LM_NEED_OK(ctx, lm_batch_alloc(ctx, &all, N, T));
    LM_NEED_OK(ctx, lm_batch_alloc(ctx, &part, 8, T));
    LM_NEED_OK(ctx, lm_batch_alloc(ctx, &one, 1, T));
    LM_CHECK_OK(ctx, lm_loader_fill(l, &all, 0));
    int bad = 0, differs = 0;
    for (int64_t step = 0; step < N / 24; step++)                      /* three ranks of eight */
        for (int64_t rank = 0; rank < 3; rank++) {
            LM_CHECK_OK(ctx, lm_loader_fill(again, &part, (uint64_t)(step * 24 + rank * 8)));
            for (int64_t r = 0; r < 8; r++) bad += !rows_equal(&part, r, &all, step * 24 + rank * 8 + r);
        }
    for (int64_t i = N; i-- > 0;) {                                    /* backwards: nothing is remembered */
        LM_CHECK_OK(ctx, lm_loader_fill(again, &one, (uint64_t)i));
        bad += !rows_equal(&one, 0, &all, i);
        LM_CHECK_OK(ctx, lm_loader_fill(other, &one, (uint64_t)i));
        differs += !rows_equal(&one, 0, &all, i);
    }
    LM_CHECK(bad == 0);
    LM_CHECK(differs > N / 2);
    int64_t got[3] = {0};
    for (int64_t i = 0; i < N; i++)
        for (int k = 0; k < 3; k++) {
            int64_t first = src[k].first, n = c[k].n - first;
            if (find_window(&c[k], first, n, all.tokens + i * T, T) < 0) continue;
            got[k]++;
            for (int j = 0; j < 3; j++) LM_CHECK(j > k || fabs((double)got[j] - src[j].weight * (double)(i + 1)) < 2);
            break;
        }
    LM_CHECK(got[0] == N / 2 && got[1] == 3 * N / 10 && got[2] == N / 5);
    LM_CHECK_OK(ctx, lm_loader_fill(l, &one, (uint64_t)1 << 62));       /* O(1), however far */
    LM_CHECK_ERR(ctx, lm_loader_fill(l, &one, UINT64_MAX), LM_E_RANGE, "too large");
    lm_batch_free(ctx, &all); lm_batch_free(ctx, &part); lm_batch_free(ctx, &one);
    lm_loader_free(l); lm_loader_free(again); lm_loader_free(other);
    for (int k = 0; k < 3; k++) corpus_free(&c[k]);
    lm_ctx_free(ctx);
    t_done();
}
static void test_errors(void) {
    lm_ctx *ctx = t_ctx(1);
    corpus c;
    LM_NEED_OK(ctx, corpus_new(&c, ctx, 10, 50, 0, 7));
    lm_loader *l = NULL;
    lm_batch b = {0};
    lm_source src = { c.s, 1, 0, 0 };
    lm_loader_opts o = { .sources = &src, .n_source = 1, .seq = c.n + 1 };
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_DATA, "not one sequence");
    o.seq = 0;
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_CONFIG, "at least 1");
    o.seq = 8; src.first = c.n + 1;
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_RANGE, "source 0");
    src.first = 1; src.count = c.n;
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_RANGE, "source 0");
    src.count = 0; src.weight = 0;
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_CONFIG, "weight");
    o.n_source = 0;
    LM_CHECK_ERR(ctx, lm_loader_new(&l, ctx, &o), LM_E_CONFIG, "sources");
    LM_CHECK(!l);
    LM_CHECK_ERR(ctx, lm_batch_alloc(ctx, &b, 1 << 20, 1 << 20), LM_E_RANGE, "2^31");
    LM_CHECK_ERR(ctx, lm_batch_alloc(ctx, &b, 0, 1), LM_E_RANGE, "at least one");
    src.weight = 1; o.n_source = 1;
    LM_NEED_OK(ctx, lm_loader_new(&l, ctx, &o));
    LM_NEED_OK(ctx, lm_batch_alloc(ctx, &b, 2, 9));
    LM_CHECK_ERR(ctx, lm_loader_fill(l, &b, 0), LM_E_SHAPE, "9 tokens");
    lm_batch_free(ctx, &b);
    lm_loader_free(l);
    /* every allocation may fail */
    for (uint64_t k = 1;; k++) {
        lm_ledger before, after;
        lm_mem_ledger(ctx, &before);
        lm_mem_fail_at(ctx, k, true);
        lm_loader *x = NULL;
        lm_err e = lm_loader_new(&x, ctx, &o);
        lm_mem_fail_at(ctx, 0, false);
        lm_mem_ledger(ctx, &after);
        if (!e) { lm_loader_free(x); LM_CHECK(k > 4); break; }
        LM_CHECK(e == LM_E_NOMEM && !x && before.total_now == after.total_now);
    }
    corpus_free(&c);
    lm_ctx_free(ctx);
    t_done();
}
LM_TEST_MAIN(LM_T1(test_mix), LM_T1(test_get), LM_T1(test_windows), LM_T1(test_odd_documents), LM_T1(test_stream), LM_T1(test_errors))
