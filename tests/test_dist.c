/* test_dist.c — several ranks against one.
 *
 * The parent starts itself under mpirun (`test_dist job DIR KEY…`) and compares what rank 0 leaves in DIR/out-KEY (doubles by name) with
 * what one process computes. Collectives are compared with sums made in rank order here. Without mpirun the tests that need it are
 * skipped. */
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <errno.h>
#include "base/file.h"
#include "dist/dist.h"
#include "test.h"
#include "train/run.h"

enum { BATCH = 8, T = 33, V = 97, STEPS = 6 };
static const char *self_path;
/* ---- the model, its data, and a run of some steps ------------------------------------------------------------------------------------------- */
static lm_cfg config(const char *family) {
    bool gpt2 = !strcmp(family, "gpt2");
    lm_cfg c = { .model = lm_model_by_name(family),
                 .vocab = V,
                 .d = 48,
                 .n_layer = 2,
                 .n_head = 4,
                 .n_kv = gpt2 ? 4 : 2,
                 .d_head = 12,
                 .d_ff = 100,
                 .max_pos = 256,
                 .eps = 1e-5,
                 .init_std = 0.2,
                 .tie = gpt2,
                 .bos = -1,
                 .act = gpt2 ? LM_ACT_GELU_TANH : LM_ACT_SILU,
                 .hf_type = family };
    c.rope.d_head = 12; c.rope.base = 10000; c.rope.max_pos = 256;
    return c;
}
static void fill(lm_batch *b, int64_t first) {
    lm_rng r = lm_rng_of(11, "slice data");
    b->n_target = 0;
    for (int64_t s = 0; s < b->n_seq; s++)
        for (int64_t t = 0; t < b->seq; t++) {
            int64_t i = s * b->seq + t, doc = t < 13 ? 0 : 13;
            uint64_t at = (uint64_t)((first + s) * b->seq + t);
            b->tokens[i] = (int32_t)((t * t / 3 + first + s + (int64_t)lm_rng_below(r, at, 3)) % V);
            b->start[i] = (int32_t)(s * b->seq + doc); b->pos[i] = (int32_t)(t - doc);
            b->target[i] = (int32_t)(((t + 1) * (t + 1) / 3 + first + s) % V);
            if (t == 12 || (t + first + s) % 7 == 0) b->target[i] = -1;
            b->n_target += b->target[i] >= 0;
        }
}
typedef struct { const char *family, *optim; lm_mesh_kind mesh; int recompute, accum; bool whole_first; } job;
typedef struct { lm_ctx *ctx; lm_comm *comm; lm_store *store; lm_trainer *t; lm_batch b; lm_cfg cfg; job j; int64_t micro; } rig;
static lm_err rig_new(rig *r, lm_ctx *ctx, lm_comm *comm, const job *j) {
    *r = (rig){ .ctx = ctx, .comm = comm, .cfg = config(j->family), .j = *j };
    int size = comm ? comm->size : 1;
    r->micro = BATCH / size / j->accum;
    lm_trainer_opts o = { .batch = r->micro,
                          .seq = T,
                          .mm = LM_F32,
                          .recompute = j->recompute,
                          .seed = 7,
                          .comm = comm,
                          .mesh = comm ? j->mesh : LM_MESH_SINGLE,
                          .optim = { .name = j->optim,
                                     .lr = 3e-3,
                                     .beta1 = 0.9,
                                     .beta2 = 0.95,
                                     .eps = 1e-8,
                                     .weight_decay = 0.1,
                                     .clip = 1.0,
                                     .muon_lr = 0.02,
                                     .muon_momentum = 0.95,
                                     .muon_steps = 5 } };
    LM_TRY(lm_store_new(&r->store, ctx));
    if (j->whole_first) LM_TRY(lm_model_init(ctx, &r->cfg, r->store, 5));           /* as after loading: the trainer cuts */
    else LM_TRY(lm_trainer_init(ctx, &r->cfg, r->store, 5, o.mesh, comm));
    LM_TRY(lm_trainer_new(&r->t, ctx, &r->cfg, r->store, &o));
    return lm_batch_alloc(ctx, &r->b, r->micro, T);
}
static void rig_free(rig *r) { lm_batch_free(r->ctx, &r->b); lm_trainer_free(r->t); lm_store_free(r->store); }
static lm_err step(rig *r, int s, double *loss, double *norm) {
    int size = r->comm ? r->comm->size : 1, rank = r->comm ? r->comm->rank : 0;
    double v[2] = { 0, 0 };
    for (int m = 0; m < r->j.accum; m++) {
        fill(&r->b, s * BATCH + (m * size + rank) * r->micro);
        LM_TRY(lm_trainer_accumulate(r->t, &r->b, s, m, &v[0]));
        v[1] += (double)r->b.n_target;
    }
    if (r->comm) LM_TRY(lm_comm_sum(r->comm, v, 2));
    *loss = v[0] / v[1];
    return lm_trainer_update(r->t, s + 1, 1.0, v[1], norm);
}
static size_t state_bytes(const rig *r) {
    size_t n = 0;
    for (int i = 0; i < lm_store_count(r->store); i++) { lm_tensor x; lm_store_name(r->store, i, &x); n += (size_t)lm_numel(&x) * 4; }
    return n;
}
typedef struct { double loss[STEPS], norm[STEPS], eval, states, hash[2], first[2], arena; } result;
static void hash_into(lm_hash128_t h, double out[2]) { out[0] = (double)(h.lo >> 12); out[1] = (double)(h.hi >> 12); }
static lm_err run(rig *r, int from, int to, result *x) {
    for (int s = from; s < to; s++) LM_TRY(step(r, s, &x->loss[s], &x->norm[s]));
    double e = 0;
    fill(&r->b, 1000);
    /* every rank the same batch; as many sequences as a micro-batch */
    LM_TRY(lm_trainer_eval(r->t, &r->b, &e));
    x->eval = e / (double)r->b.n_seq;
    hash_into(lm_trainer_hash(r->t), x->hash);
    x->states = (double)state_bytes(r);
    lm_trainer_plan p; lm_trainer_plan_of(r->t, &p);
    x->arena = (double)p.accumulate.arena_bytes;
    return LM_OK;
}
/* ---- what the jobs do: by number, so that parent and child agree ------------------------------------------------------------------------------- */
static const job jobs[] = { { "llama", "adamw", LM_MESH_DP, 0, 1, false },  { "llama", "adamw", LM_MESH_FSDP, 0, 1, false },
                            { "gpt2", "adamw", LM_MESH_DP, 0, 2, false },   { "gpt2", "adamw", LM_MESH_FSDP, 0, 2, true },
                            { "llama", "muon", LM_MESH_DP, 0, 1, false },   { "llama", "muon", LM_MESH_FSDP, 0, 1, false },
                            { "llama", "adamw", LM_MESH_FSDP, 1, 1, true }, { "llama", "adamw", LM_MESH_FSDP, 2, 2, false },
                            { "gpt2", "muon", LM_MESH_FSDP, 3, 1, false } };
enum { N_JOB = (int)(sizeof jobs / sizeof *jobs), CUT = 3 };

static bool write_file(const char *dir, const char *name, const void *p, size_t n) {
    char path[600]; snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(p, 1, n, f) == n;
    if (f) ok &= !fclose(f);
    return ok;
}
static bool read_file(const char *dir, const char *name, void *p, size_t n) {
    char path[600]; snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    bool ok = f && fread(p, 1, n, f) == n;
    if (f) fclose(f);
    return ok;
}
static float number(int rank, int64_t i) {
    return (float)((double)((uint64_t)(i * 2654435761 + rank * 40503) % 100003) / 1000.0 - 50.0) * (rank % 2 ? 1e-3f : 1.0f);
}
/* Odd lengths, against sums in rank order. Returns the number of wrong results. */
static int check_collectives(lm_ctx *ctx, lm_comm *c) {
    static const int64_t sizes[] = { 0, 1, 2, 3, 7, 1000, 2047, 2048, 2049, 65535, 65537, 131071, 300007, 1000003 };
    int bad = 0;
    for (int k = 0; k < LM_COUNT(sizes); k++) {
        int64_t n = sizes[k], P = c->size;
        float *mine = malloc((size_t)n * 4 + 4), *all = malloc((size_t)(n * P) * 4 + 4), *want = malloc((size_t)n * 4 + 4),
              *out = malloc((size_t)n * 4 + 4);
        for (int64_t i = 0; i < n; i++) {
            mine[i] = number(c->rank, i); want[i] = number(0, i);
            for (int r = 1; r < P; r++) want[i] += number(r, i);
        }
        memcpy(out, mine, (size_t)n * 4);
        lm_err e = c->all_reduce(c, out, n);
        if (e || memcmp(out, want, (size_t)n * 4)) { bad++; printf("rank %d: all_reduce of %d: %s\n", c->rank, (int)n, e ? lm_error(ctx) : "wrong"); }
        e = c->all_gather(c, mine, (size_t)n * 4, all);
        for (int r = 0; !e && r < P; r++)
            for (int64_t i = 0; i < n; i++)
                if (all[r * n + i] != number(r, i)) {
                    bad++;
                    printf("rank %d: all_gather of %d: part %d\n", c->rank, (int)n, r);
                    break;
                }
        e = c->all_gather(c, mine, (size_t)(n > 2 ? n - 1 : n), all);                 /* bytes, not numbers */
        if (e || memcmp((char *)all + (size_t)c->rank * (size_t)(n > 2 ? n - 1 : n), mine, (size_t)(n > 2 ? n - 1 : n))) {
            bad++;
            printf("rank %d: all_gather of bytes\n", c->rank);
        }
        for (int64_t i = 0; i < n * P; i++) all[i] = number(c->rank, i);
        for (int64_t i = 0; i < n; i++) { want[i] = number(0, c->rank * n + i); for (int r = 1; r < P; r++) want[i] += number(r, c->rank * n + i); }
        e = c->reduce_scatter(c, all, n, out);
        if (e || memcmp(out, want, (size_t)n * 4)) {
            bad++;
            printf("rank %d: reduce_scatter of %d: %s\n", c->rank, (int)n, e ? lm_error(ctx) : "wrong");
        }
        int root = (int)(k % P);
        for (int64_t i = 0; i < n; i++) out[i] = c->rank == root ? number(root, i) : 0;
        e = c->broadcast(c, out, (size_t)n * 4, root);
        for (int64_t i = 0; i < n; i++) if (e || out[i] != number(root, i)) { bad++; printf("rank %d: broadcast of %d\n", c->rank, (int)n); break; }
        if (c->barrier(c)) bad++;
        free(mine); free(all); free(want); free(out);
    }
    double v[2] = { 0.1 + c->rank, 1e17 * (c->rank == 0) + 1 }, w0 = 0, w1 = 0;
    for (int r = 0; r < c->size; r++) { w0 += 0.1 + r; w1 += 1e17 * (r == 0) + 1; }
    if (lm_comm_sum(c, v, 2) || v[0] != w0 || v[1] != w1) { bad++; printf("rank %d: sum of doubles\n", c->rank); }
    lm_err e = lm_comm_agree(c, ctx, c->rank == c->size - 1 ? LM_E_DATA : LM_OK, "a test");
    if (e != (c->rank == c->size - 1 ? LM_E_DATA : LM_E_COMM)) { bad++; printf("rank %d: agree\n", c->rank); }
    if (c->rank != c->size - 1 && !strstr(lm_error(ctx), "a test failed on rank")) {
        bad++;
        printf("rank %d: agree says %s\n", c->rank, lm_error(ctx));
    }
    if (lm_comm_agree(c, ctx, LM_OK, "a test")) bad++;
    return bad;
}
/* Whole parameters one after the other: on rank 0 in *out (malloc), *n numbers. */
static lm_err weights_of(rig *r, float **out, size_t *n) {
    lm_store *all = NULL;
    lm_err e = LM_OK;
    bool lead = !r->comm || r->comm->rank == 0;
    if (lead) LM_TRY(lm_store_new(&all, r->ctx));
    e = lm_trainer_whole(r->t, all);
    *out = NULL; *n = 0;
    for (int i = 0; !e && lead && i < lm_store_count(all); i++) {
        lm_tensor x; const char *name = lm_store_name(all, i, &x);
        /* The gradient of a key bias is zero in mathematics (softmax ignores a shift); Adam makes steps of its rounding errors. */
        if (strstr(name, "c_attn.bias")) memset((float *)x.data + r->cfg.d, 0, (size_t)r->cfg.d * 4);
        *out = realloc(*out, (*n + (size_t)lm_numel(&x)) * 4);
        memcpy(*out + *n, x.data, (size_t)lm_numel(&x) * 4);
        *n += (size_t)lm_numel(&x);
    }
    lm_store_free(all);
    return e;
}
static lm_err run_job(lm_ctx *ctx, lm_comm *c, int k, result *x, float **w, size_t *n) {
    rig r;
    memset(x, 0, sizeof *x);
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    hash_into(lm_trainer_hash(r.t), x->first);
    lm_err e = run(&r, 0, STEPS, x);
    if (!e && w) e = weights_of(&r, w, n);
    rig_free(&r);
    return e;
}
/* Steps [0, CUT) and a checkpoint; or a checkpoint of DIR/from and the rest. */
static lm_err run_until_checkpoint(lm_ctx *ctx, lm_comm *c, int k, const char *dir, result *x) {
    rig r;
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    lm_err e = run(&r, 0, CUT, x);
    lm_ckpt_state st = { .step = CUT, .seqs = CUT * BATCH, .best_val = 1, .isa = "any" };
    uint64_t first = 1;
    /* rank 0's disk is full from its nth call on: all ranks hear of it and none waits */
    for (uint64_t n = first; !e && n < 400; n += 1 + n / 8) {
        if (!c || !c->rank) lm_file_fail_at(n, ENOSPC, true);
        lm_err got = lm_ckpt_save(r.t, dir, &st, 2);
        lm_file_fail_at(0, 0, false);
        if (!got) break;                                               /* it did not get that far */
        if (got != (c && c->rank ? LM_E_COMM : LM_E_NOSPACE))
            e = lm_fail(ctx, LM_E_INTERNAL, "a full disk at call %d gives %s: %s", (int)n, lm_err_name(got), lm_error(ctx));
        first = n + 1;
    }
    if (!e && first < 10) e = lm_fail(ctx, LM_E_INTERNAL, "the full disk was met %d times", (int)first);
    if (!e) e = lm_ckpt_save(r.t, dir, &st, 2);
    rig_free(&r);
    return e;
}
static lm_err run_from_checkpoint(lm_ctx *ctx, lm_comm *c, int k, const char *dir, result *x) {
    rig r;
    char *path;
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    lm_err e = lm_ckpt_find(ctx, dir, &path);
    lm_ckpt_state st;
    if (!e) { e = lm_ckpt_load(r.t, path, &st); lm_free(ctx, path); }
    if (!e && (st.step != CUT || st.seqs != CUT * BATCH)) e = lm_fail(ctx, LM_E_INTERNAL, "the checkpoint's state came back otherwise");
    if (!e) e = run(&r, CUT, STEPS, x);
    rig_free(&r);
    return e;
}
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
    lm_run_opts o = { .resume = resume, .event = on_event, .ud = x, .comm = c };
    if (!e) e = lm_train_run(ctx, &k, &o);
    lm_arena_free(a);
    return e;
}
static const char *environment(void *ud, const char *name) { (void)ud; return getenv(name); }
/* argv: job DIR KEY…; KEY: collectives | all | again | one:K | save:K:SUB | load:K:SUB | threads:K | train:MESH | resume:MESH | taken:SUB | die */
static int child(int argc, char **argv) {
    lm_ctx *ctx; lm_comm *c = NULL; lm_dist_env env;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    lm_err e = lm_dist_env_of(ctx, environment, NULL, &env);
    if (!e) e = lm_comm_world(ctx, &env, &c);
    int bad = 0;
    if (e || !c) { printf("no world: %s\n", lm_error(ctx)); return 1; }
    for (int i = 3; i < argc && !e; i++) {
        int k = 0; char sub[64] = "", name[100], dir[700];
        const char *key = argv[i];
        result x;
        memset(&x, 0, sizeof x);
        if (!strcmp(key, "collectives")) { bad += check_collectives(ctx, c); continue; }
        if (!strcmp(key, "all") || !strcmp(key, "again")) {
            for (k = 0; k < N_JOB && !e; k++) {
                float *w = NULL; size_t nw = 0;
                e = run_job(ctx, c, k, &x, &w, &nw);
                snprintf(name, sizeof name, "w-%d-%d", c->size, k);
                if (!e && c->rank == 0 && !write_file(argv[2], name, w, nw * 4)) bad++;
                free(w);
                snprintf(name, sizeof name, "%s-%d-%d", key, c->size, k);
                result x0 = x;
                lm_err eb = c->broadcast(c, x0.hash, sizeof x0.hash, 0);
                if (eb || memcmp(x0.hash, x.hash, sizeof x.hash)) { bad++; printf("rank %d: job %d: another hash than rank 0's\n", c->rank, k); }
                if (!e && c->rank == 0 && !write_file(argv[2], name, &x, sizeof x)) bad++;
            }
            continue;
        }
        if (!strcmp(key, "die")) { if (c->rank == c->size - 1) _exit(3); e = c->barrier(c); continue; }
        if (sscanf(key, "save:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = run_until_checkpoint(ctx, c, k, dir, &x);
        } else if (sscanf(key, "load:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = run_from_checkpoint(ctx, c, k, dir, &x);
        } else if (sscanf(key, "one:%d", &k) == 1) e = run_job(ctx, c, k, &x, NULL, NULL);
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
    char cmd[3000];
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
static void close_to(const char *what, const result *a, const result *b, int from, int to) {
    double worst = 0;
    for (int s = from; s < to; s++) {
        worst = fmax(worst, fabs(a->loss[s] - b->loss[s]) / fabs(b->loss[s]));
        if (!(fabs(a->norm[s] - b->norm[s]) <= 1e-4 * fabs(b->norm[s]))) {
            lm_t_fail++;
            printf("%s: step %d: gradient norm %.9g, alone %.9g\n", what, s, a->norm[s], b->norm[s]);
        }
    }
    if (!(worst <= 1e-6)) { lm_t_fail++; printf("%s: losses differ by %.3g of them\n", what, worst); }
    if (getenv("LM_VERBOSE"))
        printf("%-40s worst loss %.2e  states %.0f of %.0f  arena %.0f of %.0f\n", what, worst, a->states, b->states, a->arena, b->arena);
}
static result alone[N_JOB];
static lm_ctx *ctx0;
static void test_meshes_equal_one_process(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    float *want[N_JOB] = { 0 }; size_t count[N_JOB] = { 0 };
    for (int k = 0; k < N_JOB; k++) LM_CHECK_OK(ctx0, run_job(ctx0, NULL, k, &alone[k], &want[k], &count[k]));
    for (int n = 2; n <= 4; n += 2) {
        LAUNCH(n, n == 2 ? "collectives all again threads:1 threads:4" : "collectives all");
        for (int k = 0; k < N_JOB; k++) {
            result x, y; char name[100], what[160];
            snprintf(name, sizeof name, "all-%d-%d", n, k);
            snprintf(what, sizeof what, "%s %s %s=%d recompute %d accum %d", jobs[k].family, jobs[k].optim,
                     jobs[k].mesh == LM_MESH_DP ? "dp" : "fsdp", n, jobs[k].recompute, jobs[k].accum);
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
            if (n != 2) continue;
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
    LAUNCH(2, "load:1:from1 save:1:from2 save:5:muon2 load:1:from2");                 /* the last: resumed where it was written */
    LAUNCH(4, "load:1:from2 load:1:from1 load:5:muon2 save:0:dp4");
    const char *const names[] = { "load-1-from1-2", "load-1-from2-4", "load-1-from1-4", "load-1-from2-2" };
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
    LM_NEED_OK(ctx0, lm_ckpt_find(ctx0, dir, &path));
    LM_CHECK_OK(ctx0, lm_ckpt_load(r.t, path, &st));
    hash_into(lm_trainer_hash(r.t), h);
    LM_CHECK(h[0] == at_cut[0] && h[1] == at_cut[1]);
    lm_free(ctx0, path); rig_free(&r);
    end();
}
static void test_a_run_on_two_ranks(void) {
    if (!begin()) LM_SKIP("mpirun is not installed");
    lm_str t = { .ctx = ctx0 };
    for (int i = 0; i < 400; i++) lm_str_printf(&t, "The %d. sentence of %d says that %d is not %d.\n", i, i * 7 % 31, i * i % 97, i % 13);
    LM_CHECK(!lm_str_err(&t) && write_file(scratch, "text.txt", t.p, t.n));
    lm_str_free(&t);
    result one, a, b;
    memset(&one, 0, sizeof one);
    LM_CHECK_OK(ctx0, run_training(ctx0, NULL, "", scratch, "alone", CUT, false, &one));
    LM_CHECK_OK(ctx0, run_training(ctx0, NULL, "", scratch, "alone", STEPS, true, &one));
    LAUNCH(2, "train:dp resume:dp train:fsdp resume:fsdp taken:fsdp");
    static const char *const mesh[] = { "dp", "fsdp" };
    for (int i = 0; i < 2; i++) {
        char na[40], nb[40]; snprintf(na, sizeof na, "train-%s-2", mesh[i]); snprintf(nb, sizeof nb, "resume-%s-2", mesh[i]);
        if (!read_file(scratch, na, &a, sizeof a) || !read_file(scratch, nb, &b, sizeof b)) {
            lm_t_fail++;
            printf("%s: no result\n", mesh[i]);
            continue;
        }
        close_to(na, &a, &one, 0, CUT);
        close_to(nb, &b, &one, CUT, STEPS);
        LM_CHECK_NEAR(b.eval, one.eval, 1e-6 * fabs(one.eval));
        static const char *const left[] = { "model.safetensors",
                                            "config.json",
                                            "tokenizer.json",
                                            "metrics.jsonl",
                                            "loss.svg",
                                            "best/model.safetensors",
                                            "checkpoints/step-00000006/manifest.json" };
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
    LM_CHECK_OK(ctx0, lm_comm_world(ctx0, &e, &c)); LM_CHECK(!c);
    LM_CHECK_OK(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "3", "OMPI_COMM_WORLD_LOCAL_RANK", "1",
                          "OMPI_COMM_WORLD_LOCAL_SIZE", "2"));
    LM_CHECK(e.launch == LM_LAUNCH_MPI && e.size == 4 && e.rank == 3 && e.local_rank == 1 && e.local_size == 2);
    LM_CHECK_OK(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0"));
    LM_CHECK_OK(ctx0, lm_comm_world(ctx0, &e, &c)); LM_CHECK(!c);
    LM_CHECK_OK(ctx0, ENV("PMIX_RANK", "1", "SLURM_STEP_ID", "0", "SLURM_STEP_NUM_TASKS", "2", "SLURM_LOCALID", "1",
                          "SLURM_STEP_TASKS_PER_NODE", "2(x1)"));
    LM_CHECK(e.launch == LM_LAUNCH_MPI && e.size == 2 && e.rank == 1 && e.local_size == 2); LM_CHECK_STR(e.launcher, "srun");
    LM_CHECK_OK(ctx0, ENV("SLURM_STEP_ID", "0", "SLURM_NTASKS", "4", "SLURM_PROCID", "2"));
    LM_CHECK(e.launch == LM_LAUNCH_SLURM_BARE);
    LM_CHECK_ERR(ctx0, lm_comm_world(ctx0, &e, &c), LM_E_CONFIG, "srun started 4 tasks without PMI");
    LM_CHECK_OK(ctx0, ENV("SLURM_JOB_ID", "9", "SLURM_NTASKS", "4"));                 /* inside an allocation, but not started by srun */
    LM_CHECK(e.launch == LM_LAUNCH_NONE);
    LM_CHECK_OK(ctx0, ENV("RANK", "1", "WORLD_SIZE", "2", "MASTER_ADDR", "host", "MASTER_PORT", "1234", "LOCAL_RANK", "1"));
    LM_CHECK(e.launch == LM_LAUNCH_VARIABLES && e.master_port == 1234);
    LM_CHECK_ERR(ctx0, lm_comm_world(ctx0, &e, &c), LM_E_UNSUPPORTED, "mpirun -n 2");
    LM_CHECK_ERR(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "x", "OMPI_COMM_WORLD_RANK", "0"), LM_E_CONFIG, "OMPI_COMM_WORLD_SIZE=x");
    LM_CHECK_ERR(ctx0, ENV("OMPI_COMM_WORLD_SIZE", "2", "OMPI_COMM_WORLD_RANK", "2"), LM_E_CONFIG, "rank 2 of 2");
}
int main(int argc, char **argv) {
    if (argc > 3 && !strcmp(argv[1], "job")) return child(argc, argv);
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    self_path = n > 0 ? path : argv[0];
    if (lm_ctx_new(&ctx0, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    static const lm_t_case cases[] = { LM_T1(test_launchers), LM_T1(test_meshes_equal_one_process), LM_T1(test_checkpoints_change_meshes),
                                       LM_T1(test_a_run_on_two_ranks), LM_T1(test_a_rank_that_dies_ends_the_job) };
    int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    lm_ctx_free(ctx0);
    return rc;
}
