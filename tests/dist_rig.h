/* dist_rig.h — a small model that several ranks train, what one process makes of it, and how the two are compared: for test_dist.c (MPI) and
 * test_dist_dev.c (TCP; NCCL's place taken by a mock, the device's by a fake one).  Lifetime: rig_new to rig_free.  Threads: one.  Errors: of the library. */
#ifndef LM_DIST_RIG_H
#define LM_DIST_RIG_H
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include "base/file.h"
#include "dist/dist.h"
#include "test.h"
#include "train/run.h"

/* A device and its communicator for the rigs made from now on; NULL: the processor. */
static lm_dev *rig_dev;
static lm_comm *rig_dev_comm;
static lm_dtype rig_mm = LM_F32;                /* what products are computed in */
static lm_gather_kind rig_gather;               /* fsdp: gathered again for the backward, or once */
static bool rig_pure;                           /* matrices are kept in bf16 alone */
enum { BATCH = 8, T = 33, V = 97, STEPS = LM_T_WATCHED ? 4 : 6 };
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
                          .mm = rig_mm,
                          .gather = rig_gather,
                          .pure = rig_pure,
                          .recompute = j->recompute,
                          .seed = 7,
                          .comm = comm,
                          .mesh = comm ? j->mesh : LM_MESH_SINGLE,
                          .accum = j->accum,
                          .dev = rig_dev,
                          .dev_comm = comm ? rig_dev_comm : NULL,
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
    for (int i = 0; i < lm_store_count(r->store); i++) {
        lm_tensor x;
        lm_store_name(r->store, i, &x);
        n += lm_store_is_part(r->store, i) ? 0 : (size_t)lm_numel(&x) * 4;
    }
    return n;
}
typedef struct { double loss[STEPS], norm[STEPS], eval, states, hash[2], first[2], held[2], arena, gathers; } result;
static void hash_into(lm_hash128_t h, double out[2]) { out[0] = (double)(h.lo >> 12); out[1] = (double)(h.hi >> 12); }
/* Of what this rank holds whole of the parameters: all ranks must have the same, which a hash that they add up together does not tell. */
static lm_hash128_t held_whole(const rig *r) {
    lm_hasher *h = lm_hasher_new();
    lm_tensor x;
    for (int i = 0; i < lm_trainer_n_params(r->t); i++)
        if (lm_store_get(r->store, lm_trainer_param(r->t, i)->name, &x)) lm_hasher_add(h, x.data, (size_t)lm_numel(&x) * lm_dtype_size((lm_dtype)x.dtype));
    const lm_hash128_t out = lm_hasher_get(h);
    lm_hasher_free(h);
    return out;
}
static lm_err run(rig *r, int from, int to, result *x) {
    for (int s = from; s < to; s++) LM_TRY(step(r, s, &x->loss[s], &x->norm[s]));
    double e = 0;
    fill(&r->b, 1000);
    /* every rank the same batch; as many sequences as a micro-batch */
    LM_TRY(lm_trainer_eval(r->t, &r->b, &e));
    x->eval = e / (double)r->b.n_seq;
    hash_into(lm_trainer_hash(r->t), x->hash);
    hash_into(held_whole(r), x->held);
    x->states = (double)state_bytes(r);
    lm_trainer_plan p; lm_trainer_plan_of(r->t, &p);
    x->arena = (double)p.accumulate.arena_bytes;
    for (int i = 0; i < p.accumulate.n_steps; i++) x->gathers += !strcmp(lm_plan_call(lm_trainer_accumulate_plan(r->t), i)->op->name, "all_gather");
    return LM_OK;
}
/* ---- what the jobs do: by number, so that parent and child agree ------------------------------------------------------------------------------- */
static const job jobs[] = { { "llama", "adamw", LM_MESH_DP, 0, 1, false },  { "llama", "adamw", LM_MESH_FSDP, 0, 1, false },
                            { "gpt2", "adamw", LM_MESH_DP, 0, 2, false },   { "gpt2", "adamw", LM_MESH_FSDP, 0, 2, true },
                            { "llama", "muon", LM_MESH_DP, 0, 1, false },   { "llama", "muon", LM_MESH_FSDP, 0, 1, false },
                            { "llama", "adamw", LM_MESH_FSDP, 1, 1, true }, { "llama", "adamw", LM_MESH_FSDP, 2, 2, false },
                            { "gpt2", "muon", LM_MESH_FSDP, 3, 1, false },
                            { "gpt2", "adamw", LM_MESH_ZERO1, 0, 2, false }, { "llama", "adamw", LM_MESH_ZERO1, 1, 1, false },
                            { "llama", "adamw", LM_MESH_ZERO2, 1, 2, false }, { "gpt2", "muon", LM_MESH_ZERO2, 2, 1, false },
                            { "llama", "muon", LM_MESH_ZERO1, 0, 2, false } };
static const char *mesh_name(lm_mesh_kind m) { return (const char *const[]){ "alone", "dp", "zero1", "zero2", "fsdp" }[m]; }
enum { N_JOB = (int)(sizeof jobs / sizeof *jobs), CUT = 3 };
/* Under a sanitizer more than two ranks, and devices that meet by themselves, have half of the jobs: each mesh, family and optimizer once. */
__attribute__((unused)) static bool also(int k) { return !LM_T_WATCHED || k % 5 == 1 || k % 5 == 2 || k == 9; }

static bool write_file(const char *dir, const char *name, const void *p, size_t n) {
    char path[600]; snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(p, 1, n, f) == n;
    if (f) ok &= !fclose(f);
    return ok;
}
/* DIR/text.txt: something to train on. */
static bool write_sentences(lm_ctx *ctx, const char *dir) {
    lm_str t = { .ctx = ctx };
    for (int i = 0; i < 400; i++) lm_str_printf(&t, "The %d. sentence of %d says that %d is not %d.\n", i, i * 7 % 31, i * i % 97, i % 13);
    const bool ok = !lm_str_err(&t) && write_file(dir, "text.txt", t.p, t.n);
    lm_str_free(&t);
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
    lm_err e = lm_ckpt_find(ctx, c, dir, &path);
    lm_ckpt_state st;
    if (!e) { e = lm_ckpt_load(r.t, path, &st); lm_free(ctx, path); }
    if (!e && (st.step != CUT || st.seqs != CUT * BATCH)) e = lm_fail(ctx, LM_E_INTERNAL, "the checkpoint's state came back otherwise");
    if (!e) e = run(&r, CUT, STEPS, x);
    rig_free(&r);
    return e;
}
static lm_err keep(lm_ctx *ctx, lm_comm *c, int k, const char *dir) {
    rig r;
    result x;
    const lm_ckpt_state st = { .step = CUT, .seqs = CUT * BATCH, .best_val = 1, .isa = "any" };
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    lm_err e = run(&r, 0, CUT, &x);
    if (!e) e = lm_ckpt_save(r.t, dir, &st, 2);
    rig_free(&r);
    return e;
}
static bool has_litter(lm_ctx *ctx, const char *dir) {
    char **names; int n;
    bool any = false;
    if (lm_dir_list(ctx, dir, &names, &n)) return true;
    for (int i = 0; i < n; i++) any |= strstr(names[i], ".tmp") != NULL;
    lm_free(ctx, names);
    return any;
}
/* A rank (KILL_RANK, or the last) dies in the middle of a write, where its file is so long (KILL_AT). */
static lm_err killed(lm_ctx *ctx, lm_comm *c, int k, const char *dir) {
    rig r;
    const lm_ckpt_state st = { .step = CUT + 1, .isa = "any" };
    LM_TRY(keep(ctx, c, k, dir));
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    LM_TRY(c->barrier(c));
    if (c->rank == (getenv("KILL_RANK") ? atoi(getenv("KILL_RANK")) : c->size - 1)) {
        const rlim_t at = getenv("KILL_AT") ? (rlim_t)atol(getenv("KILL_AT")) : 2000;
        signal(SIGXFSZ, SIG_DFL);
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){ at, at });
    }
    return lm_ckpt_save(r.t, dir, &st, 2);
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
#endif
