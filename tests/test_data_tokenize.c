/* test_data_tokenize.c — lm_data_tokenize: equal bytes for any number of threads and after any kill, clear errors and no litter when
 * something fails. */
#include "data_test.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

enum { N = 160, SHARD = 4000 };
static const char *in_paths[3];
static void write_inputs(void) {
    t_doc *d = t_docs(N, 900, 30);
    t_write_jsonl(t_path("a.jsonl"), d, 70);
    t_write(t_path("b.txt"), d[70].p, d[70].n);
    t_write_jsonl(t_path("c.jsonl"), d + 71, N - 71);
    t_docs_free(d, N);
    in_paths[0] = t_path("a.jsonl"); in_paths[1] = t_path("b.txt"); in_paths[2] = t_path("c.jsonl");
}
static lm_tokenize_opts opts(const char *out) {
    return (lm_tokenize_opts){ .out = out, .in = in_paths, .n_in = 3, .shard_tokens = SHARD, .val_fraction = 0.2, .add_eos = true };
}
static lm_err tokenize(lm_ctx *ctx, const char *out) {
    lm_tok *tok = t_tok(ctx, 290);
    lm_tokenize_opts o = opts(out);
    lm_err e = lm_data_tokenize(ctx, tok, &o);
    lm_tok_free(tok);
    return e;
}
static bool has_litter(const char *dir) {
    char **names; int n; bool found = false;
    if (lm_dir_list(NULL, dir, &names, &n)) return false;
    for (int i = 0; i < n; i++) {
        char p[600];
        snprintf(p, sizeof p, "%s/%s", dir, names[i]);
        if (strstr(names[i], ".tmp")) { printf("left behind: %s\n", p); found = true; }
        if (lm_is_dir(p)) found |= has_litter(p);
    }
    lm_free(NULL, names);
    return found;
}

static void test_threads(void) {
    write_inputs();
    lm_hash128_t want = {0};
    const int threads[] = { 1, 2, 7 };
    for (int i = 0; i < 3; i++) {
        lm_ctx *ctx = t_ctx(threads[i]);
        char out[32]; int files;
        snprintf(out, sizeof out, "out%d", i);
        LM_CHECK_OK(ctx, tokenize(ctx, t_path(out)));
        lm_hash128_t h = t_tree(t_path(out), &files);
        if (!i) want = h;
        LM_CHECK(lm_hash_same(h, want) && files > 10);
        lm_ctx_free(ctx);
    }
    t_done();
}
/* Train and val together are the documents, each once and in order; the side is chosen by the text alone. */
static void test_split(void) {
    lm_ctx *ctx = t_ctx(2);
    enum { M = 2000 };
    t_doc *d = t_docs(M, 40, 31);
    t_write_jsonl(t_path("a.jsonl"), d, M);
    const char *in[] = { t_path("a.jsonl") };
    lm_tok *tok = t_tok(ctx, 257);
    lm_tokenize_opts o = { .out = t_path("out"), .in = in, .n_in = 1, .val_fraction = 0.1, .add_eos = true };
    LM_NEED_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    lm_shards *s[2];
    LM_NEED_OK(ctx, lm_shards_open(&s[0], ctx, t_path("out")));
    LM_NEED_OK(ctx, lm_shards_open(&s[1], ctx, t_path("out/val")));
    int64_t docs = 0, at[2] = {0}, bytes = 0, bad = 0;
    for (int i = 0; i < M; i++) {
        if (!d[i].n) continue;
        int32_t id[64];
        bool hit = false;
        for (int k = 0; k < 2 && !hit; k++) {
            int64_t n = (int64_t)d[i].n + 1;
            if (at[k] + n > lm_shards_tokens(s[k]) || lm_shards_get(s[k], at[k], n, id)) continue;
            hit = lm_tok_is_eos(tok, id[n - 1]);
            for (int64_t t = 0; t + 1 < n && hit; t++) {
                size_t len;
                const char *p = lm_tok_piece(tok, id[t], &len);
                hit = len == 1 && *p == d[i].p[t];
            }
            if (hit) at[k] += n;
        }
        bad += !hit;
        docs++;
        bytes += (int64_t)d[i].n;
    }
    LM_CHECK(bad == 0 && at[0] == lm_shards_tokens(s[0]) && at[1] == lm_shards_tokens(s[1]));
    LM_CHECK(lm_shards_docs(s[0]) + lm_shards_docs(s[1]) == docs && lm_shards_bytes(s[0]) + lm_shards_bytes(s[1]) == bytes);
    double share = (double)lm_shards_docs(s[1]) / (double)docs;
    LM_CHECK(share > 0.07 && share < 0.13);
    lm_shards_close(s[0]);
    lm_shards_close(s[1]);
    /* all held out, or nothing there, is an error that leaves nothing */
    t_write(t_path("one.txt"), "a text", 6);
    in[0] = t_path("one.txt"); o.out = t_path("none"); o.val_fraction = 1 - 1e-12;
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_DATA, "held out every document");
    LM_CHECK(!lm_exists(t_path("none")));
    t_write(t_path("empty.txt"), "", 0);
    in[0] = t_path("empty.txt"); o.val_fraction = 0;
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_DATA, "no text");
    LM_CHECK(!lm_exists(t_path("none")));
    lm_tok_free(tok);
    t_docs_free(d, M);
    lm_ctx_free(ctx);
    t_done();
}

/* ---- kill -9 ---- */
static _Atomic uint64_t kill_at;
static void *killer(void *ud) {
    (void)ud;
    while (lm_file_calls() < kill_at) sched_yield();
    kill(getpid(), SIGKILL);
    return NULL;
}
/* In a process of its own. exact: from its nth call on files nothing reaches the disk, then it is killed; else it is killed at about that
 * call, in the midst of whatever it does. True: killed before it had finished. */
static bool run_killed(const char *out, uint64_t n, bool exact) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        pthread_t th;
        kill_at = lm_file_calls() + n;
        if (exact) lm_file_fail_at(n, EIO, true);
        else if (pthread_create(&th, NULL, killer, NULL)) _exit(3);
        lm_ctx *ctx = t_ctx(2);
        lm_err e = tokenize(ctx, out);
        if (e && exact) kill(getpid(), SIGKILL);
        _exit(e ? 2 : 0);
    }
    int st = 0;
    waitpid(pid, &st, 0);
    if (WIFEXITED(st) && WEXITSTATUS(st)) { lm_t_fail++; printf("the child failed: %d\n", WEXITSTATUS(st)); }
    return WIFSIGNALED(st);
}
static void test_kill_and_resume(void) {
    write_inputs();
    lm_ctx *ctx = t_ctx(2);
    int files, kept = 0, kills = 0;
    uint64_t calls = lm_file_calls();
    LM_NEED_OK(ctx, tokenize(ctx, t_path("whole")));
    calls = lm_file_calls() - calls;
    /* its threads end before a fork: a child of several threads may not start its own */
    lm_ctx_free(ctx);
    lm_hash128_t want = t_tree(t_path("whole"), &files);
    lm_rng r = lm_rng_of(17, "kills");
    enum { EXACT = 24, ALL = 32 };
    for (int i = 0; i < ALL; i++) {
        char out[32], name[64];
        snprintf(out, sizeof out, "out%d", i);
        const char *dir = t_path(out);
        bool exact = i < EXACT;
        for (int k = 0; k < 1 + i % 3; k++) {                            /* killed, gone on with, killed again */
            uint64_t n = exact && !k ? (uint64_t)(i + 1) * calls / (EXACT + 1) : 1 + lm_rng_below(r, (uint64_t)(i * 10 + k), calls);
            kills += run_killed(dir, n, exact);
            lm_shards *s;
            snprintf(name, sizeof name, "%s/index.json", out);
            if (lm_exists(t_path(name))) continue;
            ctx = t_ctx(1);
            LM_CHECK_ERR(ctx, lm_shards_open(&s, ctx, dir), LM_E_NOTFOUND, "");
            lm_ctx_free(ctx);
        }
        struct stat before = {0}, after = {0};
        snprintf(name, sizeof name, "%s/resume.json", out);
        bool there = lm_exists(t_path(name));
        snprintf(name, sizeof name, "%s/00000.shard", out);
        there = there && !stat(t_path(name), &before);
        ctx = t_ctx(2);
        LM_CHECK_OK(ctx, tokenize(ctx, dir));
        lm_ctx_free(ctx);
        kept += there && !stat(t_path(name), &after) && before.st_ino == after.st_ino && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec;
        if (!lm_hash_same(t_tree(dir, &files), want)) { lm_t_fail++; printf("%s differs from the uninterrupted run\n", out); }
    }
    LM_CHECK(kills >= EXACT && kept > EXACT / 2);
    t_done();
}
/* Finished shards are not made again; damaged ones are; other inputs throw the unfinished away and leave the finished alone. */
typedef struct { int calls; } kill_ud;
static void kill_late(void *ud, int64_t bytes, int64_t total, int64_t tokens) {
    (void)ud; (void)bytes; (void)total; (void)tokens;
    kill(getpid(), SIGKILL);
}
static void kill_after_first_batch(const char *out) {
    fflush(stdout);
    pid_t pid = fork();
    if (!pid) {
        lm_ctx *ctx = t_ctx(1);
        lm_tok *tok = t_tok(ctx, 290);
        lm_tokenize_opts o = opts(out);
        o.progress = kill_late;
        (void)lm_data_tokenize(ctx, tok, &o);
        _exit(1);
    }
    int st;
    waitpid(pid, &st, 0);
    LM_CHECK(WIFSIGNALED(st));
}
static void test_what_is_kept(void) {
    write_inputs();
    lm_ctx *ctx = t_ctx(1);
    int files;
    LM_NEED_OK(ctx, tokenize(ctx, t_path("whole")));
    lm_hash128_t want = t_tree(t_path("whole"), &files);
    const char *out = t_path("out");
    kill_after_first_batch(out);                                        /* all shards but the last two are finished */
    struct stat a, b, c, d;
    LM_CHECK(!stat(t_path("out/00000.shard"), &a) && !stat(t_path("out/00003.shard"), &b));
    size_t n;
    char *p = t_read(t_path("out/00003.shard"), &n);
    p[100] ^= 1;
    t_write(t_path("out/00003.shard"), p, n);
    lm_free(NULL, p);
    t_write(t_path("out/00077.shard.tmp-123"), "x", 1);
    t_write(t_path("out/00077.shard"), "x", 1);
    t_write(t_path("out/notes.txt"), "mine", 4);
    LM_CHECK_OK(ctx, tokenize(ctx, out));
    LM_CHECK(!stat(t_path("out/00000.shard"), &c) && !stat(t_path("out/00003.shard"), &d));
    LM_CHECK(a.st_ino == c.st_ino && a.st_mtim.tv_sec == c.st_mtim.tv_sec && a.st_mtim.tv_nsec == c.st_mtim.tv_nsec);
    LM_CHECK(lm_exists(t_path("out/notes.txt")));
    unlink(t_path("out/notes.txt"));
    LM_CHECK(lm_hash_same(t_tree(out, &files), want));
    kill_after_first_batch(t_path("out2"));
    lm_shard like;                                                      /* whole, of the same size, but another */
    lm_shard_out *lw;
    lm_shard_sum ls;
    p = t_read(t_path("out2/00002.shard"), &n);
    LM_NEED_OK(ctx, lm_shard_parse(ctx, "p", p, n, &like));
    LM_NEED_OK(ctx, lm_shard_create(&lw, ctx, t_path("out2/00002.shard"), &(lm_shard_kind){ like.vocab, like.eos, like.tok }));
    for (int64_t k = 0; k < like.n_docs; k++) {
        for (int64_t i = like.doc[k]; i < like.doc[k + 1]; i++) LM_CHECK_OK(ctx, lm_shard_add(lw, (int32_t[]){ 9 }, 1));
        LM_CHECK_OK(ctx, lm_shard_end_doc(lw, 1));
    }
    LM_NEED_OK(ctx, lm_shard_finish(lw, &ls));
    LM_CHECK(ls.size == (int64_t)n);
    lm_free(NULL, p);
    LM_CHECK_OK(ctx, tokenize(ctx, t_path("out2")));
    LM_CHECK(lm_hash_same(t_tree(t_path("out2"), &files), want));
    t_write(t_path("out/.lock"), "1\n", 2);                             /* of one that was killed at its very end */
    LM_CHECK_OK(ctx, tokenize(ctx, out));
    LM_CHECK(lm_hash_same(t_tree(out, &files), want));
    uint64_t calls = lm_file_calls();
    LM_CHECK_OK(ctx, tokenize(ctx, out));                              /* finished: nothing to do */
    LM_CHECK(lm_file_calls() - calls < 40 && lm_hash_same(t_tree(out, &files), want));
    /* an input that changed: another time is enough */
    struct timespec later[2] = { { 1000000000, 5 }, { 1000000000, 5 } };
    struct stat now;
    LM_CHECK(!stat(t_path("b.txt"), &now));
    LM_CHECK(!utimensat(AT_FDCWD, t_path("b.txt"), later, 0));
    LM_CHECK_ERR(ctx, tokenize(ctx, out), LM_E_MISMATCH, "other inputs");
    later[0] = now.st_atim; later[1] = now.st_mtim;
    LM_CHECK(!utimensat(AT_FDCWD, t_path("b.txt"), later, 0));
    LM_CHECK_OK(ctx, tokenize(ctx, out));
    kill_after_first_batch(t_path("half"));
    t_write(t_path("b.txt"), "another text", 12);
    LM_CHECK_ERR(ctx, tokenize(ctx, out), LM_E_MISMATCH, "other inputs");
    LM_CHECK(lm_hash_same(t_tree(out, &files), want));
    LM_CHECK_OK(ctx, tokenize(ctx, t_path("half")));
    LM_CHECK_OK(ctx, tokenize(ctx, t_path("fresh")));
    LM_CHECK(lm_hash_same(t_tree(t_path("half"), &files), t_tree(t_path("fresh"), &files)));
    /* a folder that is somebody else's */
    lm_dir_make(ctx, t_path("model"));
    t_write(t_path("model/tokenizer.json"), "{}", 2);
    LM_CHECK_ERR(ctx, tokenize(ctx, t_path("model")), LM_E_CONFIG, "tokenizer of its own");
    lm_ctx_free(ctx);
    t_done();
}

/* ---- bad input ---- */
static int warnings;
static void count_warnings(void *ud, lm_level level, const char *room, const char *msg) {
    (void)ud; (void)room;
    warnings += level == LM_LOG_WARN && strstr(msg, "left out:") != NULL;
}
static void test_on_error(void) {
    lm_ctx *ctx;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2, .log = count_warnings })) exit(1);
    lm_str s = { .ctx = ctx };
    for (int i = 0; i < 40; i++) {
        if (i % 10 == 3) lm_str_puts(&s, "{\"text\": \"cut off\n");
        else if (i % 10 == 7) lm_str_puts(&s, "{\"body\": \"other\"}\n");
        else lm_str_printf(&s, "{\"text\": \"document %d\"}\n", i);
    }
    t_write(t_path("a.jsonl"), s.p, s.n);
    lm_str_free(&s);
    t_write(t_path("b.txt"), "\xff\xfe", 2);
    const char *in[] = { t_path("a.jsonl"), t_path("b.txt") };
    lm_tok *tok = t_tok(ctx, 257);
    lm_tokenize_opts o = { .out = t_path("out"), .in = in, .n_in = 2, .add_eos = true, .shard_tokens = 60 };
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_DATA, "a.jsonl:4: JSON");
    LM_CHECK(!lm_exists(t_path("out/index.json")));
    o.on_error = "skip";
    LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    LM_CHECK(warnings == 9);
    lm_shards *sh;
    LM_NEED_OK(ctx, lm_shards_open(&sh, ctx, t_path("out")));
    LM_CHECK(lm_shards_docs(sh) == 32 && sh->n > 3);
    lm_shards_close(sh);
    size_t n;
    char *index = t_read(t_path("out/index.json"), &n);
    LM_CHECK(index && strstr(index, "\"skipped\": 9,"));
    lm_free(NULL, index);
    /* stopped anywhere and gone on with, the bad ones are counted once */
    int files;
    lm_hash128_t want = t_tree(t_path("out"), &files);
    for (uint64_t k = 20; k < 400; k += 19) {
        o.out = t_path("again");
        (void)lm_dir_remove(ctx, o.out);
        lm_file_fail_at(k, EIO, true);
        lm_err e = lm_data_tokenize(ctx, tok, &o);
        lm_file_fail_at(0, 0, false);
        LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
        if (!lm_hash_same(t_tree(o.out, &files), want)) { lm_t_fail++; printf("stopped at call %d: another folder\n", (int)k); }
        if (!e) { LM_CHECK(k > 100); break; }
    }
    o.out = t_path("out");
    o.on_error = "ignore";
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_CONFIG, "\"ignore\"");
    o.on_error = NULL; o.val_fraction = 1;
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_CONFIG, "val_fraction");
    o.val_fraction = 0; o.n_in = 0;
    LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_CONFIG, "no input");
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}
static void test_no_eos(void) {
    lm_ctx *ctx = t_ctx(1);
    lm_tok *tok = t_tok(ctx, 257);
    t_write(t_path("a.jsonl"), "{\"text\":\"ab\"}\n{\"text\":\"c\"}\n", 27);
    const char *in[] = { t_path("a.jsonl") };
    lm_tokenize_opts o = { .out = t_path("out"), .in = in, .n_in = 1 };
    LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    lm_shards *s;
    LM_NEED_OK(ctx, lm_shards_open(&s, ctx, t_path("out")));
    LM_CHECK(lm_shards_tokens(s) == 3 && lm_shards_docs(s) == 2 && lm_shards_doc_start(s, 1) == 0 && lm_shards_doc_start(s, 2) == 2);
    lm_shards_close(s);
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}

/* ---- faults ---- */
static void test_faults(void) {
    if (LM_T_RACES) LM_SKIP("one thread: the thread sanitizer has nothing to find");
    write_inputs();
    lm_ctx *ctx = t_ctx(1);
    int files, failed = 0;
    LM_NEED_OK(ctx, tokenize(ctx, t_path("whole")));
    lm_hash128_t want = t_tree(t_path("whole"), &files);
    lm_tok *tok = t_tok(ctx, 290);
    const struct {
        int err;
        lm_err code;
        const char *says;
    } kind[] = { { ENOSPC, LM_E_NOSPACE, "No space left" },
                 { EIO, LM_E_IO, "Input/output error" },
                 { EACCES, LM_E_IO, "Permission denied" } };
    uint64_t calls = lm_file_calls();
    lm_tokenize_opts o = opts(t_path("count"));
    LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    calls = lm_file_calls() - calls;
    for (uint64_t k = 1, step = 0; k <= calls; k += k < 30 || k + 30 > calls ? 1 : 7, step++) {
        int which = (int)(step % 3);
        const char *out = t_path("out");
        (void)lm_dir_remove(ctx, out);
        o = opts(out);
        lm_file_fail_at(k, kind[which].err, false);
        lm_err e = lm_data_tokenize(ctx, tok, &o);
        lm_file_fail_at(0, 0, false);
        failed += e != LM_OK;
        /* lm_dir_make asks what is there when it cannot make a folder; if that fails it can only say "exists" */
        bool vague = strstr(lm_error(ctx), "File exists") != NULL;
        if (e && e != LM_E_CONFIG && !vague && (e != kind[which].code || !strstr(lm_error(ctx), kind[which].says))) {
            lm_t_fail++;
            printf("call %d: %s: %s\n", (int)k, lm_err_name(e), lm_error(ctx));
        }
        LM_CHECK(!has_litter(out));
        LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
        if (!lm_hash_same(t_tree(out, &files), want)) { lm_t_fail++; printf("after a fault at call %d the folder differs\n", (int)k); }
    }
    LM_CHECK(failed > 20);
    o = opts("/proc/loam-test");
    lm_err e = lm_data_tokenize(ctx, tok, &o);
    LM_CHECK(e && strstr(lm_error(ctx), "/proc/loam-test"));
    if (geteuid()) {
        lm_dir_make(ctx, t_path("locked"));
        chmod(t_path("locked"), 0555);
        o = opts(t_path("locked/out"));
        LM_CHECK_ERR(ctx, lm_data_tokenize(ctx, tok, &o), LM_E_IO, "locked/out");
        chmod(t_path("locked"), 0755);
    }
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}
static void test_allocations(void) {
    if (LM_T_RACES) LM_SKIP("one thread: the thread sanitizer has nothing to find");
    write_inputs();
    lm_ctx *ctx = t_ctx(1);
    lm_tok *tok = t_tok(ctx, 290);
    lm_ledger before, after;
    lm_tokenize_opts o = opts(t_path("warm"));
    LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    lm_mem_ledger(ctx, &before);
    uint64_t n = before.n_alloc;
    o = opts(t_path("warm2"));
    LM_CHECK_OK(ctx, lm_data_tokenize(ctx, tok, &o));
    lm_mem_ledger(ctx, &before);
    n = before.n_alloc - n;
    for (uint64_t k = 1, step = 0; k <= n; k += k < 60 ? 1 : 1 + n / 60, step++) {
        (void)lm_dir_remove(ctx, t_path("out"));
        o = opts(t_path("out"));
        lm_mem_fail_at(ctx, k, step % 2);
        lm_err e = lm_data_tokenize(ctx, tok, &o);
        lm_mem_fail_at(ctx, 0, false);
        lm_mem_ledger(ctx, &after);
        if (e != LM_E_NOMEM) { lm_t_fail++; printf("allocation %d: %s %s\n", (int)k, lm_err_name(e), lm_error(ctx)); }
        if (before.now[LM_MEM_DATA] != after.now[LM_MEM_DATA] || before.now[LM_MEM_IO] != after.now[LM_MEM_IO]) {
            lm_t_fail++;
            printf("allocation %d: something leaked\n", (int)k);
            break;
        }
        LM_CHECK(!has_litter(t_path("out")));
    }
    lm_tok_free(tok);
    lm_ctx_free(ctx);
    t_done();
}
LM_TEST_MAIN(LM_T1(test_threads), LM_T1(test_split), LM_T1(test_kill_and_resume), LM_T1(test_what_is_kept), LM_T1(test_on_error),
             LM_T1(test_no_eos), LM_T1(test_faults), LM_T1(test_allocations))
