/* test_sweep.c — memory and files that fail, at every point of the long roads: training, resuming, verifying, opening a model, writing
 * text, scoring, converting.
 *
 * A scenario is run once to count its allocations and file calls; then again with the nth failing, once or from then on, for every n (many
 * n: the first and last ones, and a sample between). After each: an error that names what failed, or the right result; not a byte or
 * descriptor more than before; nothing half-written; and the same work done again without faults comes out right. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "api/api_int.h"
#include "base/file.h"
#include "data/data.h"
#include "eval/perplexity.h"
#include "format/safetensors.h"
#include "test.h"
#define MODEL LM_FIXTURES "/models/llama2-gqa"
enum { POINTS = 110 };                                     /* faults tried per scenario and kind */

static lm_ctx *ctx;
static char root[64];
static const char *at(const char *name) {
    static char b[8][256];
    static int k;
    k = (k + 1) & 7;
    snprintf(b[k], sizeof b[k], "%s/%s", root, name);
    return b[k];
}
static int n_fds(void) {
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d)) n++;
    closedir(d);
    return n;
}
static size_t held(void) { lm_ledger l; lm_mem_ledger(ctx, &l); return l.total_now; }
static uint64_t n_allocs(void) { lm_ledger l; lm_mem_ledger(ctx, &l); return l.n_alloc; }
static void put(const char *path, const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    LM_CHECK(f && fwrite(text, 1, n, f) == n);
    if (f) fclose(f);
}
static void shell(const char *fmt, const char *a, const char *b) { char cmd[600]; snprintf(cmd, sizeof cmd, fmt, a, b); LM_CHECK(!system(cmd)); }
static void begin(void) {
    snprintf(root, sizeof root, "%s/loam-sweep-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(root) || lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) abort();
    char text[6000]; size_t n = 0; unsigned x = 1;
    static const char *const word[] = { "the ", "cat ", "sat ", "on ", "a ", "mat, ", "ran.\n" };
    while (n + 8 < sizeof text) { x = x * 1103515245u + 12345u; const char *w = word[(x >> 16) % 7]; memcpy(text + n, w, strlen(w)); n += strlen(w); }
    put(at("text"), text, n);
}
static void end(void) { lm_ctx_free(ctx); shell("rm -rf '%s'%s", root, ""); }

/* ---- the scenarios ------------------------------------------------------------------------------------------------------------------------ */
static lm_hash128_t last_hash;
static void on_event(void *ud, const lm_run_event *e) { (void)ud; if (e->kind == LM_RUN_END) last_hash = e->hash; }
static void (*watch_steps)(void *, const lm_run_event *);       /* instead of on_event */
static lm_err train_into(const char *out, bool resume) {
    lm_arena *a; lm_run_cfg c;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
    char data[300], o[300];
    snprintf(data, sizeof data, "data.path=%s", at("text")); snprintf(o, sizeof o, "out=%s", out);
    const char *const set[] = { data,
                                o,
                                "data.seq=16",
                                "tokenizer.vocab=258",
                                "model.d=8",
                                "model.n_layer=1",
                                "model.n_head=1",
                                "model.d_ff=8",
                                "train.batch=1",
                                "train.steps=3",
                                "train.checkpoint_every=1",
                                "train.val_every=2",
                                "train.val_batches=1" };
    lm_err err = lm_run_config(ctx, a, NULL, set, LM_COUNT(set), &c);
    memset(&last_hash, 0, sizeof last_hash);
    if (!err) err = lm_train_run(ctx, &c, &(lm_run_opts){ .resume = resume, .event = watch_steps ? watch_steps : on_event });
    lm_arena_free(a);
    return err;
}
static lm_err train(void) { return train_into(at("out"), false); }
static lm_err resume(void) { return train_into(at("out"), true); }
static lm_err verify(void) {
    lm_hash128_t w = {0}, g = {1, 1};
    LM_TRY(lm_train_verify(ctx, at("out"), 2, 3, &w, &g, NULL, NULL));
    LM_CHECK(w.lo == g.lo && w.hi == g.hi);
    return LM_OK;
}
static lm_err write_text(void) {
    lm_weights *w; lm_store *s; lm_engine *e; lm_tok *tok; lm_generation g; lm_perplexity p;
    lm_tok_buf ids = { .ctx = ctx };
    LM_TRY(lm_api_open(ctx, MODEL, &(lm_api_model_opts){ .context = 64, .chunk = 8, .max_seqs = 2 }, &w, &s, &e, &tok));
    lm_err err = lm_prompt_ids(ctx, tok, "the end", 7, &ids);
    const lm_generate_opts o = { .max_tokens = 6, .n = 2, .sample = lm_sample_defaults(), .want_logprobs = true, .top_logprobs = 2 };
    if (!err && !(err = lm_generate(e, tok, ids.id, (int64_t)ids.n, &o, &g))) { LM_CHECK(g.n == 2 && g.out[1].n > 0); lm_generation_free(&g); }
    if (!err)
        err = lm_eval_perplexity(ctx, e, tok, "some words of text", 18,
                                 &(lm_perplexity_opts){ .window = 16, .add_bos = lm_tok_adds_bos(tok) }, &p);
    if (!err) {                                            /* a timeline on disk, and what is there after a fault can still be used */
        lm_session *a = NULL, *b;
        err = lm_session_new(&a, e);
        const lm_request q = { a, ids.id, (int64_t)ids.n, LM_WANT_NONE };
        if (!err) err = lm_engine_run(e, &q, 1, NULL, NULL);
        if (!err) err = lm_session_save(a, at("s.kv"));
        if (!err && !(err = lm_session_load(&b, e, at("s.kv")))) { LM_CHECK(lm_session_len(b) == (int64_t)ids.n); lm_session_free(b); }
        lm_session_free(a);
    }
    lm_tok_buf_free(&ids);
    lm_engine_free(e); lm_store_free(s); lm_tok_free(tok); lm_weights_close(w);
    return err;
}
static lm_err extra(void *ud, lm_gguf_writer *w) { return lm_tok_put_gguf(ctx, ud, w, lm_tok_vocab(ud)); }
static lm_err convert(void) {
    lm_weights *w; lm_store *s = NULL; lm_tok *tok = NULL;
    LM_TRY(lm_weights_open(&w, ctx, MODEL));
    lm_err err = lm_store_new(&s, ctx);
    if (!err) err = lm_weights_load(w, s, &(lm_load_opts){ .dtype = LM_F32 });
    if (!err) err = lm_tok_open(ctx, MODEL, NULL, &tok);
    if (!err) err = lm_model_save_gguf(ctx, lm_weights_cfg(w), s, at("m.gguf"), LM_BF16, NULL, extra, tok);
    lm_store_free(s); lm_tok_free(tok); lm_weights_close(w);
    if (!err && !(err = lm_tok_open(ctx, at("m.gguf"), NULL, &tok))) lm_tok_free(tok);
    return err;
}

/* ---- what must hold after a fault ------------------------------------------------------------------------------------------------------------ */
static lm_hash128_t want;                                  /* of the uninterrupted run's weights */
static void no_litter(const char *dir, const char *what, uint64_t n) {
    char **names; int k;
    if (strstr(what, "and all after")) return;             /* what cannot be removed stays */
    if (!lm_is_dir(dir) || lm_dir_list(ctx, dir, &names, &k)) return;
    for (int i = 0; i < k; i++) {
        char p[300]; snprintf(p, sizeof p, "%s/%s", dir, names[i]);
        if (strstr(names[i], ".tmp")) { lm_t_fail++; printf("%s %d leaves %s\n", what, (int)n, p); }
        if (lm_is_dir(p)) no_litter(p, what, n);
    }
    lm_free(ctx, names);
}
/* Whatever lies in the run's folder is whole; going on, or beginning where nothing was begun, ends in the weights of a run without faults. */
static void whole_run(const char *what, uint64_t n) {
    char **names; int k;
    const char *dir = at("out/checkpoints");
    if (lm_is_dir(dir) && !lm_dir_list(ctx, dir, &names, &k)) {
        for (int i = 0; i < k; i++) {
            char p[300]; snprintf(p, sizeof p, "%s/%s", dir, names[i]);
            if (lm_is_dir(p) && !strstr(names[i], ".tmp") && lm_ckpt_verify(ctx, p)) {
                lm_t_fail++;
                printf("%s %d: a checkpoint that is not whole: %s\n", what, (int)n, lm_error(ctx));
            }
        }
        lm_free(ctx, names);
    }
    static const char *const tensors[] = { "out/model.safetensors", "out/best/model.safetensors" };
    for (int i = 0; i < 2; i++) {
        lm_st *st;
        if (!lm_exists(at(tensors[i]))) continue;
        LM_CHECK_OK(ctx, lm_st_open(&st, ctx, at(tensors[i])));
        lm_st_close(st);
    }
    lm_err e = lm_is_dir(at("out")) ? train_into(at("out"), true) : LM_OK;
    if (!lm_is_dir(at("out")) || e == LM_E_NOTFOUND) e = train_into(at("out"), false);
    if (e || !lm_hash_same(last_hash, want)) {
        lm_t_fail++;
        printf("%s %d: afterwards the run does not come out right: %s %s\n", what, (int)n, lm_err_name(e),
               e ? lm_error(ctx) : "other weights");
    }
    no_litter(at("out"), what, n);
    LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("out")));
}
static void at_step_2(void) { LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("out"))); shell("cp -r '%s' '%s'", at("two"), at("out")); }
static void at_end(void) { LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("out"))); shell("cp -r '%s' '%s'", at("three"), at("out")); }
static void no_run(void) { LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("out"))); }
static void no_gguf(void) { unlink(at("m.gguf")); }
static void whole_gguf(const char *what, uint64_t n) {
    lm_weights *w;
    no_litter(root, what, n);
    if (!lm_exists(at("m.gguf"))) return;
    LM_CHECK_OK(ctx, lm_weights_open(&w, ctx, at("m.gguf")));
    lm_weights_close(w);
}

/* ---- the sweep --------------------------------------------------------------------------------------------------------------------------------- */
typedef struct { const char *name; lm_err (*run)(void); void (*before)(void); void (*after)(const char *what, uint64_t n); } scenario;
static const int errs[] = { ENOSPC, EIO, EINTR, -1, EACCES, EMFILE };
/* The first and the last ones, and a sample between that differs from run to run of the program by nothing. */
static uint64_t next(uint64_t n, uint64_t all) { return n < 30 || n + 30 >= all || all <= POINTS ? n + 1 : n + 1 + (all - 60) / (POINTS - 60); }
static bool names_it(int err) {
    static const char *const says[] = { "No space left", "Input/output error", NULL, NULL, "Permission denied", "Too many open files" };
    for (int i = 0; i < LM_COUNT(errs); i++) if (errs[i] == err) return !says[i] || strstr(lm_error(ctx), says[i]);
    return false;
}
/* A file that cannot be looked at counts as one that is not there: then the sentence is about that. */
static bool vague(void) {
    static const char *const says[] = { "it is a folder", "there is no model", "is not a folder", "holds no", "has no",
                                        "neither",        "no such",           "no tokenizer",    "keeps no" };
    for (int i = 0; i < LM_COUNT(says); i++) if (strstr(lm_error(ctx), says[i])) return true;
    return false;
}
static void judge(const scenario *s, const char *what, uint64_t n, size_t memory, int fds) {
    if (held() != memory) { lm_t_fail++; printf("%s: %s %d failing: %zd bytes stay\n", s->name, what, (int)n, (ssize_t)(held() - memory)); }
    if (n_fds() != fds) { lm_t_fail++; printf("%s: %s %d failing: a descriptor stays\n", s->name, what, (int)n); }
}
static void sweep(const scenario *s) {
    char what[100];
    if (s->before) s->before();
    LM_NEED_OK(ctx, s->run());                             /* what is made once is made now */
    if (s->before) s->before();
    const size_t memory = held(); const int fds = n_fds();
    const uint64_t a0 = n_allocs(), c0 = lm_file_calls();
    LM_NEED_OK(ctx, s->run());
    const uint64_t allocs = n_allocs() - a0, calls = lm_file_calls() - c0;
    LM_CHECK(held() == memory && n_fds() == fds && allocs > 5 && calls > 5);
    uint64_t k = 0, failed = 0;
    for (uint64_t n = 1; n <= allocs; n = next(n, allocs), k++) {
        if (s->before) s->before();
        snprintf(what, sizeof what, "%s: allocation (%s)", s->name, k & 1 ? "and all after" : "once");
        lm_mem_fail_at(ctx, n, k & 1);
        const lm_err e = s->run();
        lm_mem_fail_at(ctx, 0, false);
        failed += e != LM_OK;
        if (e && e != LM_E_NOMEM) { lm_t_fail++; printf("%s %d: %s: %s\n", what, (int)n, lm_err_name(e), lm_error(ctx)); }
        if (e && !strstr(lm_error(ctx), "memory")) { lm_t_fail++; printf("%s %d says: %s\n", what, (int)n, lm_error(ctx)); }
        judge(s, what, n, memory, fds);
        if (s->after) s->after(what, n);
    }
    LM_CHECK(failed > k / 2);
    failed = k = 0;
    for (uint64_t n = 1; n <= calls; n = next(n, calls), k++) {
        const int err = errs[k % LM_COUNT(errs)];
        const bool sticky = k / LM_COUNT(errs) & 1 && err != EINTR && err != -1;
        if (s->before) s->before();
        snprintf(what, sizeof what, "%s: file call (%s, %s)", s->name, err < 0 ? "short" : strerror(err), sticky ? "and all after" : "once");
        lm_file_fail_at(n, err, sticky);
        const lm_err e = s->run();
        lm_file_fail_at(0, 0, false);
        failed += e != LM_OK;
        if (e && (err == EINTR || err < 0)) {
            lm_t_fail++;
            printf("%s %d: %s: %s\n", what, (int)n, lm_err_name(e), lm_error(ctx));
        } else if (e && (e != (err == ENOSPC ? LM_E_NOSPACE : LM_E_IO) || !names_it(err)) && !vague()) {
            lm_t_fail++;
            printf("%s %d: %s: %s\n", what, (int)n, lm_err_name(e), lm_error(ctx));
        }
        judge(s, what, n, memory, fds);
        if (s->after) s->after(what, n);
    }
    LM_CHECK(failed > k / 5);
    if (s->before) s->before();
    LM_CHECK_OK(ctx, s->run());
}
static void test_train(void) {
    begin();
    LM_NEED_OK(ctx, train());
    want = last_hash;
    shell("cp -r '%s' '%s'", at("out"), at("three"));
    shell("cp -r '%s' '%s'", at("out"), at("two"));
    shell("rm -r '%s' '%s'", at("two/checkpoints/step-00000003"), at("two/model.safetensors"));
    sweep(&(scenario){ "train", train, no_run, whole_run });
    end();
}
static void test_resume(void) {
    begin();
    LM_NEED_OK(ctx, train());
    want = last_hash;
    shell("cp -r '%s' '%s'", at("out"), at("three"));
    shell("mv '%s' '%s'", at("out"), at("two"));
    shell("rm -r '%s' '%s'", at("two/checkpoints/step-00000003"), at("two/model.safetensors"));
    sweep(&(scenario){ "resume", resume, at_step_2, whole_run });
    sweep(&(scenario){ "verify", verify, at_end, whole_run });
    end();
}
/* ---- a disk that is full for a while ---- */
typedef struct { uint64_t n; bool told, whole; } full;
static full disk;
static void on_log(void *ud, lm_level level, const char *room, const char *msg) {
    (void)ud; (void)room;
    disk.told |= level == LM_LOG_WARN && strstr(msg, "No space left") && strstr(msg, "tries again");
}
static void on_step(void *ud, const lm_run_event *e) {
    char *path;
    (void)ud;
    if (e->kind == LM_RUN_END) last_hash = e->hash;
    /* in what follows the step: validation, `best`, the checkpoint */
    if (e->kind == LM_RUN_STEP && e->step == 2) lm_file_fail_at(disk.n, ENOSPC, false);
    if (e->kind == LM_RUN_STEP && e->step == 3) {
        lm_file_fail_at(0, 0, false);
        disk.whole = !lm_ckpt_find(ctx, NULL, at("out/checkpoints"), &path);
        if (disk.whole) lm_free(ctx, path);
    }
}
/* Whatever call finds no room while the second checkpoint is written: the first stays whole, the run says so, goes on, and ends in the
 * right weights with nothing half-written. */
static void test_full_for_a_while(void) {
    begin();
    LM_NEED_OK(ctx, train());
    want = last_hash;
    lm_ctx_free(ctx);
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1, .log = on_log })) abort();
    watch_steps = on_step;
    int told = 0;
    for (uint64_t n = 1; n <= 200; n += n < 20 ? 1 : 6) {
        LM_CHECK_OK(ctx, lm_dir_remove(ctx, at("out")));
        disk = (full){ .n = n };
        const lm_err e = train();
        lm_file_fail_at(0, 0, false);
        if (e == LM_E_NOSPACE && strstr(lm_error(ctx), "metrics.jsonl")) break;      /* past the checkpoint: the next step's line */
        if (e || !lm_hash_same(last_hash, want) || !disk.whole) {
            lm_t_fail++;
            printf("no room at call %d after step 2: %s %s\n", (int)n, lm_err_name(e), lm_error(ctx));
        }
        no_litter(at("out"), "no room for a while", n);
        told += disk.told;
    }
    watch_steps = NULL;
    LM_CHECK(told > 20);
    end();
}
static void test_write_text(void) { begin(); sweep(&(scenario){ "write text", write_text, NULL, NULL }); end(); }
static void test_convert(void) { begin(); sweep(&(scenario){ "convert", convert, no_gguf, whole_gguf }); end(); }
LM_TEST_MAIN(LM_T1(test_train), LM_T1(test_resume), LM_T1(test_full_for_a_while), LM_T1(test_write_text), LM_T1(test_convert))
