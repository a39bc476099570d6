/* test_infer.c — sessions: forks, cuts, saved files and failures leave the numbers of a plain timeline. */
#include <math.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "infer/infer.h"
#include "quant/quant.h"
#include "op/xent/xent.h"
#include "test.h"

enum { V = 97, N = 150 };
typedef struct { lm_ctx *ctx; lm_store *store; lm_cfg c; lm_engine *e; size_t base; } rig;
static void rig_free(rig *r) {
    lm_engine_free(r->e); lm_store_free(r->store);
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    LM_CHECK(l.total_now == r->base);                    /* nothing is left behind, after errors too */
    lm_ctx_free(r->ctx);
}
static lm_err rig_new(rig *r, const lm_engine_opts *o) {
    *r = (rig){ .c = { .model = lm_model_by_name("llama"),
                       .vocab = V,
                       .d = 48,
                       .n_layer = 2,
                       .n_head = 4,
                       .n_kv = 2,
                       .d_head = o->kv_quant ? 32 : 12,                    /* pages in blocks want whole blocks */
                       .d_ff = 100,
                       .max_pos = 256,
                       .eps = 1e-5,
                       .init_std = 0.2,
                       .tie = true,
                       .bos = -1,
                       .hf_type = "llama" } };
    r->c.rope.d_head = r->c.d_head; r->c.rope.base = 10000; r->c.rope.max_pos = 256;
    LM_TRY(lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    lm_ledger l; lm_mem_ledger(r->ctx, &l);
    r->base = l.total_now;
    LM_TRY(lm_store_new(&r->store, r->ctx));
    LM_TRY(lm_model_init(r->ctx, &r->c, r->store, 5));
    return lm_engine_new(&r->e, r->ctx, &r->c, r->store, o);
}
static void ids_of(int32_t *id, int64_t n, int salt) { for (int64_t i = 0; i < n; i++) id[i] = (int32_t)((i * i * 7 + i * salt + salt) % V); }
typedef struct { float v[V]; int seen, stop_at; } sink;
static lm_err take(void *ud, int r, int64_t i, const float *logits) {
    sink *k = ud; (void)r; (void)i;
    if (k->stop_at && ++k->seen == k->stop_at) return LM_E_CANCELLED;
    memcpy(k->v, logits, sizeof k->v);
    return LM_OK;
}
static lm_err extend(rig *r, lm_session *s, const int32_t *ids, int64_t n, sink *k) {
    return lm_engine_run(r->e, &(lm_request){ s, ids, n, LM_WANT_LAST }, 1, take, k);
}
/* What a fresh session says after these tokens: the truth the others are compared with. */
static void plain(rig *r, const int32_t *ids, int64_t n, sink *k) {
    lm_session *s;
    LM_NEED_OK(r->ctx, lm_session_new(&s, r->e));
    LM_CHECK_OK(r->ctx, extend(r, s, ids, n, k));
    lm_session_free(s);
}
static bool equal(const sink *a, const sink *b) { return !memcmp(a->v, b->v, sizeof a->v); }

/* A fork goes its own way on a page of its own; cutting back and going on is as if the rest had never been; pages come back. */
static void test_fork_and_cut(void) {
    rig r;
    LM_NEED_OK(r.ctx, rig_new(&r, &(lm_engine_opts){ .max_seqs = 4, .mm = LM_F32, .kv = LM_F32 }));
    const int64_t pages = lm_engine_free_pages(r.e), at[] = { 1, 63, 64, 65, 128, 140 };
    int32_t a[N], b[N];
    ids_of(a, N, 3);
    for (int i = 0; i < LM_COUNT(at); i++) {
        memcpy(b, a, sizeof b);
        ids_of(b + at[i], N - at[i], 11);
        lm_session *s, *t;
        sink x = {0}, want_a = {0}, want_b = {0};
        plain(&r, a, N, &want_a); plain(&r, b, N, &want_b);
        LM_NEED_OK(r.ctx, lm_session_new(&s, r.e));
        LM_CHECK_OK(r.ctx, extend(&r, s, a, at[i], &x));
        LM_NEED_OK(r.ctx, lm_session_fork(s, &t));
        LM_CHECK_OK(r.ctx, extend(&r, t, b + at[i], N - at[i], &x));
        LM_CHECK(equal(&x, &want_b));
        LM_CHECK_OK(r.ctx, extend(&r, s, a + at[i], N - at[i], &x));
        LM_CHECK(equal(&x, &want_a));
        LM_CHECK_OK(r.ctx, lm_session_truncate(t, at[i]));                     /* now shares whole pages with s, and both go on */
        LM_CHECK(lm_session_len(t) == at[i] && !memcmp(lm_session_ids(t), a, (size_t)at[i] * 4));
        LM_CHECK_OK(r.ctx, extend(&r, t, a + at[i], N - at[i], &x));
        LM_CHECK(equal(&x, &want_a));
        LM_CHECK_ERR(r.ctx, lm_session_truncate(t, N + 1), LM_E_RANGE, "cannot cut a session of 150 tokens to 151");
        lm_session_free(s);
        LM_CHECK_OK(r.ctx, lm_session_truncate(t, at[i]));
        LM_CHECK_OK(r.ctx, extend(&r, t, b + at[i], N - at[i], &x));           /* its pages outlive the one it came from */
        LM_CHECK(equal(&x, &want_b));
        lm_session_free(t);
        LM_CHECK(lm_engine_free_pages(r.e) == pages);
    }
    rig_free(&r);
}
/* More sessions than the run's table has rows, and more tokens than a chunk: the same numbers as alone. */
static void test_many(void) {
    rig r;
    enum { S = 9 };
    LM_NEED_OK(r.ctx, rig_new(&r, &(lm_engine_opts){ .max_seqs = 4, .chunk = 32, .kv_tokens = S * 192, .mm = LM_F32, .kv = LM_F32 }));
    lm_session *s[S];
    lm_request q[S];
    int32_t id[S][N];
    for (int i = 0; i < S; i++) {
        ids_of(id[i], N, 5 + i);
        LM_NEED_OK(r.ctx, lm_session_new(&s[i], r.e));
        q[i] = (lm_request){ s[i], id[i], 20 + 13 * i, LM_WANT_LAST };
    }
    sink x = {0}, want = {0};
    for (int only = 0; only < S; only++) {                                      /* row() gets all; the last one of a run is kept */
        for (int i = 0; i < S; i++) LM_CHECK_OK(r.ctx, lm_session_truncate(s[i], 0));
        lm_request t = q[S - 1]; q[S - 1] = q[only]; q[only] = t;
        LM_CHECK_OK(r.ctx, lm_engine_run(r.e, q, S, take, &x));
        plain(&r, q[S - 1].ids, q[S - 1].n, &want);
        LM_CHECK(equal(&x, &want));
    }
    for (int i = 0; i < S; i++) lm_session_free(s[i]);
    rig_free(&r);
}
/* After an error every session of the run is as long as before and can go on. */
static void test_errors_change_nothing(void) {
    rig r;
    LM_NEED_OK(r.ctx, rig_new(&r, &(lm_engine_opts){ .max_seqs = 2, .chunk = 16, .kv_tokens = 256, .mm = LM_F32, .kv = LM_F32 }));
    lm_session *s, *t;
    int32_t id[256];
    ids_of(id, 256, 3);
    sink x = {0}, want = {0};
    LM_NEED_OK(r.ctx, lm_session_new(&s, r.e));
    LM_NEED_OK(r.ctx, lm_session_new(&t, r.e));
    LM_CHECK_OK(r.ctx, extend(&r, s, id, 70, &x));
    plain(&r, id, 100, &want);
    const int64_t pages = lm_engine_free_pages(r.e);
    sink stop = { .stop_at = 2 };
    lm_request both[] = { { s, id + 70, 30, LM_WANT_ALL }, { t, id, 40, LM_WANT_ALL } };
    LM_CHECK(lm_engine_run(r.e, both, 2, take, &stop) == LM_E_CANCELLED);       /* in the first chunk */
    stop = (sink){ .stop_at = 60 };
    LM_CHECK(lm_engine_run(r.e, both, 2, take, &stop) == LM_E_CANCELLED);       /* in a later one */
    both[1].n = 200;
    LM_CHECK_ERR(r.ctx, lm_engine_run(r.e, both, 2, take, &x), LM_E_NOMEM, "4 pages are needed, 2 are free");
    both[1].n = 257;
    LM_CHECK_ERR(r.ctx, lm_engine_run(r.e, both, 2, take, &x), LM_E_RANGE, "257 more do not fit the context of 256");
    both[1] = (lm_request){ t, (int32_t[]){ 1, V }, 2, LM_WANT_LAST };
    LM_CHECK_ERR(r.ctx, lm_engine_run(r.e, both, 2, take, &x), LM_E_RANGE, "token id 97 is outside the vocabulary of 97");
    both[1] = both[0];
    LM_CHECK_ERR(r.ctx, lm_engine_run(r.e, both, 2, take, &x), LM_E_MISMATCH, "request 1: its session is in an earlier request");
    LM_CHECK(lm_session_len(s) == 70 && lm_session_len(t) == 0 && lm_engine_free_pages(r.e) == pages);
    LM_CHECK_OK(r.ctx, extend(&r, s, id + 70, 30, &x));
    LM_CHECK(equal(&x, &want));
    lm_session_free(s); lm_session_free(t);
    rig_free(&r);
}
/* A saved session goes on with the same bits; any damaged byte or other model is refused and takes no page. */
static void save_case(lm_dtype kv, const lm_quant *quant) {
    rig r, other;
    char dir[] = "/tmp/loam-infer-XXXXXX", path[64];
    if (!mkdtemp(dir)) LM_SKIP("no scratch folder");
    snprintf(path, sizeof path, "%s/session", dir);
    LM_NEED_OK(r.ctx, rig_new(&r, &(lm_engine_opts){ .max_seqs = 2, .mm = LM_F32, .kv = kv, .kv_quant = quant }));
    LM_NEED_OK(other.ctx, rig_new(&other, &(lm_engine_opts){ .mm = LM_F32, .kv = LM_F32 }));
    int32_t id[N];
    ids_of(id, N, 3);
    lm_session *s, *t = NULL;
    sink x = {0}, want = {0};
    plain(&r, id, N, &want);
    LM_NEED_OK(r.ctx, lm_session_new(&s, r.e));
    LM_CHECK_OK(r.ctx, extend(&r, s, id, 100, &x));
    LM_CHECK_OK(r.ctx, lm_session_save(s, path));
    LM_NEED_OK(r.ctx, lm_session_load(&t, r.e, path));
    LM_CHECK(lm_session_len(t) == 100 && !memcmp(lm_session_ids(t), id, 400));
    LM_CHECK_OK(r.ctx, extend(&r, t, id + 100, N - 100, &x));
    LM_CHECK(equal(&x, &want));
    lm_session_free(t); t = NULL;
    LM_CHECK_ERR(other.ctx, lm_session_load(&t, other.e, path), LM_E_MISMATCH, "saved from another model or with another key-value dtype");
    char *p; size_t n;
    const int64_t pages = lm_engine_free_pages(r.e);
    LM_NEED_OK(r.ctx, lm_file_read_all(r.ctx, path, 0, &p, &n));
    for (size_t at = 0; at < n; at += at < 500 ? 1 : 997) {
        p[at] ^= 4;
        LM_CHECK_OK(r.ctx, lm_file_write_atomic(r.ctx, path, p, n));
        if (!lm_session_load(&t, r.e, path)) { lm_t_fail++; printf("byte %zu changed and was not noticed\n", at); lm_session_free(t); t = NULL; }
        p[at] ^= 4;
    }
    for (size_t cut = 0; cut < n; cut += cut < 200 ? 7 : 1499) {
        LM_CHECK_OK(r.ctx, lm_file_write_atomic(r.ctx, path, p, cut));
        LM_CHECK(lm_session_load(&t, r.e, path) && strstr(lm_error(r.ctx), path));
    }
    LM_CHECK(lm_engine_free_pages(r.e) == pages && !t);
    lm_free(r.ctx, p);
    LM_CHECK_ERR(r.ctx, lm_session_save(s, "/nonexistent/session"), LM_E_NOTFOUND, "/nonexistent/session");
    lm_session_free(s);
    rig_free(&r); rig_free(&other);
    LM_CHECK_OK(NULL, lm_dir_remove(NULL, dir));
}
static void test_save(void) { save_case(LM_BF16, NULL); }
static void test_save_blocks(void) { save_case(LM_QUANT, lm_quant_by_name("Q8_0")); }
/* Pages in blocks: forks and cuts as with others, a fourth of the bytes; heads that hold no whole block are refused. */
static void test_blocks(void) {
    static const char *const names[] = { "q8_0", "Q4_0" };
    for (int k = 0; k < LM_COUNT(names); k++) {
        rig r;
        lm_engine_opts o = { .max_seqs = 2, .mm = LM_F32 };
        LM_CHECK_OK(NULL, lm_engine_kv_of(NULL, names[k], &o.kv, &o.kv_quant));
        LM_NEED_OK(r.ctx, rig_new(&r, &o));
        LM_CHECK(lm_engine_kv_bytes(r.e) == (size_t)(2 * 2 * 512 * 2) * 32 * (size_t)(k ? 18 : 34) / 32);         /* layers, k and v, tokens, heads */
        int32_t id[N];
        ids_of(id, N, 5);
        lm_session *s, *t;
        sink x = {0}, want = {0};
        plain(&r, id, N, &want);
        LM_NEED_OK(r.ctx, lm_session_new(&s, r.e));
        for (int i = 0; i < 90; i++) LM_CHECK_OK(r.ctx, extend(&r, s, id + i, 1, &x));
        LM_NEED_OK(r.ctx, lm_session_fork(s, &t));
        LM_CHECK_OK(r.ctx, extend(&r, s, (int32_t[]){ 1, 2, 3 }, 3, &x));                                        /* the fork has a page of its own */
        LM_CHECK_OK(r.ctx, extend(&r, t, id + 90, N - 90, &x));
        LM_CHECK(equal(&x, &want));
        LM_CHECK_OK(r.ctx, lm_session_truncate(s, 70));
        LM_CHECK_OK(r.ctx, extend(&r, s, id + 70, N - 70, &x));
        LM_CHECK(equal(&x, &want));
        lm_session_free(s); lm_session_free(t);
        lm_cfg c = r.c;
        lm_engine *e;
        c.d_head = c.rope.d_head = 12;
        lm_store *store;
        LM_NEED_OK(r.ctx, lm_store_new(&store, r.ctx));
        LM_NEED_OK(r.ctx, lm_model_init(r.ctx, &c, store, 5));
        LM_CHECK_ERR(r.ctx, lm_engine_new(&e, r.ctx, &c, store, &o), LM_E_UNSUPPORTED, "and this model's heads have 12");
        lm_store_free(store);
        rig_free(&r);
    }
}
/* ---- a model wide enough for a device's own kernels, in bf16: prompts and many sessions side by side, against the processor ------------------ */
enum { WIDE_V = 777, WIDE_PROMPT = 100, WIDE_STEPS = 6, WIDE_MOST = 64, WIDE_LONG = 2300 };
static lm_err to_bf16(lm_ctx *c, const lm_store *from, lm_store *to) {
    for (int i = 0; i < lm_store_count(from); i++) {
        lm_tensor x, y;
        const char *name = lm_store_name(from, i, &x);
        lm_type t = lm_type_make(x.rank == 2 ? LM_BF16 : LM_F32, x.rank, x.dim);
        LM_TRY(lm_store_add(to, name, &t, LM_PLAIN, LM_MEM_WEIGHTS, &y));
        lm_convert(y.data, (lm_dtype)y.dtype, x.data, (lm_dtype)x.dtype, lm_numel(&x));
    }
    (void)c;
    return LM_OK;
}
typedef struct { float *to; } wide_sink;
static lm_err wide_row(void *ud, int r, int64_t i, const float *l) {
    (void)i;
    memcpy(((wide_sink *)ud)->to + (int64_t)r * WIDE_V, l, WIDE_V * 4);
    return LM_OK;
}
/* The logits of n sessions that have a prompt in common and then go their own ways, WIDE_STEPS tokens each: the last step's. */
static int wide_steps_joined;                       /* of the last run: the plan's steps that one kernel had */
static lm_err wide_long(lm_ctx *ctx, const lm_cfg *c, lm_store *store, lm_dev *dev, lm_dtype mm, int n, int tokens, float *prompt, float *logits) {
    lm_engine *e; lm_session *s[WIDE_MOST] = {0}; lm_request q[WIDE_MOST];
    static int32_t id[WIDE_LONG];
    int32_t next[WIDE_MOST];
    LM_TRY(lm_engine_new(&e, ctx, c, store,
                         &(lm_engine_opts){ .context = tokens + 28, .chunk = 128, .max_seqs = n, .mm = mm, .kv = mm, .dev = dev }));
    for (int i = 0; i < tokens; i++) id[i] = (i * i * 7 + i * 3) % WIDE_V;
    lm_err err = lm_session_new(&s[0], e);
    wide_sink k = { prompt };
    if (!err) err = lm_engine_run(e, &(lm_request){ s[0], id, tokens, LM_WANT_LAST }, 1, wide_row, &k);
    for (int i = 1; i < n && !err; i++) err = lm_session_fork(s[0], &s[i]);
    k.to = logits;
    for (int t = 0; t < WIDE_STEPS && !err; t++) {
        for (int i = 0; i < n; i++) { next[i] = (i * 31 + t * 17 + 5) % WIDE_V; q[i] = (lm_request){ s[i], &next[i], 1, LM_WANT_LAST }; }
        err = lm_engine_run(e, q, n, wide_row, &k);
    }
    lm_plan_stats st;
    lm_plan_stats_of(lm_engine_plan(e), &st);
    wide_steps_joined = 0;
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(lm_engine_plan(e), i, &op, &kernel, &flops, &bytes);
        wide_steps_joined += !strcmp(op, "layers, norm, logits of one row");
    }
    for (int i = 0; i < n; i++) lm_session_free(s[i]);
    lm_engine_free(e);
    return err;
}
static lm_err wide_run(lm_ctx *ctx, const lm_cfg *c, lm_store *store, lm_dev *dev, lm_dtype mm, int n, float *prompt, float *logits) {
    return wide_long(ctx, c, store, dev, mm, n, WIDE_PROMPT, prompt, logits);
}
static double wide_off(const float *a, const float *b, int64_t n) {
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) { d += ((double)a[i] - b[i]) * ((double)a[i] - b[i]); s += (double)b[i] * b[i]; }
    return sqrt(d / s);
}
static void wide_case(lm_ctx *ctx, lm_dev *dev, const lm_cfg *c) {
    lm_store *f, *w;
    LM_NEED_OK(ctx, lm_store_new(&f, ctx)); LM_NEED_OK(ctx, lm_store_new(&w, ctx));
    LM_NEED_OK(ctx, lm_model_init(ctx, c, f, 5));
    LM_NEED_OK(ctx, to_bf16(ctx, f, w));
    static float exact[WIDE_MOST * WIDE_V], a[WIDE_MOST * WIDE_V], b[WIDE_MOST * WIDE_V], again[WIDE_MOST * WIDE_V], pe[WIDE_V], pa[WIDE_V], pb[WIDE_V];
    static const int n[] = { 1, 3, 16, 40, WIDE_MOST };
    for (int i = 0; i < LM_COUNT(n); i++) {
        LM_CHECK_OK(ctx, wide_run(ctx, c, w, NULL, LM_F32, n[i], pe, exact));            /* the same weights, multiplied in f32: judge of both */
        LM_CHECK_OK(ctx, wide_run(ctx, c, w, NULL, LM_BF16, n[i], pa, a));
        LM_CHECK_OK(ctx, wide_run(ctx, c, w, dev, LM_BF16, n[i], pb, b));
        LM_CHECK_OK(ctx, wide_run(ctx, c, w, dev, LM_BF16, n[i], pb, again));
        LM_CHECK(!memcmp(b, again, (size_t)n[i] * WIDE_V * 4));
        double worst = wide_off(pb, pe, WIDE_V), host = wide_off(pa, pe, WIDE_V);
        for (int k = 0; k < n[i]; k++) {
            const double e = wide_off(b + k * WIDE_V, exact + k * WIDE_V, WIDE_V), h = wide_off(a + k * WIDE_V, exact + k * WIDE_V, WIDE_V);
            if (!(e <= worst)) worst = e;
            if (h > host) host = h;
        }
        if (getenv("LOAM_PARITY"))
            printf("| %d sessions side by side, %d columns, bf16 | logits within %.1e of f32's, the processor's bf16 within %.1e |\n", n[i], (int)c->d, worst, host);
        if (!(worst <= 2.5 * host)) {
            lm_t_fail++;
            printf("%d sessions: logits on the device are off by %.3g, the processor's by %.3g\n", n[i], worst, host);
        }
    }
    lm_store_free(f); lm_store_free(w);
}
static void test_wide_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    lm_ctx *ctx; lm_dev *dev;
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = WIDE_V, .d = 512, .n_layer = 3, .n_head = 8, .n_kv = 2, .d_head = 64, .d_ff = 1096,
                 .max_pos = 256, .eps = 1e-5, .init_std = 0.05, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 256;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    wide_case(ctx, dev, &c);
    if (dev->features & LM_CUDA_WGMMA) {                                  /* gate and up too wide for parts of K, an odd number of tiles and an even one */
        c.d = 2048; c.n_head = 32; c.n_kv = 4; c.d_ff = 6208; c.init_std = 0.03;
        wide_case(ctx, dev, &c);
        c.n_kv = 8; c.d_ff = 8192;
        wide_case(ctx, dev, &c);
    }
    lm_dev_close(dev); lm_ctx_free(ctx);
}
/* The sizes whose decode steps of one row are one kernel: 8 and 16 kv heads, with and without a whole tile of logits, few pages and many. */
static void test_step_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    static const struct { int kv, ff, layers, tokens; } of[] = { { 8, 8192, 2, WIDE_PROMPT }, { 8, 1024, 3, 1 }, { 16, 3072, 2, 63 }, { 8, 1024, 1, WIDE_LONG - 7 } };
    static float exact[WIDE_V], a[WIDE_V], b[WIDE_V], again[WIDE_V], p[WIDE_V];
    for (int i = 0; i < LM_COUNT(of); i++) {
        lm_ctx *ctx; lm_dev *dev; lm_store *f, *w;
        lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = WIDE_V, .d = 2048, .n_layer = of[i].layers, .n_head = 32, .n_kv = of[i].kv, .d_head = 64, .d_ff = of[i].ff,
                     .max_pos = WIDE_LONG + 64, .eps = 1e-5, .init_std = 0.03, .tie = true, .bos = -1, .hf_type = "llama" };
        c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = WIDE_LONG + 64;
        LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
        LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
        LM_NEED_OK(ctx, lm_store_new(&f, ctx)); LM_NEED_OK(ctx, lm_store_new(&w, ctx));
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, f, 5));
        LM_NEED_OK(ctx, to_bf16(ctx, f, w));
        LM_CHECK_OK(ctx, wide_long(ctx, &c, w, NULL, LM_F32, 1, of[i].tokens, p, exact));
        LM_CHECK_OK(ctx, wide_long(ctx, &c, w, NULL, LM_BF16, 1, of[i].tokens, p, a));
        LM_CHECK_OK(ctx, wide_long(ctx, &c, w, dev, LM_BF16, 1, of[i].tokens, p, b));
        LM_CHECK(wide_steps_joined > 0 || !(dev->features & LM_CUDA_WGMMA) || dev->units < 128);
        LM_CHECK_OK(ctx, wide_long(ctx, &c, w, dev, LM_BF16, 1, of[i].tokens, p, again));
        LM_CHECK(!memcmp(b, again, sizeof b));
        const double e = wide_off(b, exact, WIDE_V), host = wide_off(a, exact, WIDE_V);
        if (getenv("LOAM_PARITY")) printf("| a step of one row as one kernel, %d kv heads, %d tokens | logits within %.1e of f32's, the processor's bf16 within %.1e |\n", of[i].kv, of[i].tokens, e, host);
        if (!(e <= 2.5 * host)) { lm_t_fail++; printf("%d kv heads, %d tokens: logits on the device are off by %.3g, the processor's by %.3g\n", of[i].kv, of[i].tokens, e, host); }
        lm_store_free(f); lm_store_free(w); lm_dev_close(dev); lm_ctx_free(ctx);
    }
}
/* A row's logits are the same bits alone, among 2, 15 and 63 others, at the end of a prompt computed at once and token by token, and its log
 * probability is what scoring says: on this processor always, on a device in deterministic mode. */
enum { ALONE_N = 75 };
typedef struct { float v[WIDE_V]; } one_row;
static lm_err alone_row(void *ud, int r, int64_t i, const float *l) {
    (void)i;
    if (!r) memcpy(((one_row *)ud)->v, l, sizeof ((one_row *)ud)->v);
    return LM_OK;
}
/* Session 0 of n, all with prompts of their own; the logits of its last token, which is given with the others' (beside) or with its prompt. */
static lm_err alone_run(lm_ctx *ctx, const lm_cfg *c, lm_store *store, const lm_engine_opts *o, int n, int64_t chunk, bool beside, one_row *out, float *lp) {
    lm_engine *e; lm_session *s[WIDE_MOST] = {0}; lm_request q[WIDE_MOST];
    static int32_t id[WIDE_MOST][ALONE_N];
    lm_engine_opts eo = *o;
    eo.chunk = chunk; eo.max_seqs = n; eo.context = 128;
    LM_TRY(lm_engine_new(&e, ctx, c, store, &eo));
    lm_err err = LM_OK;
    for (int i = 0; i < n && !err; i++) {
        for (int k = 0; k < ALONE_N; k++) id[i][k] = (k * k * 7 + k * 3 + i * (k % 5 + 1) * 11) % WIDE_V;
        err = lm_session_new(&s[i], e);
        /* the others have lengths of their own */
        const int64_t len = i ? 1 + (i * 13) % (ALONE_N - 1) : ALONE_N - 1;
        if (!err && beside) err = lm_engine_run(e, &(lm_request){ s[i], id[i], len, LM_WANT_NONE }, 1, alone_row, out);
        q[i] = beside ? (lm_request){ s[i], id[i] + len, 1, LM_WANT_LAST } : (lm_request){ s[i], id[i], ALONE_N, LM_WANT_LAST };
    }
    if (!err) err = lm_engine_run(e, q, n, alone_row, out);
    if (!err && lp) { err = lm_session_truncate(s[0], 0); if (!err) err = lm_engine_score(e, s[0], id[0], ALONE_N, lp); }
    for (int i = 0; i < n; i++) lm_session_free(s[i]);
    lm_engine_free(e);
    return err;
}
static void rows_alone(lm_ctx *ctx, const lm_cfg *c, lm_store *w, const lm_engine_opts *o) {
    static one_row want, got, before;
    static float lp[ALONE_N];
    static const struct { int n; int64_t chunk; bool beside; } form[] = { { 3, 128, true }, { 16, 128, true }, { 40, 16, true }, { WIDE_MOST, 128, true }, { 1, 128, false },
        { 1, 17, false }, { 1, 1, false }, { 5, 64, false } };
    LM_CHECK_OK(ctx, alone_run(ctx, c, w, o, 1, 128, true, &want, lp));
    for (int i = 0; i < LM_COUNT(form); i += LM_T_WATCHED ? 3 : 1) {
        memset(&got, 0, sizeof got);
        LM_CHECK_OK(ctx, alone_run(ctx, c, w, o, form[i].n, form[i].chunk, form[i].beside, &got, NULL));
        if (!memcmp(&want, &got, sizeof got)) continue;
        lm_t_fail++;
        printf("%d sessions, chunk %lld, last token %s: other bits than alone\n", form[i].n, (long long)form[i].chunk, form[i].beside ? "beside others" : "with its prompt");
    }
    /* the last token's probability, from the logits of the one before it */
    lm_engine *e; lm_session *s;
    int32_t id[ALONE_N];
    for (int k = 0; k < ALONE_N; k++) id[k] = (k * k * 7 + k * 3) % WIDE_V;
    lm_engine_opts eo = *o;
    eo.context = 128;
    LM_NEED_OK(ctx, lm_engine_new(&e, ctx, c, w, &eo));
    LM_CHECK_OK(ctx, lm_session_new(&s, e));
    for (int k = 0; k + 1 < ALONE_N; k++) {                                            /* as a decoder goes: one by one */
        LM_CHECK_OK(ctx, lm_engine_run(e, &(lm_request){ s, id + k, 1, LM_WANT_LAST }, 1, alone_row, &before));
        LM_CHECK(before.v[id[k + 1]] - lm_row_lse(before.v, WIDE_V) == lp[k + 1]);
    }
    lm_session_free(s); lm_engine_free(e);
}
/* A prompt of many rows taken at once, in pieces, behind a beginning and between other prompts: every row's logits are those of a decoder that took the tokens
 * one by one, and so are the scores. */
enum { MANY_N = 333, MANY_RUN = 1024, MANY_MOST = 3 };
typedef struct { int64_t first; float (*v)[WIDE_V]; } many_rows;
static lm_err many_row(void *ud, int r, int64_t i, const float *l) {
    const many_rows *m = ud;
    if (!r) memcpy(m->v[m->first + i], l, sizeof m->v[0]);
    return LM_OK;
}
static lm_err many_run(lm_ctx *ctx, const lm_cfg *c, lm_store *w, const lm_engine_opts *o, int64_t chunk, int n, int64_t len, int64_t begin, int64_t each, float (*v)[WIDE_V], float *lp) {
    static int32_t id[MANY_MOST][MANY_N];
    static const int64_t of[MANY_MOST] = { MANY_N, 201, 130 };
    lm_engine *e; lm_session *s[MANY_MOST] = {0}; lm_request q[MANY_MOST];
    lm_engine_opts eo = *o;
    eo.chunk = eo.rows = chunk; eo.max_seqs = n; eo.context = MANY_N + 3;
    LM_TRY(lm_engine_new(&e, ctx, c, w, &eo));
    lm_err err = LM_OK;
    if (o->dev) LM_CHECK(lm_engine_opts_of(e)->chunk == chunk);                       /* no plan of these falls back to runs of few rows */
    for (int i = 0; i < n && !err; i++) {
        for (int k = 0; k < MANY_N; k++) id[i][k] = (k * k * 7 + k * 3 + i * (k % 5 + 1) * 11) % WIDE_V;
        err = lm_session_new(&s[i], e);
        q[i] = (lm_request){ s[i], id[i], lm_min64(of[i], len), LM_WANT_NONE };
    }
    many_rows m = { 0, v };
    if (!err && begin) err = lm_engine_run(e, &(lm_request){ s[0], id[0], begin, LM_WANT_ALL }, 1, many_row, &m);
    for (m.first = begin; !err && m.first < len; m.first += q[0].n) {
        q[0] = (lm_request){ s[0], id[0] + m.first, lm_min64(each, len - m.first), LM_WANT_ALL };
        err = lm_engine_run(e, q, m.first == begin ? n : 1, many_row, &m);
    }
    if (!err && lp) { err = lm_session_truncate(s[0], 0); if (!err) err = lm_engine_score(e, s[0], id[0], len, lp); }
    for (int i = 0; i < n; i++) lm_session_free(s[i]);
    lm_engine_free(e);
    return err;
}
static void rows_many(lm_ctx *ctx, const lm_cfg *c, lm_store *w, const lm_engine_opts *o) {
    static float want[MANY_N][WIDE_V], got[MANY_N][WIDE_V], lp[MANY_N];
    static const struct { int64_t chunk; int n; int64_t begin, each; } form[] = { { MANY_RUN, 1, 0, MANY_N }, { MANY_RUN, MANY_MOST, 0, MANY_N }, { 100, 1, 0, MANY_N }, { MANY_RUN, 2, 37, 150 } };
    const int64_t len = LM_T_WATCHED ? 70 : MANY_N;
    LM_CHECK_OK(ctx, many_run(ctx, c, w, o, MANY_RUN, 1, len, 0, 1, want, lp));
    for (int64_t k = 1; k < len; k++) {
        const int32_t id = (int32_t)((k * k * 7 + k * 3) % WIDE_V);
        if (want[k - 1][id] - lm_row_lse(want[k - 1], WIDE_V) == lp[k]) continue;
        lm_t_fail++;
        printf("%lld wide: the score of token %lld is not what its logits say\n", (long long)c->d, (long long)k);
        break;
    }
    for (int i = 0; i < LM_COUNT(form); i++) {
        memset(got, 0, sizeof got);
        LM_CHECK_OK(ctx, many_run(ctx, c, w, o, form[i].chunk, form[i].n, len, form[i].begin, form[i].each, got, NULL));
        int64_t other = 0, first = -1;
        for (int64_t k = 0; k < len; k++) if (memcmp(want[k], got[k], sizeof want[k])) { other++; if (first < 0) first = k; }
        if (!other) continue;
        lm_t_fail++;
        printf("%lld wide, heads of %lld, %d prompts, runs of %lld rows, %lld first: %lld of %lld rows have other bits than alone, first %lld\n", (long long)c->d, (long long)c->d_head, form[i].n,
               (long long)form[i].chunk, (long long)form[i].begin, (long long)other, (long long)len, (long long)first);
    }
}
static void test_rows_alone(void) {
    lm_ctx *ctx; lm_dev *dev = NULL; lm_store *f, *w;
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = WIDE_V, .d = 512, .n_layer = 2, .n_head = 8, .n_kv = 2, .d_head = 64, .d_ff = 1096,
                 .max_pos = 512, .eps = 1e-5, .init_std = 0.05, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 512;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    if (getenv("LM_DEVICE")) LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    /* Heads of 64 and 48; the second model's products are below what the kernel of few rows takes, and so are weights in f32. On a device also heads of 128 with a
     * window, and the sizes of a model of 1.1e9 parameters, where K is cut into longer parts and gate and up are not cut. */
    static const lm_cfg of[] = { { .d = 512, .n_head = 8, .n_kv = 2, .d_head = 64, .d_ff = 1096 }, { .d = 288, .n_head = 6, .n_kv = 3, .d_head = 48, .d_ff = 400 },
                                 { .d = 288, .n_head = 6, .n_kv = 3, .d_head = 48, .d_ff = 400 }, { .d = 768, .n_head = 6, .n_kv = 2, .d_head = 128, .d_ff = 520, .window = 100 },
                                 { .d = 2048, .n_head = 32, .n_kv = 8, .d_head = 64, .d_ff = 8192 } };
    for (int k = LM_T_WATCHED ? 1 : 0; k < (LM_T_WATCHED ? 2 : dev ? LM_COUNT(of) : 3); k++) {
        c.d = of[k].d; c.n_head = of[k].n_head; c.n_kv = of[k].n_kv; c.d_head = c.rope.d_head = of[k].d_head; c.d_ff = of[k].d_ff; c.window = of[k].window;
        LM_NEED_OK(ctx, lm_store_new(&f, ctx)); LM_NEED_OK(ctx, lm_store_new(&w, ctx));
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, f, 5));
        LM_NEED_OK(ctx, to_bf16(ctx, f, w));
        const lm_dtype d = k == 2 ? LM_F32 : LM_BF16;
        const lm_engine_opts o = { .mm = d, .kv = d, .dev = dev, .deterministic = true };
        if (k < 3) rows_alone(ctx, &c, k == 2 ? f : w, &o);
        rows_many(ctx, &c, k == 2 ? f : w, &o);
        lm_store_free(f); lm_store_free(w);
    }
    if (dev && dev->features & LM_CUDA_WGMMA) {                           /* gate and up too wide for parts of K */
        c.d = 2048; c.n_head = 32; c.n_kv = 8; c.d_head = c.rope.d_head = 64; c.d_ff = 8192; c.init_std = 0.03;
        LM_NEED_OK(ctx, lm_store_new(&f, ctx)); LM_NEED_OK(ctx, lm_store_new(&w, ctx));
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, f, 5));
        LM_NEED_OK(ctx, to_bf16(ctx, f, w));
        rows_alone(ctx, &c, w, &(lm_engine_opts){ .mm = LM_BF16, .kv = LM_BF16, .dev = dev, .deterministic = true });
        lm_store_free(f); lm_store_free(w);
    }
    c.rope.scaling = LM_ROPE_DYNAMIC; c.rope.factor = 2;
    lm_engine *e;
    LM_NEED_OK(ctx, lm_store_new(&f, ctx));
    LM_NEED_OK(ctx, lm_model_init(ctx, &c, f, 5));
    if (dev) LM_CHECK_ERR(ctx, lm_engine_new(&e, ctx, &c, f, &(lm_engine_opts){ .mm = LM_F32, .kv = LM_F32, .dev = dev, .deterministic = true }), LM_E_UNSUPPORTED, "dynamic rope");
    lm_store_free(f); lm_dev_close(dev); lm_ctx_free(ctx);
}
/* Weights in panels, multiplied as integers, of formats that differ within a layer: runs of tiles, what members ask for ahead, codes of their own. Any number
 * of threads, one row and several, a long prompt in between: the bits of one thread. */
enum { BD = 64, BV = 97, STEPS = 12 };
static lm_err panels_of(lm_ctx *ctx, const lm_cfg *c, lm_store *to) {
    static const char *const formats[] = { "Q4_0", "Q8_0", "Q5_1", "Q4_1" };
    lm_store *from = NULL;
    int made = 0;
    lm_err err;
    LM_GOTO(lm_store_new(&from, ctx), done);
    LM_GOTO(lm_model_init(ctx, c, from, 5), done);
    for (int i = 0; i < lm_store_count(from); i++) {
        lm_tensor t, q;
        const char *name = lm_store_name(from, i, &t);
        const bool matrix = t.rank == 2 && !strstr(name, "embed");
        lm_type type = lm_type_make(matrix ? LM_QUANT : LM_F32, t.rank, t.dim);
        if (matrix) type.quant = lm_quant_by_name(formats[made++ % LM_COUNT(formats)]);
        LM_GOTO(lm_store_add(to, name, &type, matrix ? LM_PANEL16 : LM_PLAIN, LM_MEM_WEIGHTS, &q), done);
        for (int64_t r = 0; r < lm_rows(&t); r++) {
            const float *x = (const float *)t.data + r * lm_cols(&t);
            if (matrix) lm_quant_row_put(&q, r, x); else memcpy((float *)q.data + r * lm_cols(&t), x, (size_t)lm_cols(&t) * 4);
        }
    }
    err = made ? LM_OK : LM_E_NOTFOUND;
done:
    lm_store_free(from);
    return err;
}
typedef struct { float v[3][BV]; } rows3;
static lm_err take3(void *ud, int r, int64_t i, const float *logits) { (void)i; memcpy(((rows3 *)ud)->v[r], logits, sizeof ((rows3 *)ud)->v[r]); return LM_OK; }
static void by_threads(int threads, rows3 *out) {
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = BV, .d = BD, .n_layer = 3, .n_head = 4, .n_kv = 2, .d_head = 16, .d_ff = 352, .max_pos = 256,
                 .eps = 1e-5, .init_std = 0.2, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 16; c.rope.base = 10000; c.rope.max_pos = 256;
    lm_ctx *ctx; lm_store *store; lm_engine *e; lm_session *s[3];
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads }));
    LM_NEED_OK(ctx, lm_store_new(&store, ctx));
    LM_NEED_OK(ctx, panels_of(ctx, &c, store));
    LM_NEED_OK(ctx, lm_engine_new(&e, ctx, &c, store, &(lm_engine_opts){ .max_seqs = 3, .mm = LM_I8, .kv = LM_F16, .chunk = 64 }));
    int each = 0;
    for (int i = 0, n = 1; i < n; i++) {
        lm_plan_stats st;
        const char *op, *kernel; double flops, bytes;
        lm_plan_stats_of(lm_engine_plan(e), &st);
        n = st.n_steps;
        lm_plan_step(lm_engine_plan(e), i, &op, &kernel, &flops, &bytes);
        each += !strcmp(op, "matmul_each");
    }
    LM_CHECK(each == 6);
    for (int i = 0; i < 3; i++) LM_NEED_OK(ctx, lm_session_new(&s[i], e));
    int32_t ids[64];
    for (int i = 0; i < 64; i++) ids[i] = i * 29 % BV;
    for (int k = 0; k < STEPS; k++) {
        lm_request q[3];
        const int rows = k % 4 == 3 ? 1 : 3, n = k == 5 ? 40 : 1;              /* in between a prompt, so that the sizes change there and back */
        for (int i = 0; i < rows; i++) q[i] = (lm_request){ s[i], ids + k + i, i ? 1 : n, LM_WANT_LAST };
        memset(&out[k], 0, sizeof out[k]);
        LM_CHECK_OK(ctx, lm_engine_run(e, q, rows, take3, &out[k]));
    }
    for (int i = 0; i < 3; i++) lm_session_free(s[i]);
    lm_engine_free(e); lm_store_free(store); lm_ctx_free(ctx);
}
static void test_threads_read_ahead(void) {
    static rows3 one[STEPS], more[STEPS];
    static const int threads[] = { 2, 3, 7 };
    by_threads(1, one);
    for (int k = 0; k < STEPS; k++) LM_CHECK(one[k].v[0][3] != 0);
    for (int i = 0; i < LM_COUNT(threads); i++) {
        by_threads(threads[i], more);
        LM_CHECK(!memcmp(one, more, sizeof one));
    }
}
/* Rows of one sequence computed together, as guesses are: each row's logits are those of a run over it alone, whatever the pages and the threads. */
enum { TOGETHER = 17, BEHIND = 121 };                                  /* a page ends among them */
typedef struct { float v[TOGETHER][BV]; } rows17;
static lm_err take17(void *ud, int r, int64_t i, const float *logits) { (void)r; memcpy(((rows17 *)ud)->v[i], logits, sizeof ((rows17 *)ud)->v[i]); return LM_OK; }
static void test_rows_of_one(void) {
    static rows17 one, all;
    static const char *const pages[] = { "f32", "f16", "bf16", "q8_0", "q4_0" };
    static const int threads[] = { 1, 2, 7 };
    int32_t ids[BEHIND + TOGETHER];
    for (int i = 0; i < BEHIND + TOGETHER; i++) ids[i] = i * 29 % BV;
    for (int k = 0; k < LM_COUNT(pages) * LM_COUNT(threads); k++) {
        lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = BV, .d = BD, .n_layer = 2, .n_head = 6, .n_kv = 3, .d_head = 64, .d_ff = 352, .max_pos = 256,
                     .eps = 1e-5, .init_std = 0.2, .tie = true, .bos = -1, .hf_type = "llama" };
        c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 256;
        lm_ctx *ctx; lm_store *store; lm_engine *e; lm_session *s;
        lm_engine_opts o = { .max_seqs = 2, .mm = LM_I8, .chunk = 64 };
        LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads[k % LM_COUNT(threads)] }));
        LM_NEED_OK(ctx, lm_store_new(&store, ctx));
        LM_NEED_OK(ctx, panels_of(ctx, &c, store));
        LM_NEED_OK(ctx, lm_engine_kv_of(ctx, pages[k / LM_COUNT(threads)], &o.kv, &o.kv_quant));
        LM_NEED_OK(ctx, lm_engine_new(&e, ctx, &c, store, &o));
        LM_NEED_OK(ctx, lm_session_new(&s, e));
        LM_CHECK_OK(ctx, lm_engine_run(e, &(lm_request){ s, ids, BEHIND, LM_WANT_NONE }, 1, take17, &all));
        for (int i = 0; i < TOGETHER && k % LM_COUNT(threads) == 0; i++) {
            LM_CHECK_OK(ctx, lm_engine_run(e, &(lm_request){ s, ids + BEHIND + i, 1, LM_WANT_ALL }, 1, take17, &all));
            memcpy(one.v[i], all.v[0], sizeof one.v[i]);
        }
        LM_CHECK(one.v[0][1] != one.v[1][1]);
        for (int w = 2; w <= TOGETHER; w++) {
            memset(&all, 0, sizeof all);
            LM_CHECK_OK(ctx, lm_session_truncate(s, BEHIND));
            LM_CHECK_OK(ctx, lm_engine_run(e, &(lm_request){ s, ids + BEHIND, w, LM_WANT_ALL }, 1, take17, &all));
            LM_CHECK(!memcmp(&one, &all, (size_t)w * sizeof one.v[0]));
        }
        lm_session_free(s); lm_engine_free(e); lm_store_free(store); lm_ctx_free(ctx);
    }
}

LM_TEST_MAIN(LM_T1(test_fork_and_cut), LM_T1(test_many), LM_T1(test_errors_change_nothing), LM_T1(test_save), LM_T1(test_save_blocks), LM_T1(test_blocks),
             LM_T1(test_wide_on_device), LM_T1(test_step_on_device), LM_T1(test_rows_alone), LM_T1(test_threads_read_ahead), LM_T1(test_rows_of_one))
