/* test_dist.c — several ranks against one.
 *
 * The parent starts itself under mpirun (`test_dist job DIR KEY…`) and compares what rank 0 leaves in DIR/out-KEY (doubles by name) with
 * what one process computes. Collectives are compared with sums made in rank order here. Without mpirun the tests that need it are
 * skipped. */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "device/cpu.h"
#include "dist_rig.h"
#include "train/train_int.h"

static const char *self_path;
/* A whole run, as the program makes it: text → tokenizer → steps, validation, checkpoints, folder. The state of a resumed one is on disk. */
static void on_event(void *ud, const lm_run_event *e) {
    result *x = ud;
    if (e->kind == LM_RUN_STEP && e->step <= STEPS) { x->loss[e->step - 1] = e->loss; x->norm[e->step - 1] = e->grad_norm; }
    if (e->kind == LM_RUN_VAL) x->eval = e->val_loss;
    if (e->kind == LM_RUN_END) hash_into(e->hash, x->hash);
}
static lm_err run_training(lm_ctx *ctx, lm_comm *c, const char *mesh, const char *dir, const char *sub, int steps, bool resume, result *x) {
    char out[600], text[600];
    snprintf(out, sizeof out, "%s/%s", dir, sub); snprintf(text, sizeof text, "%s/text.txt", dir);
    lm_run_cfg k; lm_arena *a;
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
    lm_err e = lm_opt_defaults(ctx, a, lm_run_options, &k);
    k.out = out;
    k.mesh = mesh;
    k.data.path = text;
    k.data.seq = 32;
    k.tokenizer.vocab = 300;
    k.model.d = 32;
    k.model.n_layer = 2;
    k.model.n_head = 2;
    k.train.steps = steps;
    k.train.batch = BATCH;
    k.train.val_every = 2; k.train.val_batches = 1; k.train.checkpoint_every = CUT; k.optim.warmup = 1; k.optim.schedule = 0; k.train.micro_batch = 1;
    if (!strncmp(sub, "fp8", 3)) { k.train.dtype = LM_RUN_FP8; k.model.d = 128; k.model.d_ff = 256; k.model.n_layer = 1; }
    lm_run_opts o = { .resume = resume, .event = on_event, .ud = x, .comm = c };
    if (!e) e = lm_train_run(ctx, &k, &o);
    lm_arena_free(a);
    return e;
}
/* ---- checkpoints: kept, moved, and written where something fails --------------------------------------------------------------------------- */
/* Read on this mesh and written by it, nothing done between. */
static lm_err move(lm_ctx *ctx, lm_comm *c, int k, const char *from, const char *to) {
    rig r;
    char *path;
    lm_ckpt_state st;
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    lm_err e = lm_ckpt_find(ctx, c, from, &path);
    if (!e) { e = lm_ckpt_load(r.t, path, &st); lm_free(ctx, path); }
    if (!e) e = lm_ckpt_save(r.t, to, &st, 2);
    rig_free(&r);
    return e;
}
typedef struct { lm_ctx *ctx; lm_comm *c; rig r; const char *dir; char first[800], second[800]; } spot;
static lm_err saves(spot *s) {
    const lm_ckpt_state st = { .step = CUT + 1, .isa = "any" };
    return lm_ckpt_save(s->r.t, s->dir, &st, 2);
}
static lm_err loads(spot *s) {
    char *path;
    lm_ckpt_state st;
    LM_TRY(lm_ckpt_find(s->ctx, s->c, s->dir, &path));
    const lm_err e = lm_ckpt_load(s->r.t, path, &st);
    lm_free(s->ctx, path);
    return e;
}
/* Each call of one rank's fails once, or it and all after: all ranks hear of it and none waits, what was written before stays whole, nothing half-made stays. */
static lm_err faults(spot *s, int victim, int kind, bool loading, int *failed) {
    lm_comm *c = s->c;
    const bool me = c->rank == victim, lead = !c->rank;
    lm_ledger l0, l1;
    lm_mem_ledger(s->ctx, &l0);
    uint64_t all = lm_file_calls();
    LM_TRY(loading ? loads(s) : saves(s));
    lm_mem_ledger(s->ctx, &l1);
    all = kind == 2 ? l1.n_alloc - l0.n_alloc : lm_file_calls() - all;
    LM_TRY(c->broadcast(c, &all, sizeof all, victim));
    for (uint64_t n = 1; n <= all; n += 1 + n / (LM_T_WATCHED ? 6 : 20)) {
        if (lead && !loading) LM_TRY(lm_dir_remove(s->ctx, s->second));
        LM_TRY(c->barrier(c));
        if (me && kind < 2) lm_file_fail_at(n, kind ? EACCES : ENOSPC, !kind);
        if (me && kind == 2) lm_mem_fail_at(s->ctx, n, false);
        const lm_err got = loading ? loads(s) : saves(s);
        if (me) { lm_file_fail_at(0, 0, false); lm_mem_fail_at(s->ctx, 0, false); }
        char why[1000];
        snprintf(why, sizeof why, "rank %d of %d, %s, kind %d, call %d of rank %d: %s: %s", c->rank, c->size,
                 loading ? "loading" : "saving", kind, (int)n, victim, lm_err_name(got), got ? lm_error(s->ctx) : "");
        double v[1] = { got != LM_OK };
        LM_TRY(lm_comm_sum(c, v, 1));
        if (v[0] != 0 && v[0] != c->size) return lm_fail(s->ctx, LM_E_INTERNAL, "%g of the ranks fail: %s", v[0], why);
        const lm_err want = kind == 2 ? LM_E_NOMEM : kind ? LM_E_IO : LM_E_NOSPACE;
        /* what cannot be looked at counts as not there */
        const bool vague = loading && (got == LM_E_NOTFOUND || got == LM_E_FORMAT || got == LM_E_MISMATCH);
        if (got && !vague && got != (me ? want : LM_E_COMM)) return lm_fail(s->ctx, LM_E_INTERNAL, "another code: %s", why);
        if (got && !loading && !me && !strstr(why, "was not written, earlier ones are untouched") && !strstr(why, "naming the newest"))
            return lm_fail(s->ctx, LM_E_INTERNAL, "another sentence: %s", why);
        *failed += got != LM_OK;
        lm_err e = lead ? lm_ckpt_verify(s->ctx, s->first) : LM_OK;
        if (!e && lead && lm_is_dir(s->second)) e = lm_ckpt_verify(s->ctx, s->second);
        if (!e && lead && got && (kind || victim) && has_litter(s->ctx, s->dir)) e = lm_fail(s->ctx, LM_E_INTERNAL, "something stays: %s", why);
        LM_TRY(lm_comm_agree(c, s->ctx, e, "looking at what is left"));
    }
    return LM_OK;
}
static lm_err all_faults(lm_ctx *ctx, lm_comm *c, int k, const char *dir) {
    spot s = { .ctx = ctx, .c = c, .dir = dir };
    int failed = 0;
    snprintf(s.first, sizeof s.first, "%s/step-%08d", dir, (int)CUT); snprintf(s.second, sizeof s.second, "%s/step-%08d", dir, (int)CUT + 1);
    LM_TRY(keep(ctx, c, k, dir));
    LM_TRY(rig_new(&s.r, ctx, c, &jobs[k]));
    lm_err e = LM_OK;
    for (int loading = 0; loading < 2 && !e; loading++) {
        for (int kind = 0; kind < 3 && !e; kind++)
            for (int i = 0; i < 2 && !e; i++) e = faults(&s, i ? c->size - 1 : 0, kind, loading, &failed);
        if (!e && !loading) e = saves(&s);
    }
    if (!e && failed < 50) e = lm_fail(ctx, LM_E_INTERNAL, "%d faults were met", failed);
    if (!e) e = loads(&s);
    rig_free(&s.r);
    return e;
}
/* Ranks that share no file system: each has a folder of its own under the same name. */
static int apart(lm_ctx *ctx, lm_comm *c, const char *dir) {
    char own[700], text[700];
    int bad = 0;
    result x;
    snprintf(own, sizeof own, "%s/host-%d", dir, c->rank); snprintf(text, sizeof text, "%s/text.txt", dir);
    if (mkdir(own, 0700) || chdir(own) || symlink(text, "text.txt")) return 1;
    for (int made = 0; made < 2; made++) {
        rig r;
        const lm_ckpt_state st = { .step = 1, .isa = "any" };
        if (rig_new(&r, ctx, c, &jobs[1])) return 1;
        if (made && c->rank) bad += lm_dir_make(ctx, "run/step-00000001.tmp") != LM_OK;
        const lm_err got = lm_ckpt_save(r.t, "run", &st, 2);
        const char *says = c->rank == 1 - made ? "does not see" : "failed on rank";
        if (got != (c->rank == 1 - made ? LM_E_IO : LM_E_COMM) || !strstr(lm_error(ctx), says)) {
            bad++;
            printf("rank %d, %d: %s: %s\n", c->rank, made, lm_err_name(got), lm_error(ctx));
        }
        static const char *const never[] = { "run/step-00000001", "run/latest", "run/step-00000001.tmp/shard-00002-of-00002.safetensors" };
        for (int i = 0; i < LM_COUNT(never); i++) if (lm_exists(never[i])) { bad++; printf("rank %d: %s stays\n", c->rank, never[i]); }
        rig_free(&r);
    }
    memset(&x, 0, sizeof x);
    const lm_err got = run_training(ctx, c, "fsdp=2", ".", "training", CUT, false, &x);
    if (got != (c->rank ? LM_E_CONFIG : LM_E_COMM) || (c->rank && !strstr(lm_error(ctx), "does not see"))) {
        bad++;
        printf("rank %d trains: %s: %s\n", c->rank, lm_err_name(got), lm_error(ctx));
    }
    return bad;
}
/* This rank's disk is full from the third call on after the step of the first checkpoint has begun, until the next step begins. */
static lm_err (*gathers)(lm_comm *, const void *, size_t, void *);
static lm_err gather_and_fill_disk(lm_comm *c, const void *mine, size_t bytes, void *all) {
    static int64_t seen;
    if (c->step != seen && (c->step == CUT || c->step == CUT + 1)) lm_file_fail_at(c->step == CUT ? 3 : 0, ENOSPC, true);
    seen = c->step;
    return gathers(c, mine, bytes, all);
}
static const char *environment(void *ud, const char *name) { (void)ud; return getenv(name); }
/* argv: job DIR KEY…; KEY: collectives | all | again | one:K | once:K | save:K:SUB | load:K:SUB | keep:K:SUB | move:K:FROM:TO | faults:K:SUB | killed:K:SUB | apart | pure |
 * threads:K | train:MESH | resume:MESH | fp8 | isa:MESH | taken:SUB | full:MESH | die */
static int child(int argc, char **argv) {
    lm_ctx *ctx; lm_comm *c = NULL; lm_dist_env env;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    lm_err e = lm_dist_env_of(ctx, environment, NULL, &env);
    if (!e) e = lm_comm_world(ctx, &env, 60, &c);
    int bad = 0;
    if (e || !c) { printf("no world: %s\n", lm_error(ctx)); return 1; }
    for (int i = 3; i < argc && !e; i++) {
        int k = 0; char sub[64] = "", to[64], name[100], dir[700], dir2[700];
        const char *key = argv[i];
        result x;
        memset(&x, 0, sizeof x);
        if (!strcmp(key, "collectives")) { bad += check_collectives(ctx, c); continue; }
        if (!strcmp(key, "all") || !strcmp(key, "again")) {
            for (k = 0; k < N_JOB && !e; k++) {
                if (c->size > 2 && !also(k)) continue;
                float *w = NULL; size_t nw = 0;
                e = run_job(ctx, c, k, &x, &w, &nw);
                snprintf(name, sizeof name, "w-%d-%d", c->size, k);
                if (!e && c->rank == 0 && !write_file(argv[2], name, w, nw * 4)) bad++;
                free(w);
                snprintf(name, sizeof name, "%s-%d-%d", key, c->size, k);
                result x0 = x;
                lm_err eb = c->broadcast(c, x0.hash, sizeof x0.hash, 0);
                if (!eb) eb = c->broadcast(c, x0.held, sizeof x0.held, 0);
                if (eb || memcmp(x0.hash, x.hash, sizeof x.hash) || memcmp(x0.held, x.held, sizeof x.held)) { bad++; printf("rank %d: job %d: another hash than rank 0's\n", c->rank, k); }
                if (!e && c->rank == 0 && !write_file(argv[2], name, &x, sizeof x)) bad++;
            }
            continue;
        }
        if (!strcmp(key, "pure")) { rig_mm = LM_BF16; rig_pure = true; continue; }
        if (!strcmp(key, "apart")) { bad += apart(ctx, c, argv[2]); continue; }
        if (sscanf(key, "keep:%d:%60s", &k, sub) == 2 || sscanf(key, "faults:%d:%60s", &k, sub) == 2 || sscanf(key, "killed:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = key[1] == 'e' ? keep(ctx, c, k, dir) : key[0] == 'f' ? all_faults(ctx, c, k, dir) : killed(ctx, c, k, dir);
            continue;
        }
        if (sscanf(key, "move:%d:%60[^:]:%60s", &k, sub, to) == 3) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub); snprintf(dir2, sizeof dir2, "%s/%s", argv[2], to);
            e = move(ctx, c, k, dir, dir2);
            continue;
        }
        if (!strcmp(key, "die")) { if (c->rank == c->size - 1) _exit(3); e = c->barrier(c); continue; }
        if (sscanf(key, "save:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = run_until_checkpoint(ctx, c, k, dir, &x);
        } else if (sscanf(key, "load:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = run_from_checkpoint(ctx, c, k, dir, &x);
        } else if (sscanf(key, "one:%d", &k) == 1 || sscanf(key, "once:%d", &k) == 1) {
            rig_gather = key[2] == 'c' ? LM_GATHER_ONCE : LM_GATHER_AUTO;
            e = run_job(ctx, c, k, &x, NULL, NULL);
            rig_gather = LM_GATHER_AUTO;
        } else if (sscanf(key, "full:%60s", sub) == 1) {                 /* of the last rank: said aloud, and the run goes on */
            char mesh[80], at[800]; snprintf(mesh, sizeof mesh, "%s=%d", sub, c->size);
            gathers = c->all_gather;
            if (c->rank == c->size - 1) c->all_gather = gather_and_fill_disk;
            e = run_training(ctx, c, mesh, argv[2], "full", STEPS, false, &x);
            c->all_gather = gathers;
            for (int step = CUT; step <= STEPS && !e; step++) {
                snprintf(at, sizeof at, "%s/full/checkpoints/step-%08d", argv[2], step);
                bad += lm_exists(at) != (step == STEPS);
            }
            snprintf(at, sizeof at, "%s/full/checkpoints", argv[2]);
            bad += has_litter(ctx, at);
        } else if (sscanf(key, "isa:%60s", sub) == 1) {                   /* rank 1 has fewer instructions */
            lm_ctx *few; char mesh[80];
            snprintf(mesh, sizeof mesh, "%s=%d", sub, c->size); snprintf(to, sizeof to, "isa-%.50s", sub);
            e = lm_ctx_new(&few, &(lm_ctx_opts){ .n_threads = 1, .isa_mask = c->rank ? LM_CPU_PORTABLE : 0 });
            const lm_err got = e ? e : run_training(few, c, mesh, argv[2], to, 2, false, &x);
            if (got != LM_E_MISMATCH || !strstr(lm_error(few), "rank 1 portable: what both hold")) { bad++; printf("rank %d, %s: %s: %s\n", c->rank, mesh, lm_err_name(got), e ? "" : lm_error(few)); }
            lm_ctx_free(few);
        } else if (!strcmp(key, "fp8")) e = run_training(ctx, c, "dp=2", argv[2], "fp8", 3, false, &x);
        else if (sscanf(key, "train:%60s", sub) == 1 || sscanf(key, "resume:%60s", sub) == 1) {
            char mesh[80]; snprintf(mesh, sizeof mesh, "%s=%d", sub, c->size);
            bool more = key[0] == 'r';
            e = run_training(ctx, c, mesh, argv[2], sub, more ? STEPS : CUT, more, &x);
        } else if (sscanf(key, "taken:%60s", sub) == 1) { /* rank 0 alone sees that the folder is in use: all must hear of it */
            lm_err got = run_training(ctx, c, "fsdp=2", argv[2], sub, CUT, false, &x);
            if (got != (c->rank ? LM_E_COMM : LM_E_CONFIG)) {
                bad++;
                printf("rank %d: a folder in use gives %s: %s\n", c->rank, lm_err_name(got), lm_error(ctx));
            }
        } else if (sscanf(key, "threads:%d", &k) == 1) {
            lm_ctx *three;
            e = lm_ctx_new(&three, &(lm_ctx_opts){ .n_threads = 3 });
            if (!e) { e = run_job(three, c, k, &x, NULL, NULL); if (e) printf("rank %d: %s\n", c->rank, lm_error(three)); lm_ctx_free(three); }
        } else bad++;
        snprintf(name, sizeof name, "%s-%d", key, c->size);
        for (char *p = name; *p; p++) if (*p == ':') *p = '-';
        if (!e && c->rank == 0 && !write_file(argv[2], name, &x, sizeof x)) bad++;
    }
    if (e) { printf("rank %d: %s: %s\n", c->rank, lm_err_name(e), lm_error(ctx)); lm_comm_abort(c, 1); }
    c->free(c);
    lm_ctx_free(ctx);
    return bad || e ? 1 : 0;
}
/* ---- the parent ---- */
static char scratch[300];
static bool have_mpirun(void) { return !system("command -v mpirun >/dev/null 2>&1"); }
static int launch(int n, const char *keys) {
    char cmd[12000];
    const char *asan = getenv("ASAN_OPTIONS");
    snprintf(cmd, sizeof cmd,
             "ASAN_OPTIONS=%s%sdetect_leaks=0 OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_mpi_yield_when_idle=1 "
             "mpirun -n %d --oversubscribe --allow-run-as-root --bind-to none '%s' job '%s' %s > '%s/log' 2>&1",
             asan ? asan : "", asan ? ":" : "", n, self_path, scratch, keys, scratch);
    int rc = system(cmd);
    return WIFEXITED(rc) ? WEXITSTATUS(rc) : 255;
}
static void show_log(void) {
    char path[400], line[400];
    snprintf(path, sizeof path, "%s/log", scratch);
    FILE *f = fopen(path, "r");
    for (int i = 0; f && i < 30 && fgets(line, sizeof line, f); i++) fputs(line, stdout);
    if (f) fclose(f);
}
#define LAUNCH(n, keys) do { int rc_ = launch(n, keys); if (rc_) { lm_t_fail++; printf("%d ranks, %s: exit status %d\n", n, keys, rc_); show_log(); } } while (0)
static bool begin(void) {
    if (!have_mpirun()) return false;
    snprintf(scratch, sizeof scratch, "/tmp/loam-dist-%d", (int)getpid());
    return !mkdir(scratch, 0700);
}
static void end(void) {
    lm_ctx *ctx;
    if (!lm_ctx_new(&ctx, NULL)) { lm_dir_remove(ctx, scratch); lm_ctx_free(ctx); }
}
static result alone[N_JOB];
static lm_ctx *ctx0;
static void test_meshes_equal_one_process(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    float *want[N_JOB] = { 0 }; size_t count[N_JOB] = { 0 };
    for (int k = 0; k < N_JOB; k++) LM_CHECK_OK(ctx0, run_job(ctx0, NULL, k, &alone[k], &want[k], &count[k]));
    for (int n = 2; n <= 4; n += 2) {
        LAUNCH(n, n == 2 ? LM_T_WATCHED ? "collectives all threads:1 threads:4 once:1 once:6 once:7" : "collectives all again threads:1 threads:4 once:1 once:6 once:7" : "collectives all");
        for (int k = 0; k < N_JOB; k++) {
            if (n > 2 && !also(k)) continue;
            result x, y; char name[100], what[160];
            snprintf(name, sizeof name, "all-%d-%d", n, k);
            snprintf(what, sizeof what, "%s %s %s=%d recompute %d accum %d", jobs[k].family, jobs[k].optim,
                     mesh_name(jobs[k].mesh), n, jobs[k].recompute, jobs[k].accum);
            if (!read_file(scratch, name, &x, sizeof x)) { lm_t_fail++; printf("%s: no result\n", what); continue; }
            close_to(what, &x, &alone[k], 0, STEPS);
            /* initial weights: to the bit, drawn in parts or cut from whole ones */
            LM_CHECK(!memcmp(x.first, alone[k].first, sizeof x.first));
            float *got = malloc(count[k] * 4 + 4);
            snprintf(name, sizeof name, "w-%d-%d", n, k);
            double d = 0, q = 0;
            if (!read_file(scratch, name, got, count[k] * 4)) d = INFINITY;
            else
                for (size_t i = 0; i < count[k]; i++) {
                    double e = (double)got[i] - (double)want[k][i];
                    d += e * e;
                    q += (double)want[k][i] * (double)want[k][i];
                }
            free(got);
            if (getenv("LM_VERBOSE")) printf("%-40s final weights: %.2e\n", what, sqrt(d / q));
            if (!(sqrt(d) <= 1e-6 * sqrt(q))) { lm_t_fail++; printf("%s: final weights differ by %.3g of their norm\n", what, sqrt(d / q)); }
            snprintf(name, sizeof name, "all-%d-%d", n, k);
            /* vectors and padding are what does not divide */
            if (jobs[k].mesh == LM_MESH_FSDP && !(x.states <= alone[k].states / n * 1.1)) {
                lm_t_fail++;
                printf("%s: %g bytes of states on a rank, alone %g\n", what, x.states, alone[k].states);
            }
            if (n != 2 || LM_T_WATCHED) continue;
            snprintf(name, sizeof name, "again-%d-%d", n, k);
            if (!read_file(scratch, name, &y, sizeof y) || memcmp(&x, &y, sizeof x)) {
                lm_t_fail++;
                printf("%s: a second run gives other bits\n", what);
            }
        }
        /* recomputation changes no bits on any mesh */
        result a, b;
        char na[40], nb[40];
        snprintf(na, sizeof na, "all-%d-1", n); snprintf(nb, sizeof nb, "all-%d-6", n);
        if (read_file(scratch, na, &a, sizeof a) && read_file(scratch, nb, &b, sizeof b))
            LM_CHECK(!memcmp(a.loss, b.loss, sizeof a.loss) && !memcmp(a.hash, b.hash, sizeof a.hash));
        else LM_CHECK(!"results are missing");
        if (n == 2) {
            result t;
            LM_CHECK(read_file(scratch, "threads-1-2", &t, sizeof t) && !memcmp(t.hash, a.hash, sizeof a.hash));
            /* nor does it that matrices gathered for the forward stay until the backward: fewer meetings, more memory */
            for (int k = 1; k <= 7; k += k == 1 ? 5 : 1) {
                char once[40], again[40];
                snprintf(once, sizeof once, "once-%d-2", k); snprintf(again, sizeof again, "all-2-%d", k);
                if (!read_file(scratch, once, &t, sizeof t) || !read_file(scratch, again, &a, sizeof a)) { LM_CHECK(!"results are missing"); continue; }
                LM_CHECK(!memcmp(t.loss, a.loss, sizeof a.loss) && !memcmp(t.norm, a.norm, sizeof a.norm) && t.eval == a.eval && !memcmp(t.hash, a.hash, sizeof a.hash));
                if (!(t.gathers < a.gathers && t.arena > a.arena)) {
                    lm_t_fail++;
                    printf("job %d: %g gathers and %g bytes once, %g and %g again\n", k, t.gathers, t.arena, a.gathers, a.arena);
                }
            }
        }
    }
    for (int k = 0; k < N_JOB; k++) free(want[k]);
    end();
}
static void test_checkpoints_change_meshes(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    result whole, x;
    char dir[400];
    enum { L = 1, M = 5 };                                                            /* fsdp, adamw and muon */
    LM_CHECK_OK(ctx0, run_job(ctx0, NULL, L, &whole, NULL, NULL));
    snprintf(dir, sizeof dir, "%s/from1", scratch);
    LM_CHECK_OK(ctx0, run_until_checkpoint(ctx0, NULL, L, dir, &x));
    double at_cut[2] = { x.hash[0], x.hash[1] };
    LAUNCH(
        2,
        "load:1:from1 save:1:from2 save:5:muon2 load:1:from2 save:10:zero2 load:10:from2 load:10:zero2"); /* the last: resumed where it was written */
    LAUNCH(4, "load:1:from2 load:1:from1 load:5:muon2 save:0:dp4 load:10:zero2 load:1:zero2");
    const char *const names[] = { "load-1-from1-2",  "load-1-from2-4",  "load-1-from1-4",  "load-1-from2-2",
                                  "load-10-from2-2", "load-10-zero2-2", "load-10-zero2-4", "load-1-zero2-4" };
    for (int i = 0; i < LM_COUNT(names); i++) {
        if (!read_file(scratch, names[i], &x, sizeof x)) { lm_t_fail++; printf("%s is missing\n", names[i]); continue; }
        close_to(names[i], &x, &whole, CUT, STEPS);
    }
    /* interrupted and resumed at two ranks: the bits of the uninterrupted run at two ranks */
    LAUNCH(2, "one:1");
    result un;
    if (read_file(scratch, "one-1-2", &un, sizeof un) && read_file(scratch, "load-1-from2-2", &x, sizeof x))
        LM_CHECK(!memcmp(un.hash, x.hash, sizeof x.hash) && !memcmp(un.loss + CUT, x.loss + CUT, (STEPS - CUT) * sizeof(double)));
    else LM_CHECK(!"results are missing");
    /* four ranks wrote, one reads; two wrote muon's states, one reads */
    snprintf(dir, sizeof dir, "%s/dp4", scratch);
    LM_CHECK_OK(ctx0, run_from_checkpoint(ctx0, NULL, 0, dir, &x));
    close_to("dp=4, resumed alone", &x, &whole, CUT, STEPS);
    snprintf(dir, sizeof dir, "%s/from2", scratch);
    LM_CHECK_OK(ctx0, run_from_checkpoint(ctx0, NULL, L, dir, &x));
    close_to("fsdp=2, resumed alone", &x, &whole, CUT, STEPS);
    snprintf(dir, sizeof dir, "%s/muon2", scratch);
    result muon, m4;
    LM_CHECK_OK(ctx0, run_job(ctx0, NULL, M, &muon, NULL, NULL));
    LM_CHECK_OK(ctx0, run_from_checkpoint(ctx0, NULL, M, dir, &x));
    close_to("muon fsdp=2, resumed alone", &x, &muon, CUT, STEPS);
    LM_CHECK(read_file(scratch, "load-5-muon2-4", &m4, sizeof m4));
    close_to("muon fsdp=2, resumed at 4", &m4, &muon, CUT, STEPS);
    /* the same checkpoint from one process loaded on one: equal hash definition */
    rig r;
    char *path; lm_ckpt_state st; double h[2];
    LM_NEED_OK(ctx0, rig_new(&r, ctx0, NULL, &jobs[L]));
    snprintf(dir, sizeof dir, "%s/from1", scratch);
    LM_NEED_OK(ctx0, lm_ckpt_find(ctx0, NULL, dir, &path));
    LM_CHECK_OK(ctx0, lm_ckpt_load(r.t, path, &st));
    hash_into(lm_trainer_hash(r.t), h);
    LM_CHECK(h[0] == at_cut[0] && h[1] == at_cut[1]);
    lm_free(ctx0, path); rig_free(&r);
    end();
}
/* Every tensor of one is in the other, to the byte. */
typedef struct { lm_st *st[2]; bool sliced; lm_hash128_t weights; } opened;
static bool open_all(const char *dir, opened *o) {
    char path[700];
    lm_manifest m;
    memset(o, 0, sizeof *o);
    snprintf(path, sizeof path, "%s/%s/step-%08d", scratch, dir, (int)CUT);
    lm_err e = lm_manifest_read(ctx0, path, &m);
    o->weights = m.weights; o->sliced = m.sliced;
    lm_manifest_free(ctx0, &m);
    if (!e && o->sliced) e = lm_st_open_slices(&o->st[0], ctx0, path);
    for (int i = 0; i < 2 && !e && !o->sliced; i++) {
        snprintf(path, sizeof path, "%s/%s/step-%08d/%s.safetensors", scratch, dir, (int)CUT, i ? "optimizer" : "model");
        e = lm_st_open(&o->st[i], ctx0, path);
    }
    if (e) { lm_t_fail++; printf("%s: %s\n", dir, lm_error(ctx0)); }
    return !e;
}
static const lm_st_tensor *tensor_of(const opened *o, const char *name, int *st) {
    const size_t g = sizeof LM_CKPT_GROUP - 1;
    const bool state = !strncmp(name, LM_CKPT_GROUP, g);
    *st = !o->sliced && state;
    return lm_st_find(o->st[*st], state && !o->sliced ? name + g : name);
}
static void same_checkpoint(const char *a, const char *b) {
    opened x, y;
    int n = 0, bad = 0;
    if (open_all(a, &x) && open_all(b, &y)) {
        for (int i = 0; i < 2 && x.st[i]; i++)
            for (int k = 0; k < lm_st_count(x.st[i]); k++, n++) {
                const lm_st_tensor *t = lm_st_at(x.st[i], k), *u;
                char name[400];
                int at;
                snprintf(name, sizeof name, "%s%s", i ? LM_CKPT_GROUP : "", t->name);
                u = tensor_of(&y, name, &at);
                bool same = u && u->bytes == t->bytes && u->dtype == t->dtype && u->rank == t->rank && !memcmp(u->dim, t->dim, (size_t)t->rank * sizeof *t->dim);
                char *p = malloc((size_t)t->bytes + 1), *q = malloc((size_t)t->bytes + 1);
                same = same && !lm_st_read(x.st[i], t, p, 0, t->bytes) && !lm_st_read(y.st[at], u, q, 0, t->bytes) && !memcmp(p, q, (size_t)t->bytes);
                free(p); free(q);
                bad += !same;
            }
        int m = 0;
        for (int i = 0; i < 2 && y.st[i]; i++) m += lm_st_count(y.st[i]);
        if (bad || m != n || n < 20 || memcmp(&x.weights, &y.weights, sizeof x.weights)) {
            lm_t_fail++;
            printf("%s and %s: %d of %d tensors differ, %d there\n", a, b, bad, n, m);
        }
    }
    for (int i = 0; i < 2; i++) { lm_st_close(x.st[i]); lm_st_close(y.st[i]); }
}
/* Written on every mesh by 1, 2, 3 and 4 ranks; read on every mesh by 1, 2, 3 and 4, and written again: all bytes of weights and optimizer are what they were. */
static void test_checkpoints_of_any_mesh_on_any(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    static const struct { const char *name; int job; } mesh[] = { { "dp", 0 }, { "fsdp", 1 }, { "zero1", 10 }, { "zero2", 11 } };
    enum { FROM = LM_T_WATCHED ? 3 : 2, MOST = LM_T_WATCHED ? 3 : 4 };
    char from[16][64], keys[9000], a[1400], b[1400];
    int n_from = 0;
    for (int n = FROM; n <= MOST; n++) {
        int at = 0;
        for (int i = 0; i < LM_COUNT(mesh); i++) {
            snprintf(from[n_from], sizeof *from, "%s-%d", mesh[i].name, n);
            at += snprintf(keys + at, sizeof keys - (size_t)at, "keep:%d:%s ", mesh[i].job, from[n_from++]);
        }
        LAUNCH(n, keys);
    }
    snprintf(a, sizeof a, "%s/alone", scratch);
    LM_CHECK_OK(ctx0, keep(ctx0, NULL, 1, a));
    snprintf(from[n_from++], sizeof *from, "alone");
    for (int n = LM_T_WATCHED ? 2 : 1; n <= MOST; n++) {
        int at = 0;
        for (int i = 0; i < LM_COUNT(mesh) && n > 1; i++)
            for (int f = 0; f < n_from; f++)
                at += snprintf(keys + at, sizeof keys - (size_t)at, "move:%d:%s:%s-%d.%s ", mesh[i].job, from[f], mesh[i].name, n, from[f]);
        if (n > 1) LAUNCH(n, keys);
        for (int f = 0; f < n_from && n == 1; f++) {
            snprintf(a, sizeof a, "%s/%s", scratch, from[f]); snprintf(b, sizeof b, "%s/1.%s", scratch, from[f]);
            LM_CHECK_OK(ctx0, move(ctx0, NULL, 1, a, b));
            snprintf(b, sizeof b, "1.%s", from[f]);
            same_checkpoint(from[f], b);
        }
        for (int i = 0; i < LM_COUNT(mesh) && n > 1; i++)
            for (int f = 0; f < n_from; f++) { snprintf(b, sizeof b, "%s-%d.%s", mesh[i].name, n, from[f]); same_checkpoint(from[f], b); }
    }
    /* what is kept in bf16 is written as f32 */
    LAUNCH(2, "pure keep:0:pure-2"); LAUNCH(3, "pure move:0:pure-2:pure-3");
    rig_mm = LM_BF16; rig_pure = true;
    snprintf(a, sizeof a, "%s/pure-3", scratch); snprintf(b, sizeof b, "%s/pure-1", scratch);
    LM_CHECK_OK(ctx0, move(ctx0, NULL, 0, a, b));
    rig_mm = LM_F32; rig_pure = false;
    same_checkpoint("pure-2", "pure-3"); same_checkpoint("pure-2", "pure-1");
    /* and the steps that follow are those of one process, to rounding */
    result one, x;
    snprintf(a, sizeof a, "%s/zero2-3", scratch);
    LM_CHECK_OK(ctx0, run_from_checkpoint(ctx0, NULL, 1, a, &one));
    LAUNCH(2, "load:0:zero2-3 load:1:zero2-3 load:10:zero2-3 load:11:zero2-3");
    static const char *const then[] = { "load-0-zero2-3-2", "load-1-zero2-3-2", "load-10-zero2-3-2", "load-11-zero2-3-2" };
    for (int i = 0; i < LM_COUNT(then); i++) {
        if (read_file(scratch, then[i], &x, sizeof x)) close_to(then[i], &x, &one, CUT, STEPS); else LM_CHECK(!"results are missing");
    }
    end();
}
static void test_checkpoints_where_a_rank_fails(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    lm_str t = { .ctx = ctx0 };
    for (int i = 0; i < 400; i++) lm_str_printf(&t, "The %d. sentence of %d says that %d is not %d.\n", i, i * 7 % 31, i * i % 97, i % 13);
    LM_CHECK(!lm_str_err(&t) && write_file(scratch, "text.txt", t.p, t.n));
    lm_str_free(&t);
    LAUNCH(3, "faults:1:f3");
    if (!LM_T_WATCHED) LAUNCH(2, "faults:10:z2");
    LAUNCH(2, "apart");
    static const struct { const char *rank, *at; } deaths[] = { { "2", "2000" }, { "0", "0" }, { "0", "2000" }, { "1", "20000" } };
    for (int i = 0; i < (LM_T_WATCHED ? 1 : LM_COUNT(deaths)); i++) {
        char key[40], dir[400], *path;
        setenv("KILL_RANK", deaths[i].rank, 1); setenv("KILL_AT", deaths[i].at, 1);
        snprintf(key, sizeof key, "killed:11:k3-%d", i); snprintf(dir, sizeof dir, "%s/k3-%d", scratch, i);
        LM_CHECK(launch(3, key) != 0);
        const lm_err found = lm_ckpt_find(ctx0, NULL, dir, &path);
        LM_CHECK_OK(ctx0, found);                                       /* the one before it is whole, and one process goes on from there */
        if (found) continue;
        LM_CHECK(strstr(path, "step-00000003") && !strstr(path, ".tmp"));
        lm_free(ctx0, path);
        LM_CHECK_OK(ctx0, move(ctx0, NULL, 1, dir, dir));
        LM_CHECK(!has_litter(ctx0, dir));
    }
    unsetenv("KILL_RANK"); unsetenv("KILL_AT");
    end();
}
/* What the program's commands make of the last checkpoint of a run on two ranks, which lies in shards. */
static bool says(const char *line, const char *mesh, int rc, const char *what) {
    char cmd[3000], path[500], text[60000] = "";
    snprintf(cmd, sizeof cmd, "cd '%s/%s' && S=checkpoints/step-%08d && { %s; } > '%s/said' 2>&1", scratch, mesh, (int)STEPS, line, scratch);
    const int got = system(cmd);
    snprintf(path, sizeof path, "%s/said", scratch);
    FILE *f = fopen(path, "r");
    if (f) { text[fread(text, 1, sizeof text - 1, f)] = 0; fclose(f); }
    const bool ok = WIFEXITED(got) && WEXITSTATUS(got) == rc && strstr(text, what);
    if (!ok) { lm_t_fail++; printf("%s: %s: status %d, says %.600s\n", mesh, line, WEXITSTATUS(got), text); }
    return ok;
}
static void commands_on(const char *mesh) {
    if (access(LM_PROGRAM, X_OK)) return;
    setenv("LOAM", LM_PROGRAM, 1);
    says("test -f $S/shard-00002-of-00002.safetensors && test ! -e $S/model.safetensors && echo shards", mesh, 0, "shards");
    says("\"$LOAM\" verify $S", mesh, 0, "whole");
    says("\"$LOAM\" inspect $S", mesh, 0, "checkpoint of a training run");
    says("\"$LOAM\" inspect $S --json", mesh, 0, "\"mesh\": \"");
    says("write() { \"$LOAM\" run $1 --prompt 'The 1' --max-tokens 3 --temperature 0 --json --quiet | grep -o '\"text\": \"[^\"]*\"'; }; "
         "write $S > a && write . | cmp - a && echo same", mesh, 0, "same");
    says("\"$LOAM\" eval $S --data ../text.txt --quiet", mesh, 0, "");
    says("\"$LOAM\" convert $S whole --quiet && for f in model.safetensors config.json tokenizer.json; do cmp whole/$f $f || exit 9; done && echo same",
         mesh, 0, "same");
    says("cp -r $S bad && printf x | dd of=bad/shard-00002-of-00002.safetensors bs=1 seek=40000 conv=notrunc 2>/dev/null && "
         "\"$LOAM\" verify bad", mesh, 3, "do not have the hash that is stated for them");
    says("rm bad/shard-00001-of-00002.safetensors && \"$LOAM\" run bad --prompt x", mesh, 2, "shard-00001-of-00002.safetensors");
}
static void test_a_run_on_two_ranks(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    LM_CHECK(write_sentences(ctx0, scratch));
    result one, a, b;
    memset(&one, 0, sizeof one);
    LM_CHECK_OK(ctx0, run_training(ctx0, NULL, "", scratch, "alone", CUT, false, &one));
    LM_CHECK_OK(ctx0, run_training(ctx0, NULL, "", scratch, "alone", STEPS, true, &one));
    if (!LM_T_WATCHED) LAUNCH(2, "full:fsdp");
    LAUNCH(2, "train:dp resume:dp train:zero1 resume:zero1 train:zero2 resume:zero2 train:fsdp resume:fsdp taken:fsdp");
    static const char *const mesh[] = { "dp", "zero1", "zero2", "fsdp" };
    for (int i = 0; i < LM_COUNT(mesh); i++) {
        char na[40], nb[40]; snprintf(na, sizeof na, "train-%s-2", mesh[i]); snprintf(nb, sizeof nb, "resume-%s-2", mesh[i]);
        if (!read_file(scratch, na, &a, sizeof a) || !read_file(scratch, nb, &b, sizeof b)) {
            lm_t_fail++;
            printf("%s: no result\n", mesh[i]);
            continue;
        }
        close_to(na, &a, &one, 0, CUT);
        close_to(nb, &b, &one, CUT, STEPS);
        LM_CHECK_NEAR(b.eval, one.eval, 1e-6 * fabs(one.eval));
        if (!LM_T_WATCHED) commands_on(mesh[i]);
        static const char *const left[] = { "model.safetensors",
                                            "config.json",
                                            "tokenizer.json",
                                            "metrics.jsonl",
                                            "loss.svg",
                                            "best/model.safetensors",
                                            LM_T_WATCHED ? "checkpoints/step-00000004/manifest.json" : "checkpoints/step-00000006/manifest.json" };
        for (int f = 0; f < LM_COUNT(left); f++) {
            char path[600];
            snprintf(path, sizeof path, "%s/%s/%s", scratch, mesh[i], left[f]);
            if (!lm_exists(path)) {
                lm_t_fail++;
                printf("%s is missing\n", path);
            }
        }
    }
    end();
}
/* What metrics.jsonl says of the numbers in fp8 is of all ranks: the largest is one process's, whichever rank had it. */
static void largest(const char *sub, const char *group, double out[3]) {
    char path[600], key[80], *text;
    size_t n;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", scratch, sub); snprintf(key, sizeof key, "\"%s\": {\"amax\": ", group);
    memset(out, 0, 3 * sizeof *out);
    LM_NEED_OK(ctx0, lm_file_read_all(ctx0, path, 1 << 20, &text, &n));
    const char *p = text;
    for (int i = 0; i < 3 && (p = strstr(p, key)); i++) out[i] = strtod(p += strlen(key), NULL);
    lm_free(ctx0, text);
}
static void test_fp8_is_counted_on_all_ranks(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    LM_CHECK(write_sentences(ctx0, scratch));
    result one;
    memset(&one, 0, sizeof one);
    LM_CHECK_OK(ctx0, run_training(ctx0, NULL, "", scratch, "fp8-alone", 3, false, &one));
    LAUNCH(2, "fp8");
    static const char *const group[] = { "activations", "gradients", "weights" };
    for (int g = 0; g < LM_COUNT(group); g++) {
        double a[3], b[3];
        largest("fp8-alone", group[g], a); largest("fp8", group[g], b);
        for (int i = 0; i < 3; i++) LM_CHECK_NEAR(b[i], a[i], (i ? 1e-2 : 1e-3) * a[i] * (a[i] > 0));
        LM_CHECK(a[0] > 0);
    }
    end();
}
static void test_ranks_with_other_instructions(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    if (!strcmp(lm_cpu_isa_of(lm_cpu_features()), "portable")) { end(); LM_SKIP("this machine has no more than the least"); }
    LM_CHECK(write_sentences(ctx0, scratch));
    LAUNCH(2, "isa:dp isa:fsdp");
    end();
}
static void test_a_rank_that_dies_ends_the_job(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    LM_CHECK(launch(2, "die") != 0);
    end();
}
/* ---- launchers
 * -----------------------------------------------------------------------------------------------------------------------------------------
 * */
static const char *from_list(void *ud, const char *name) {
    for (const char *const *p = ud; *p; p += 2) if (!strcmp(p[0], name)) return p[1];
    return NULL;
}
#define ENV(...) lm_dist_env_of(ctx0, from_list, (void *)(uintptr_t)(const char *const[]){ __VA_ARGS__, NULL }, &e)
static void test_launchers(void) {
    lm_dist_env e; lm_comm *c;
    LM_CHECK_OK(ctx0, ENV("PATH", "/bin"));
    LM_CHECK(e.launch == LM_LAUNCH_NONE && e.size == 1);
    LM_CHECK_OK(ctx0, lm_comm_world(ctx0, &e, 20, &c)); LM_CHECK(!c);
    LM_CHECK_OK(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_LOCAL_RANK", "1",
                          "OMPI_COMM_WORLD_LOCAL_SIZE", "2"));
    LM_CHECK(e.launch == LM_LAUNCH_MPI && e.size == 4 && e.rank == 3 && e.local_rank == 1 && e.local_size == 2);
    LM_CHECK_OK(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0"));
    LM_CHECK_OK(ctx0, lm_comm_world(ctx0, &e, 20, &c)); LM_CHECK(!c);
    LM_CHECK_OK(ctx0, ENV("PMIX_RANK", "1", "SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", "SLURM_LOCALID", "1",
                          "SLURM_STEP_TASKS_PER_NODE", "2(x1)"));
    LM_CHECK(e.launch == LM_LAUNCH_MPI && e.size == 2 && e.rank == 1 && e.local_size == 2); LM_CHECK_STR(e.launcher, "srun");
    LM_CHECK_OK(ctx0, ENV("SLURM_STEP_ID", "0", "SLURM_NTASKS", "4", "SLURM_PROCID", "2"));
    LM_CHECK(e.launch == LM_LAUNCH_SLURM_BARE);
    LM_CHECK_ERR(ctx0, lm_comm_world(ctx0, &e, 20, &c), LM_E_CONFIG, "srun started 4 tasks without PMI");
    LM_CHECK_OK(ctx0, ENV("SLURM_JOB_ID", "9", "SLURM_NTASKS", "4"));                 /* inside an allocation, but not started by srun */
    LM_CHECK(e.launch == LM_LAUNCH_NONE);
    LM_CHECK_OK(ctx0, ENV("RANK", "1", "WORLD_SIZE", "2", "MASTER_ADDR", "host", "MASTER_PORT", "1234", "LOCAL_RANK", "1"));
    LM_CHECK(e.launch == LM_LAUNCH_VARIABLES && e.master_port == 1234 && e.rank == 1 && e.local_rank == 1 && e.size == 2);
    LM_CHECK_STR(e.master_addr, "host");
    LM_CHECK_OK(ctx0, ENV("RANK", "0", "WORLD_SIZE", "2", "MASTER_ADDR", "host", "MASTER_PORT", "1234", "TORCHELASTIC_USE_AGENT_STORE", "True"));
    LM_CHECK(e.master_port == 1235);                                                   /* torchrun's store has the other */
    LM_CHECK_OK(ctx0, ENV("SLURM_STEP_ID", "0", "SLURM_NTASKS", "4", "SLURM_PROCID", "2", "SLURM_LOCALID", "1", "MASTER_ADDR", "node1"));
    LM_CHECK(e.launch == LM_LAUNCH_VARIABLES && e.rank == 2 && e.size == 4 && e.local_rank == 1 && e.master_port == 29500);
    LM_CHECK_OK(ctx0, ENV("RANK", "1", "WORLD_SIZE", "2"));
    LM_CHECK_ERR(ctx0, lm_comm_world(ctx0, &e, 20, &c), LM_E_CONFIG, "MASTER_ADDR is not");
    LM_CHECK_ERR(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "x", "OMPI_COMM_WORLD_RANK", "0"), LM_E_CONFIG, "OMPI_COMM_WORLD_SIZE=x");
    LM_CHECK_ERR(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "2", "OMPI_COMM_WORLD_RANK", "2"), LM_E_CONFIG, "rank 2 of 2");
    LM_CHECK_ERR(ctx0, ENV("WORLD_SIZE", "2", "MASTER_ADDR", "host"), LM_E_CONFIG, "WORLD_SIZE=2 but no RANK");      /* they would each train alone */
    LM_CHECK_ERR(ctx0, ENV("RANK", "1", "MASTER_ADDR", "host"), LM_E_CONFIG, "RANK=1 but no WORLD_SIZE");
    LM_CHECK_OK(ctx0, ENV("WORLD_SIZE", "1")); LM_CHECK(e.launch == LM_LAUNCH_NONE);
    LM_CHECK_ERR(ctx0, ENV("WORLD_SIZE", "two"), LM_E_CONFIG, "WORLD_SIZE=two");
    static const char *const wrong[][2] = { { "RANK", "1(x2)" }, { "RANK", "-1" }, { "RANK", "2" }, { "WORLD_SIZE", "0" }, { "LOCAL_RANK", "x" }, { "MASTER_PORT", "22x" },
                                            { "MASTER_PORT", "99999" }, { "MASTER_PORT", "0" } };
    for (int i = 0; i < LM_COUNT(wrong); i++)
        LM_CHECK_ERR(ctx0, ENV(wrong[i][0], wrong[i][1], "RANK", "1", "WORLD_SIZE", "2", "LOCAL_RANK", "1", "MASTER_ADDR", "host", "MASTER_PORT", "1234"), LM_E_CONFIG,
                     i == 2 ? "rank 2 of 2" : wrong[i][1]);
    LM_CHECK_OK(ctx0, ENV("RANK", "1", "WORLD_SIZE", "100000", "MASTER_ADDR", "host"));
    LM_CHECK_ERR(ctx0, lm_comm_world(ctx0, &e, 20, &c), LM_E_UNSUPPORTED, "4096 are the most");
    LM_CHECK(e.local_rank == -1);                                                      /* not said: no device is a rank's by number */
}
/* Which device a rank opens, on a host with n of them. */
static int n_devices;
static char took[80];
int __wrap_lm_dev_count(void);
lm_err __wrap_lm_dev_open(lm_dev **out, lm_ctx *ctx, const char *name);
int __wrap_lm_dev_count(void) { return n_devices; }
lm_err __wrap_lm_dev_open(lm_dev **out, lm_ctx *ctx, const char *name) { (void)ctx; *out = NULL; snprintf(took, sizeof took, "%s", name); return LM_OK; }
static void test_devices_of_ranks(void) {
    static const struct { int n, size, local; const char *name, *opens; } is[] = {
        { 2, 1, 0, "cuda:1", "cuda:1" },  { 2, 2, 1, "cuda", "cuda:1" },   { 2, 2, 1, "cuda,stepwise", "cuda:1,stepwise" }, { 2, 2, 0, "cuda:1", "cuda:1" },
        { 1, 2, 1, "cuda", "cuda" },      { 1, 2, -1, "cuda:0", "cuda:0" }, { 0, 2, 1, "cuda", "cuda" },                      { 2, 2, 1, "gpu", "gpu" } };
    static const struct { int n, local; const char *name, *says; } not[] = {
        { 2, 2, "cuda", "2 CUDA devices are visible" }, { 8, -1, "cuda", "LOCAL_RANK does not say" }, { 8, 1, "cuda:7", "device=cuda:7 is the first one's too" } };
    lm_dev *d;
    for (int i = 0; i < LM_COUNT(is); i++) {
        const lm_comm world = { .size = is[i].size, .rank = is[i].size - 1, .local_rank = is[i].local };
        n_devices = is[i].n; took[0] = 0;
        LM_CHECK_OK(ctx0, lm_dist_device(&d, ctx0, &world, is[i].name)); LM_CHECK_STR(took, is[i].opens);
    }
    for (int i = 0; i < LM_COUNT(not); i++) {
        const lm_comm world = { .size = 2, .rank = 1, .local_rank = not[i].local };
        n_devices = not[i].n; took[0] = 0;
        LM_CHECK_ERR(ctx0, lm_dist_device(&d, ctx0, &world, not[i].name), LM_E_CONFIG, not[i].says); LM_CHECK_STR(took, "");
    }
}
int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "job")) return child(argc, argv);
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    self_path = n > 0 ? path : argv[0];
    if (lm_ctx_new(&ctx0, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    static const lm_t_case cases[] = { LM_T1(test_launchers), LM_T1(test_devices_of_ranks), LM_T1(test_meshes_equal_one_process), LM_T1(test_checkpoints_change_meshes),
                                       LM_T1(test_checkpoints_of_any_mesh_on_any), LM_T1(test_checkpoints_where_a_rank_fails),
                                       LM_T1(test_a_run_on_two_ranks), LM_T1(test_fp8_is_counted_on_all_ranks), LM_T1(test_ranks_with_other_instructions), LM_T1(test_a_rank_that_dies_ends_the_job) };
    int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    lm_ctx_free(ctx0);
    return rc;
}
