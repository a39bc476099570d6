/* test_beyond.c — what does not fit into memory: stretches of files read in a ring are the file's bytes at every use, failures are told and stay, and a model
 * that is read as it is used gives the bits of one that is in memory. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/file.h"
#include "base/stream.h"
#include "infer/infer.h"
#include "model/model_save.h"
#include "quant/quant.h"
#include "test.h"

#define MODEL(name) LM_FIXTURES "/models/" name
static lm_ctx *ctx;
static char dir[512], file[600];
enum { BYTES = 3 << 20, PARTS = 41 };
static unsigned char *all;
static void begin(int threads) {
    LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads }));
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/loam-test-XXXXXX", tmp ? tmp : "/tmp");
    LM_CHECK(mkdtemp(dir));
    snprintf(file, sizeof file, "%s/data", dir);
    all = malloc(BYTES);
    const lm_rng r = lm_rng_of(3, "beyond");
    for (int i = 0; i < BYTES; i += 8) { const uint64_t x = lm_rng_below(r, (uint64_t)i, UINT64_MAX); memcpy(all + i, &x, 8); }
    LM_CHECK_OK(ctx, lm_file_write_atomic(ctx, file, all, BYTES));
}
static void end(void) {
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, dir));
    lm_ledger l;
    lm_mem_ledger(ctx, &l);
    LM_CHECK(l.total_now == 0 || l.now[LM_MEM_IO] == 0);
    lm_ctx_free(ctx); free(all);
    ctx = NULL;
}
/* Stretches of all sizes, some that touch, overlap or end with the file. */
static int stretches(lm_file *f, lm_stretch *x, uint64_t seed) {
    const lm_rng r = lm_rng_of(seed, "stretches");
    const int n = 1 + (int)lm_rng_below(r, 0, PARTS);
    for (int i = 0; i < n; i++) {
        const size_t bytes = 1 + (size_t)lm_rng_below(r, (uint64_t)(2 * i + 1), i % 3 ? 5000 : 180000);
        x[i] = (lm_stretch){ f, (int64_t)lm_rng_below(r, (uint64_t)(2 * i + 2), BYTES - bytes + 1), bytes };
        if (i % 7 == 6) x[i].offset = BYTES - (int64_t)bytes;
    }
    return n;
}
static void test_ring(void) {
    begin(2);
    lm_file *f;
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, file));
    for (uint64_t seed = 0; seed < 30; seed++) {
        lm_stretch x[PARTS];
        lm_stream *s;
        const int n = stretches(f, x, seed);
        const size_t least = lm_stream_least(x, n);
        LM_NEED_OK(ctx, lm_stream_new(&s, ctx, x, n, least + seed % 5 * 70001));
        size_t sum = 0;
        for (int i = 0; i < n; i++) sum += x[i].bytes;
        for (uint64_t k = 0; k < 4 * (uint64_t)n; k++) {
            const int i = (int)(k % (uint64_t)n);
            LM_CHECK_OK(ctx, lm_stream_wait(s, k));
            if (memcmp(lm_stream_at(s, i), all + x[i].offset, x[i].bytes)) { lm_t_fail++; printf("seed %d: piece %d differs\n", (int)seed, (int)k); break; }
            if ((k + seed) % 11 == 0) usleep(300);
            if (memcmp(lm_stream_at(s, i), all + x[i].offset, x[i].bytes)) { lm_t_fail++; printf("seed %d: piece %d was written over\n", (int)seed, (int)k); break; }
            lm_stream_done(s, k + 1);
            lm_stream_done(s, k / 2);                                          /* less than before: nothing */
        }
        uint64_t read; double waited; bool direct;
        lm_stream_stats(s, &read, &waited, &direct);
        LM_CHECK(read >= sum && waited >= 0);
        lm_stream_free(s);
    }
    /* all of it fits: it is read once */
    lm_stretch x[3] = { { f, 5, 4000 }, { f, 100000, 9000 }, { f, BYTES - 10, 10 } };
    lm_stream *s;
    LM_NEED_OK(ctx, lm_stream_new(&s, ctx, x, 3, 1 << 20));
    for (uint64_t k = 0; k < 30; k++) {
        LM_CHECK_OK(ctx, lm_stream_wait(s, k));
        LM_CHECK(!memcmp(lm_stream_at(s, (int)(k % 3)), all + x[k % 3].offset, x[k % 3].bytes));
        lm_stream_done(s, k + 1);
    }
    uint64_t read; double waited; bool direct;
    lm_stream_stats(s, &read, &waited, &direct);
    LM_CHECK(read == 4096 + 12288 + 4096);
    lm_stream_free(s);
    LM_CHECK(lm_stream_rate(ctx, file, 1 << 20, 1) > 0 && !(lm_stream_rate(ctx, dir, 1 << 20, 1) > 0));
    lm_error_clear(ctx);
    lm_file_close(f);
    end();
}
static void test_ring_refusals(void) {
    begin(1);
    lm_file *f;
    lm_stream *s;
    LM_NEED_OK(ctx, lm_file_open(&f, ctx, file));
    lm_stretch x[3] = { { f, 0, 100000 }, { f, 5000, 100000 }, { f, 9000, 100000 } };
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 3, lm_stream_least(x, 3) - 1), LM_E_NOMEM, "the largest pieces want");
    x[1].offset = BYTES - 99999;
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 3, 1 << 20), LM_E_RANGE, "are not in it");
    x[1].offset = -1;
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 3, 1 << 20), LM_E_RANGE, "are not in it");
    x[1] = (lm_stretch){ f, 8, SIZE_MAX - 4 };
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 3, 1 << 20), LM_E_RANGE, "are not in it");
    x[1] = (lm_stretch){ f, 8, 0 };
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 3, 1 << 20), LM_E_RANGE, "are not in it");
    x[1] = (lm_stretch){ f, 5000, 100000 };
    LM_CHECK_ERR(ctx, lm_stream_new(&s, ctx, x, 0, 1 << 20), LM_E_NOMEM, "to read ahead");
    for (uint64_t n = 1; n < 8; n++) {                                         /* each allocation failing */
        lm_mem_fail_at(ctx, n, false);
        const lm_err e = lm_stream_new(&s, ctx, x, 3, 1 << 20);
        lm_mem_fail_at(ctx, 0, false);
        LM_CHECK(e == LM_OK || e == LM_E_NOMEM);
        if (!e) lm_stream_free(s);
        lm_error_clear(ctx);
    }
    /* a read that fails, at once or in a later lap: the wait says so, and every wait after it */
    for (uint64_t n = 1; n < 12; n++) {
        LM_NEED_OK(ctx, lm_stream_new(&s, ctx, x, 3, lm_stream_least(x, 3)));
        lm_file_fail_at(n, EIO, true);
        lm_err e = LM_OK;
        uint64_t k = 0;
        for (; k < 60 && !e; k++) { e = lm_stream_wait(s, k); lm_stream_done(s, k + 1); }
        LM_CHECK_ERR(ctx, e, LM_E_IO, "cannot read ahead in");
        LM_CHECK_ERR(ctx, lm_stream_wait(s, k + 5), LM_E_IO, file);
        lm_file_fail_at(0, 0, false);
        lm_stream_free(s);
    }
    for (uint64_t n = 1; n < 4; n++) {                                         /* a short read is gone on with */
        LM_NEED_OK(ctx, lm_stream_new(&s, ctx, x, 3, lm_stream_least(x, 3)));
        lm_file_fail_at(n, -1, false);
        for (uint64_t k = 0; k < 9; k++) {
            LM_CHECK_OK(ctx, lm_stream_wait(s, k));
            LM_CHECK(!memcmp(lm_stream_at(s, (int)(k % 3)), all + x[k % 3].offset, x[k % 3].bytes));
            lm_stream_done(s, k + 1);
        }
        lm_file_fail_at(0, 0, false);
        lm_stream_free(s);
    }
    /* cut meanwhile: an error, not a signal */
    LM_CHECK(!truncate(file, 4096));
    LM_NEED_OK(ctx, lm_stream_new(&s, ctx, x, 3, lm_stream_least(x, 3)));
    LM_CHECK_ERR(ctx, lm_stream_wait(s, 2), LM_E_IO, "cannot read ahead in");
    lm_stream_free(s);
    lm_file_close(f);
    end();
}

/* ---- a model ---------------------------------------------------------------------------------------------------------------------------------- */
typedef struct { lm_weights *w; lm_store *s; lm_engine *e; lm_session *on; } model;
static lm_err open_model(model *m, const char *path, size_t room) {
    *m = (model){ 0 };
    LM_TRY(lm_weights_open(&m->w, ctx, path));
    lm_err err = lm_store_new(&m->s, ctx);
    if (!err) err = lm_weights_load(m->w, m->s, &(lm_load_opts){ .dtype = LM_QUANT, .panels = true, .room = room });
    if (!err) err = lm_engine_new(&m->e, ctx, lm_weights_cfg(m->w), m->s, &(lm_engine_opts){ .chunk = 16, .context = 64, .mm = lm_engine_mm_for(m->s), .kv = LM_F32 });
    if (!err) err = lm_session_new(&m->on, m->e);
    return err;
}
static void close_model(model *m) { lm_session_free(m->on); lm_engine_free(m->e); lm_store_free(m->s); lm_weights_close(m->w); }
static size_t bytes_of(const model *m, bool away) {
    size_t n = 0;
    for (int i = 0; i < lm_store_count(m->s); i++) {
        lm_tensor t; size_t b = 0; lm_file *f; int64_t o;
        const char *name = lm_store_name(m->s, i, &t);
        lm_storage_bytes((lm_dtype)t.dtype, t.quant, (lm_layout)t.layout, t.rank, t.dim, &b);
        if (!away || lm_store_where(m->s, name, &f, &o)) n += b;
    }
    return n;
}
typedef struct { float *v; int64_t vocab; } sink;
static lm_err take(void *ud, int r, int64_t i, const float *z) {
    sink *k = ud; (void)r; (void)i;
    memcpy(k->v, z, (size_t)k->vocab * 4);
    k->v += k->vocab;
    return LM_OK;
}
enum { PROMPT = 21, STEPS = 5, V_MOST = 4096 };
static lm_err logits(model *m, float *out) {
    int32_t ids[PROMPT + STEPS];
    const int64_t vocab = lm_weights_cfg(m->w)->vocab;
    sink k = { out, vocab };
    for (int i = 0; i < PROMPT + STEPS; i++) ids[i] = (int32_t)(i * 37 % vocab);
    LM_TRY(lm_engine_run(m->e, &(lm_request){ m->on, ids, PROMPT, LM_WANT_LAST }, 1, take, &k));
    for (int i = 0; i < STEPS; i++) LM_TRY(lm_engine_run(m->e, &(lm_request){ m->on, ids + PROMPT + i, 1, LM_WANT_LAST }, 1, take, &k));
    return LM_OK;
}
/* As much room as the least, and more and more of it: fewer weights stay in the file each time, the bits are the same. */
static void same_bits(const char *path, bool must) {
    static float want[(STEPS + 1) * V_MOST], got[(STEPS + 1) * V_MOST];
    model full, m;
    LM_NEED_OK(ctx, open_model(&full, path, 0));
    const size_t everything = bytes_of(&full, false), n = (size_t)(STEPS + 1) * (size_t)lm_weights_cfg(full.w)->vocab * 4;
    LM_CHECK(lm_weights_cfg(full.w)->vocab <= V_MOST);
    LM_NEED_OK(ctx, logits(&full, want));
    close_model(&full);
    size_t last = SIZE_MAX;
    int streamed = 0;
    for (int part = 0; part <= 16; part += 4) {
        const size_t room = everything * (size_t)(part + 4) / 20;
        const lm_err e = open_model(&m, path, room);
        if (e == LM_E_NOMEM) { LM_CHECK(strstr(lm_error(ctx), "in the file") || strstr(lm_error(ctx), "they still want")); lm_error_clear(ctx); close_model(&m); continue; }
        LM_NEED_OK(ctx, e);
        const size_t away = bytes_of(&m, true);
        uint64_t read = 0; double waited; bool direct;
        LM_CHECK(away <= last && bytes_of(&m, false) - away + (away ? lm_store_ring(m.s) : 0) <= room);
        LM_CHECK_OK(ctx, logits(&m, got));
        if (memcmp(want, got, n)) { lm_t_fail++; printf("%s: other bits with room for %zu of %zu\n", path, room, everything); }
        LM_CHECK(lm_plan_streamed(lm_engine_plan(m.e), &read, &waited, &direct) == (away > 0));
        LM_CHECK(!away || read >= away);
        streamed += away > 0;
        last = away;
        for (int i = 0; i < lm_store_count(m.s) && away; i++) {                 /* what is away can be read, and not written */
            lm_tensor t; lm_file *f; int64_t o;
            const char *name = lm_store_name(m.s, i, &t);
            if (!lm_store_where(m.s, name, &f, &o)) continue;
            char a[64], b[64];
            LM_CHECK_OK(ctx, lm_store_read(m.s, i, 8, a, sizeof a)); LM_CHECK_OK(ctx, lm_file_pread(f, b, sizeof b, o + 8));
            LM_CHECK(!memcmp(a, b, sizeof a));
            LM_CHECK_ERR(ctx, lm_store_write(m.s, i, 0, a, sizeof a), LM_E_UNSUPPORTED, "is not written");
        }
        close_model(&m);
    }
    LM_CHECK(last == 0 && (streamed > 2 || !must));
}
static void test_model(void) {
    for (int threads = LM_T_WATCHED ? 3 : 1; threads <= 3; threads += 2) {
        begin(threads);
        same_bits(MODEL("llama2-gqa"), false);
        same_bits(MODEL("smollm-like"), false);
        same_bits(MODEL("qwen3"), false);
        /* larger matrices, in the formats a file has */
        lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = 512, .d = 256, .n_layer = 5, .n_head = 4, .n_kv = 2, .d_head = 64, .d_ff = 512, .max_pos = 64, .eps = 1e-5,
                     .init_std = 0.1, .tie = false, .bos = -1, .hf_type = "llama" };
        c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 64;
        lm_store *s;
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, s, 7));
        static const char *const types[] = { "F32", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K" };
        for (int i = 0; i < LM_COUNT(types); i += LM_T_WATCHED ? 2 : 1) {
            char path[600];
            snprintf(path, sizeof path, "%s/%s.gguf", dir, types[i]);
            const lm_quant *q = i > 1 ? lm_quant_by_name(types[i]) : NULL;
            LM_NEED_OK(ctx, lm_model_save_gguf(ctx, &c, s, path, i == 1 ? LM_BF16 : LM_F32, q, NULL, NULL));
            same_bits(path, true);
        }
        lm_store_free(s);
        end();
    }
}
/* The disk fails in the middle of a run: the run says so, the session is as it was, and so does the next. */
static void test_model_fails(void) {
    for (int threads = 1; threads <= 2; threads++) {
        begin(threads);
        lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = 512, .d = 256, .n_layer = 5, .n_head = 4, .n_kv = 2, .d_head = 64, .d_ff = 512, .max_pos = 64, .eps = 1e-5,
                     .init_std = 0.1, .tie = true, .bos = -1, .hf_type = "llama" };
        c.rope.d_head = 64; c.rope.base = 10000; c.rope.max_pos = 64;
        char path[600];
        lm_store *s;
        model m;
        static float z[(STEPS + 1) * V_MOST];
        snprintf(path, sizeof path, "%s/m.gguf", dir);
        LM_NEED_OK(ctx, lm_store_new(&s, ctx));
        LM_NEED_OK(ctx, lm_model_init(ctx, &c, s, 7));
        LM_NEED_OK(ctx, lm_model_save_gguf(ctx, &c, s, path, LM_F32, lm_quant_by_name("Q8_0"), NULL, NULL));
        lm_store_free(s);
        LM_NEED_OK(ctx, open_model(&m, path, 1400000));
        LM_CHECK(bytes_of(&m, true) > 0);
        LM_CHECK_OK(ctx, logits(&m, z));
        const int64_t len = lm_session_len(m.on);
        lm_file_fail_at(3, EIO, true);
        const int32_t id = 5;
        sink k = { z, 512 };
        lm_err e = LM_OK;
        for (int i = 0; i < 20 && !e; i++) { k.v = z; e = lm_engine_run(m.e, &(lm_request){ m.on, &id, 1, LM_WANT_LAST }, 1, take, &k); }
        LM_CHECK_ERR(ctx, e, LM_E_IO, "cannot read ahead in");
        lm_file_fail_at(0, 0, false);
        k.v = z;
        LM_CHECK_ERR(ctx, lm_engine_run(m.e, &(lm_request){ m.on, &id, 1, LM_WANT_LAST }, 1, take, &k), LM_E_IO, "cannot read ahead in");
        LM_CHECK(lm_session_len(m.on) >= len && lm_session_len(m.on) < 64);
        close_model(&m);
        /* no way at all: it is said what is wanted */
        LM_CHECK_ERR(ctx, open_model(&m, path, 100000), LM_E_NOMEM, "they still want");
        close_model(&m);
        end();
    }
}
LM_TEST_MAIN(LM_T1(test_ring), LM_T1(test_ring_refusals), LM_T1(test_model), LM_T1(test_model_fails))
