/* test_dist_dev.c — several ranks that know each other's number and rank 0's address alone (torchrun's variables), on processors and on a device.
 *
 * The parent starts itself N times (`test_dist_dev job DIR KEY…`) with RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT set and compares what the
 * ranks leave in DIR with what one process computes. The device is the fake one (fake_dev.h) under several seeds, NCCL the mock
 * (mock/nccl.c), found by the loader that finds the real one; so rows, lanes, records, watchdog and rendezvous are the program's own. Then ranks are killed, stopped, late, of another build. */
#define _GNU_SOURCE                                        /* memmem */
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "calm.h"
#include "dist_rig.h"
#include "fake_dev.h"

static char self_path[4000], mock[4200];                            /* the mock is beside this program */
static char scratch[300];
static lm_ctx *ctx0;
static bool peers;                                                  /* devices meet by themselves */

/* ---- a rank ---- */
static const char *environment(void *ud, const char *name) { (void)ud; return getenv(name); }
static lm_err on_device(lm_ctx *ctx, lm_comm *c, uint64_t seed) {
    rig_dev = fake_open(ctx, seed);
    if (c && peers) { fake_share_memory(rig_dev); return lm_comm_peer(&rig_dev_comm, c, rig_dev); }
    return c ? lm_comm_nccl(&rig_dev_comm, c, rig_dev, mock) : LM_OK;
}
static void off_device(void) {
    if (rig_dev_comm) rig_dev_comm->free(rig_dev_comm);
    if (rig_dev) lm_dev_close(rig_dev);
    rig_dev = NULL; rig_dev_comm = NULL;
}
static lm_err sick_idle(lm_dev *d, bool *yes) { (void)yes; return lm_fail(d->ctx, LM_E_DEVICE, "card: waiting: an illegal address"); }
/* Steps until something stops it; what the error says goes to DIR/say-RANK with the seconds it took. */
static lm_err run_until_fault(lm_ctx *ctx, lm_comm *c, int k, const char *what, const char *told) {
    rig r;
    result x;
    memset(&x, 0, sizeof x);
    LM_TRY(rig_new(&r, ctx, c, &jobs[k]));
    lm_err e = LM_OK;
    for (int s = 0; s < STEPS && !e; s++) {
        if (s == 3 && c->rank == 1) {
            if (!strcmp(what, "kill")) _exit(9);
            if (!strcmp(what, "stop")) raise(SIGSTOP);
            if (!strcmp(what, "sick")) rig_dev->idle = sick_idle;
        }
        e = step(&r, s, &x.loss[s], &x.norm[s]);
    }
    if (rig_dev_comm && e && rig_dev_comm->stop) rig_dev_comm->stop(rig_dev_comm);
    for (int i = 0; i < 4000 && e == LM_E_DEVICE && !lm_exists(told); i++) usleep(10000);      /* a driver that takes its time: the others know before */
    rig_free(&r);
    return e;
}
/* After two steps of fsdp: every meeting of the plan has run, and some were waited for. */
static lm_err run_waited(lm_ctx *ctx, lm_comm *c, int *bad) {
    enum { MOST = 4000 };
    static double waited[MOST], ran[MOST];
    rig r;
    double loss, norm;
    lm_plan_stats st;
    LM_TRY(rig_new(&r, ctx, c, &jobs[1]));
    lm_err e = LM_OK;
    for (int s = 0; s < 2 && !e; s++) e = step(&r, s, &loss, &norm);
    lm_plan *p = lm_trainer_accumulate_plan(r.t);
    lm_plan_stats_of(p, &st);
    if (!e) e = lm_plan_waited(p, waited, ran, lm_min64(st.n_steps, MOST));
    int met = 0, late = 0, beside = 0;
    for (int i = 0; i < st.n_steps && i < MOST; i++) {
        const char *op, *kernel; double f, b;
        lm_plan_step(p, i, &op, &kernel, &f, &b);
        const bool gathers = !strcmp(op, "all_gather");
        met += gathers; beside += gathers && ran[i] > 0; late += waited[i] > 0;
        *bad += !lm_plan_call(p, i)->op || (ran[i] <= 0 && waited[i] > 0);
    }
    /* neighbours that go as one are one */
    if (!e) e = c->barrier(c);                                        /* who has left is missed by who still looks */
    *bad += !met || !beside || beside > met || !late;
    rig_free(&r);
    return e;
}
/* Sums of bf16 between devices: added in f32, rank 0 first, where pieces end and begin too. */
static lm_err halves(lm_ctx *ctx, lm_comm *world, int *bad) {
    static const int64_t sizes[] = { 1, 7, 1000, 65536, (4 << 20) + 24 };
    lm_dev *d = rig_dev;
    const int P = world->size;
    for (int k = 0; k < LM_COUNT(sizes); k++) {
        const int64_t n = sizes[k];
        uint16_t *x = malloc((size_t)(n * P) * 2);
        float *got = malloc((size_t)n * 4);
        void *all = NULL, *mine = NULL;
        lm_err e = x && got ? LM_OK : LM_E_NOMEM;
        for (int64_t i = 0; !e && i < n * P; i++) x[i] = lm_f32_to_bf16(number(world->rank, i));
        if (!e) e = d->alloc(d, (size_t)(n * P) * 2, &all);
        if (!e) e = d->alloc(d, (size_t)n * 4, &mine);
        if (!e) e = d->put(d, all, x, (size_t)(n * P) * 2);
        if (!e) e = d->fence(d, 0);
        if (!e) e = d->on(d, 1);
        if (!e) e = d->after(d, 0);
        if (!e) e = rig_dev_comm->reduce_scatter_half(rig_dev_comm, all, n, mine);      /* it ends on lane 2 */
        if (!e) e = d->fence(d, 1);
        if (!e) e = d->on(d, 0);
        if (!e) e = d->after(d, 1);
        if (!e) e = d->get(d, got, mine, (size_t)n * 4);
        if (!e) e = d->sync(d);
        for (int64_t i = 0; !e && i < n; i++) {
            const int64_t at = world->rank * n + i;
            float want = lm_bf16_to_f32(lm_f32_to_bf16(number(0, at)));
            for (int r = 1; r < P; r++) want += lm_bf16_to_f32(lm_f32_to_bf16(number(r, at)));
            if (got[i] == want) continue;
            (*bad)++;
            printf("rank %d: sum %d of %d: %g, wanted %g\n", world->rank, (int)i, (int)n, got[i], want);
            break;
        }
        if (!e) e = world->barrier(world);
        d->free(d, all); d->free(d, mine);
        free(x); free(got);
        if (e) return lm_fail(ctx, e, "sums of bf16: %s", lm_error(ctx));
    }
    return LM_OK;
}
/* A whole run on fake cards, of which rank 1's, or both, are too small (short_of): who tells of it? DIR/told-RANK has how often. */
static int short_of;
lm_err __wrap_lm_dist_device(lm_dev **out, lm_ctx *ctx, const lm_comm *world, const char *name);
lm_err __wrap_lm_dist_device(lm_dev **out, lm_ctx *ctx, const lm_comm *world, const char *name) {
    (void)name;
    *out = fake_open(ctx, 1);
    (*out)->memory = world->rank >= 2 - short_of ? 1 << 20 : 1 << 30;
    return LM_OK;
}
static void count_no_fit(void *ud, const lm_run_event *e) { *(int *)ud += e->kind == LM_RUN_NO_FIT; }
static lm_err run_short(lm_ctx *ctx, lm_comm *c, const char *dir) {
    char out[600], text[600], name[40];
    lm_run_cfg k; lm_arena *a;
    int told = 0;
    snprintf(out, sizeof out, "%s/run", dir); snprintf(text, sizeof text, "%s/text.txt", dir); snprintf(name, sizeof name, "told-%d", c->rank);
    LM_TRY(lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
    lm_err e = lm_opt_defaults(ctx, a, lm_run_options, &k);
    k.out = out; k.mesh = "dp=2"; k.device = "cuda"; k.data.path = text; k.data.seq = 32; k.tokenizer.vocab = 300; k.model.d = 64; k.model.n_layer = 1; k.model.n_head = 2; k.train.batch = 4;
    if (!e) e = lm_train_run(ctx, &k, &(lm_run_opts){ .event = count_no_fit, .ud = &told, .comm = c, .link = "nccl", .nccl = mock });
    lm_arena_free(a);
    return write_file(dir, name, &told, sizeof told) ? e : LM_E_IO;
}
static int said;
static void hear(void *ud, lm_level level, const char *room, const char *msg) { (void)ud; said += level == LM_LOG_WARN && !strcmp(room, "dist") && strstr(msg, "through NCCL"); }
static int child(int argc, char **argv) {
    lm_ctx *ctx; lm_comm *c = NULL; lm_dist_env env;
    const double patience = getenv("PATIENCE") ? atof(getenv("PATIENCE")) : 60;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1, .log = hear })) return 1;
    lm_err e = lm_dist_env_of(ctx, environment, NULL, &env);
    double t0 = lm_now();
    if (!e) e = lm_comm_world(ctx, &env, patience, &c);
    int bad = 0, k = 0;
    for (int i = 3; i < argc && !e; i++) {
        char name[120], sub[64] = "", dir[700];
        result x;
        unsigned seed = 0;
        memset(&x, 0, sizeof x);
        if (!strcmp(argv[i], "collectives")) { bad += check_collectives(ctx, c); continue; }
        if (sscanf(argv[i], "cpu:%d", &k) == 1) e = run_job(ctx, c, k, &x, NULL, NULL);
        else if (sscanf(argv[i], "dev:%d:%u", &k, &seed) == 2 || sscanf(argv[i], "peer:%d:%u", &k, &seed) == 2) {
            peers = argv[i][0] == 'p';
            rig_gather = k % 2 ? LM_GATHER_AGAIN : LM_GATHER_AUTO;      /* jobs 1, 3, 5, 7 of fsdp; 6 and 8 once */
            e = on_device(ctx, c, seed + 17u * (unsigned)c->rank);
            if (!e) e = run_job(ctx, c, k, &x, NULL, NULL);
            off_device();
            peers = false; rig_gather = LM_GATHER_AUTO;
        } else if (sscanf(argv[i], "half-cpu:%d", &k) == 1 || sscanf(argv[i], "half-dev:%d", &k) == 1) {      /* with bf16 products */
            rig_mm = LM_BF16;
            if (argv[i][5] == 'd') e = on_device(ctx, c, 23);
            if (!e) e = run_job(ctx, c, k, &x, NULL, NULL);
            off_device();
            rig_mm = LM_F32;
        } else if (sscanf(argv[i], "save:%d:%60s", &k, sub) == 2 || sscanf(argv[i], "load:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = on_device(ctx, c, 5);
            if (!e) e = argv[i][0] == 's' ? run_until_checkpoint(ctx, c, k, dir, &x) : run_from_checkpoint(ctx, c, k, dir, &x);
            off_device();
        } else if (sscanf(argv[i], "fault:%d:%60s", &k, sub) == 2) {
            if (k >= 0) e = on_device(ctx, c, 3);
            t0 = lm_now();
            snprintf(dir, sizeof dir, "%s/say-0", argv[2]);
            if (!e) e = run_until_fault(ctx, c, k < 0 ? -k : k, sub, dir);
            if (!e) bad++;
        } else if (sscanf(argv[i], "killed:%d:%60s", &k, sub) == 2) {
            snprintf(dir, sizeof dir, "%s/%s", argv[2], sub);
            e = killed(ctx, c, k, dir);
            if (!e) bad++;
        } else if (sscanf(argv[i], "short:%d", &short_of) == 1) {
            e = run_short(ctx, c, argv[2]);
            if (!e) bad++;
        } else if (!strcmp(argv[i], "version")) {                   /* two builds */
            lm_store *s; lm_trainer *t; lm_cfg cfg = config("llama");
            const lm_trainer_opts o = { .batch = 2,
                                        .seq = T,
                                        .mm = LM_F32,
                                        .comm = c,
                                        .mesh = LM_MESH_DP,
                                        .optim = { .name = "adamw" },
                                        .version = c->rank ? "9.9" : NULL };
            e = lm_store_new(&s, ctx);
            if (!e) e = lm_model_init(ctx, &cfg, s, 5);
            if (!e) e = lm_trainer_new(&t, ctx, &cfg, s, &o);
        } else if (!strcmp(argv[i], "plans")) {                     /* two configurations */
            lm_store *s; lm_trainer *t; lm_cfg cfg = config("llama");
            const lm_trainer_opts o = { .batch = 2 + c->rank, .seq = T, .mm = LM_F32, .comm = c, .mesh = LM_MESH_DP, .optim = { .name = "adamw" } };
            e = lm_store_new(&s, ctx);
            if (!e) e = lm_model_init(ctx, &cfg, s, 5);
            if (!e) e = lm_trainer_new(&t, ctx, &cfg, s, &o);
        } else if (!strcmp(argv[i], "nolib")) { strcpy(mock, "/nowhere/libnccl.so.2"); e = on_device(ctx, c, 1); }
        else if (!strcmp(argv[i], "halves")) {
            peers = true;
            e = on_device(ctx, c, 29u + (unsigned)c->rank);
            if (!e) e = halves(ctx, c, &bad);
            off_device();
            peers = false;
        } else if (!strcmp(argv[i], "waited")) {
            e = on_device(ctx, c, 41);
            if (!e) e = run_waited(ctx, c, &bad);
            off_device();
        } else if (!strcmp(argv[i], "nccl")) e = on_device(ctx, c, 1);
        else if (!strcmp(argv[i], "auto")) {                         /* cards that cannot reach each other's memory: NCCL, and rank 0 says so */
            rig_dev = fake_open(ctx, 1);
            e = lm_comm_devices(&rig_dev_comm, c, rig_dev, NULL, mock);
            bad += e || strcmp(rig_dev_comm->name, "nccl") || said != !c->rank || *lm_error(ctx);
            off_device();
        } else if (!strcmp(argv[i], "other")) e = c->rank ? c->barrier(c) : c->broadcast(c, sub, 8, 0);
        else bad++;
        snprintf(name, sizeof name, "%s-%d-%d", argv[i], c->size, c->rank);
        for (char *p = name; *p; p++) if (*p == ':') *p = '-';
        if (!e && strcmp(argv[i], "waited") && !write_file(argv[2], name, &x, sizeof x)) bad++;
    }
    if (e) {
        char name[40], say[1600];
        snprintf(name, sizeof name, "say-%d", env.rank);
        const int n = snprintf(say, sizeof say, "%.1f s: %s: %s\n", lm_now() - t0, lm_err_name(e), lm_error(ctx));
        write_file(argv[2], name, say, (size_t)n + 1);
        printf("rank %d: %s", env.rank, say);
        fflush(stdout);
        _exit(1);                                                    /* as the program does: no farewells */
    }
    if (c) c->free(c);
    lm_ctx_free(ctx);
    return bad ? 1 : 0;
}
/* ---- the parent ---- */
static int free_port(void) {
    struct sockaddr_in a = { .sin_family = AF_INET };
    socklen_t n = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (void *)&a, sizeof a) || getsockname(fd, (void *)&a, &n)) return 29517;
    close(fd);
    return ntohs(a.sin_port);
}
/* Start `n` of `size` ranks and wait; ranks that are stopped for ever are ended when the others are gone. Exit status of the worst, rank 0's last. */
static int launch(int n, int size, const char *patience, const char *keys) {
    char text[2000], *arg[64], number[4][24];
    int n_arg = 0, worst = 0;
    pid_t pid[8];
    snprintf(text, sizeof text, "%s", keys);
    snprintf(number[3], sizeof number[3], "%d", free_port());
    arg[n_arg++] = self_path; arg[n_arg++] = (char *)(uintptr_t)"job"; arg[n_arg++] = scratch;
    for (char *save, *t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save)) arg[n_arg++] = t;
    arg[n_arg] = NULL;
    fflush(stdout);
    for (int r = 0; r < n; r++) {
        if ((pid[r] = fork())) continue;
        char log[400];
        snprintf(number[0], sizeof number[0], "%d", r); snprintf(number[1], sizeof number[1], "%d", size);
        setenv("RANK", number[0], 1);
        setenv("LOCAL_RANK", number[0], 1);
        setenv("WORLD_SIZE", number[1], 1);
        setenv("LOCAL_WORLD_SIZE", number[1], 1);
        setenv("MASTER_ADDR", "127.0.0.1", 1); setenv("MASTER_PORT", number[3], 1); setenv("PATIENCE", patience, 1);
        if (r && getenv("SECOND_NCCL")) setenv("MOCK_NCCL_VERSION", getenv("SECOND_NCCL"), 1);
        snprintf(log, sizeof log, "%s/log-%d", scratch, r);
        if (!freopen(log, "w", stdout)) _exit(1);
        dup2(1, 2);
        execv(self_path, arg);
        _exit(127);
    }
    for (int left = n; left;) {
        int rc, r = 0;
        const pid_t p = waitpid(-1, &rc, WUNTRACED);
        while (r < n && pid[r] != p) r++;
        if (p < 0 || r == n) break;
        if (WIFSTOPPED(rc)) continue;
        left--; pid[r] = 0;
        const int code = WIFEXITED(rc) ? WEXITSTATUS(rc) : 255;
        if (code > worst) worst = code;
        if (!r) for (int k = 1; k < n; k++) if (pid[k] && strstr(keys, "stop")) kill(pid[k], SIGKILL);
    }
    return worst;
}
static void show_logs(int n) {
    for (int r = 0; r < n; r++) {
        char path[400], line[400];
        snprintf(path, sizeof path, "%s/log-%d", scratch, r);
        FILE *f = fopen(path, "r");
        for (int i = 0; f && i < 12 && fgets(line, sizeof line, f); i++) printf("  [%d] %s", r, line);
        if (f) fclose(f);
    }
}
#define LAUNCH(n, keys)                                                                                                                    \
    do {                                                                                                                                   \
        int rc_ = launch(n, n, "120", keys);                                                                                               \
        if (rc_) {                                                                                                                         \
            lm_t_fail++;                                                                                                                   \
            printf("%d ranks, %s: exit status %d\n", n, keys, rc_);                                                                        \
            show_logs(n);                                                                                                                  \
        }                                                                                                                                  \
    } while (0)
static bool begin(void) {
    snprintf(scratch, sizeof scratch, "/tmp/loam-dist-dev-%d", (int)getpid());
    return !mkdir(scratch, 0700);
}
static void end(void) { lm_dir_remove(ctx0, scratch); }
static bool result_of(const char *key, int size, int rank, result *x) {
    char name[120];
    snprintf(name, sizeof name, "%s-%d-%d", key, size, rank);
    for (char *p = name; *p; p++) if (*p == ':') *p = '-';
    if (read_file(scratch, name, x, sizeof *x)) return true;
    lm_t_fail++;
    printf("%s: no result\n", name);
    return false;
}
static void says(int rank, const char *const *parts, double at_most) {
    char say[1600] = "", name[400];
    snprintf(name, sizeof name, "%s/say-%d", scratch, rank);
    FILE *f = fopen(name, "r");
    if (f) { if (!fgets(say, sizeof say, f)) say[0] = 0; fclose(f); unlink(name); }
    if (getenv("LM_VERBOSE")) printf("rank %d says %s", rank, say);
    for (; *parts; parts++)
        if (!strstr(say, *parts)) {
            lm_t_fail++;
            printf("rank %d says: %s; \"%s\" is not in it\n", rank, say, *parts);
            show_logs(2);
        }
    if (at_most > 0 && !(atof(say) <= at_most)) { lm_t_fail++; printf("rank %d took longer than %.0f seconds: %s\n", rank, at_most, say); }
}
#define SAYS(rank, at_most, ...) says(rank, (const char *const[]){ __VA_ARGS__, NULL }, at_most)

static void test_the_fake_device_alone(void) {
    result host, dev;
    for (int k = 0; k < N_JOB; k++) {
        if (jobs[k].mesh != LM_MESH_DP) continue;
        LM_CHECK_OK(ctx0, run_job(ctx0, NULL, k, &host, NULL, NULL));
        LM_CHECK_OK(ctx0, on_device(ctx0, NULL, 7));
        LM_CHECK_OK(ctx0, run_job(ctx0, NULL, k, &dev, NULL, NULL));
        off_device();
        LM_CHECK(!memcmp(host.hash, dev.hash, sizeof host.hash) && !memcmp(host.loss, dev.loss, sizeof host.loss));
    }
}
/* Memory is the planner's: when two steps have been taken (the second is recorded), later ones ask nobody for any, on the device or here. */
static void test_steps_allocate_nothing(void) {
    for (int k = 0; k < 4; k++) {
        rig r;
        lm_ledger before, after;
        double loss, norm;
        int asked = 0;
        LM_CHECK_OK(ctx0, on_device(ctx0, NULL, 3));
        LM_NEED_OK(ctx0, rig_new(&r, ctx0, NULL, &jobs[k]));
        for (int s = 0; s < STEPS; s++) {
            if (s == 2) { lm_mem_ledger(ctx0, &before); asked = fake_allocations(rig_dev); }
            LM_CHECK_OK(ctx0, step(&r, s, &loss, &norm));
        }
        lm_mem_ledger(ctx0, &after);
        LM_CHECK(asked > 0 && fake_allocations(rig_dev) == asked && after.n_alloc == before.n_alloc);
        rig_free(&r);
        off_device();
    }
}
/* TCP's sums are MPI's: rank 0 first. The device's ranks give the processors' bits under every order of the lanes. */
static void test_ranks_by_variables(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    for (int n = 2; n <= 4; n += 2) {
        char keys[2000] = "collectives";
        for (int k = 0; k < N_JOB; k++)
            if (n == 2 || also(k)) snprintf(keys + strlen(keys), sizeof keys - strlen(keys), " cpu:%d dev:%d:1", k, k);
        for (int k = 0; k < N_JOB && n == 2 && !LM_T_WATCHED; k++) snprintf(keys + strlen(keys), sizeof keys - strlen(keys), " dev:%d:2 dev:%d:3", k, k);
        char part[2000];
        LAUNCH(n, keys);
        for (int k = 0; k < N_JOB; k++) {
            if (n > 2 && !also(k)) continue;
            result one, cpu, x;
            char what[160];
            LM_CHECK_OK(ctx0, run_job(ctx0, NULL, k, &one, NULL, NULL));
            snprintf(part, sizeof part, "cpu:%d", k);
            if (!result_of(part, n, 0, &cpu)) continue;
            snprintf(what, sizeof what, "%s %s %s=%d recompute %d accum %d over TCP", jobs[k].family, jobs[k].optim,
                     mesh_name(jobs[k].mesh), n, jobs[k].recompute, jobs[k].accum);
            close_to(what, &cpu, &one, 0, STEPS);
            for (int seed = 1; seed <= (n == 2 && !LM_T_WATCHED ? 3 : 1); seed++)
                for (int r = 0; r < n; r++) {
                    snprintf(part, sizeof part, "dev:%d:%d", k, seed);
                    if (!result_of(part, n, r, &x)) continue;
                    if (memcmp(x.hash, cpu.hash, sizeof x.hash) || (!r && memcmp(x.loss, cpu.loss, sizeof x.loss))) {
                        lm_t_fail++;
                        printf("%s: rank %d of a device, order %d, has other weights (loss %.9g, %.9g) than processors (%.9g, %.9g)\n",
                               what, r, seed, x.loss[0], x.loss[STEPS - 1], cpu.loss[0], cpu.loss[STEPS - 1]);
                    }
                }
        }
    }
    end();
}
/* Devices that meet by themselves: the processors' bits too, whatever the order of the lanes, for two ranks (sums either way round) and four. */
static void test_devices_that_meet_by_themselves(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    for (int n = 2; n <= 4; n += 2) {                                        /* of four ranks every third job: it is the sums' other order that counts */
        char keys[2000] = " halves", part[80];
        for (int k = 0; k < N_JOB; k += n - 1) if (also(k)) snprintf(keys + strlen(keys), sizeof keys - strlen(keys), " cpu:%d peer:%d:%d", k, k, 1 + k % 3);
        LAUNCH(n, keys + 1);
        for (int k = 0; k < N_JOB; k += n - 1)
            for (int r = 0; r < (also(k) ? n : 0); r++) {
                result cpu, x;
                snprintf(part, sizeof part, "cpu:%d", k);
                if (!result_of(part, n, 0, &cpu)) continue;
                snprintf(part, sizeof part, "peer:%d:%d", k, 1 + k % 3);
                if (!result_of(part, n, r, &x)) continue;
                LM_CHECK(!memcmp(x.hash, cpu.hash, sizeof x.hash) && (r || !memcmp(x.loss, cpu.loss, sizeof x.loss)));
            }
    }
    end();
}
/* On a device matrices are rounded to bf16 before they are gathered: products round them anyway, so the bits are those of gathered f32. And dp. */
static void test_rounded_before_gathered(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    result cpu, dev;
    LAUNCH(2, "half-cpu:1 half-dev:1 half-cpu:0 half-dev:0 half-cpu:2 half-dev:2");
    if (result_of("half-cpu:1", 2, 0, &cpu) && result_of("half-dev:1", 2, 0, &dev))
        LM_CHECK(!memcmp(cpu.hash, dev.hash, sizeof cpu.hash) && !memcmp(cpu.loss, dev.loss, sizeof cpu.loss));
    /* dp keeps rounded copies and takes products of one input as one: sums of other lengths, whose gradients are summed over ranks as one */
    for (int k = 0; k <= 2; k += 2) {
        const char *const key[2][2] = { { "half-cpu:0", "half-dev:0" }, { "half-cpu:2", "half-dev:2" } };
        if (!result_of(key[k / 2][0], 2, 0, &cpu) || !result_of(key[k / 2][1], 2, 0, &dev)) continue;
        for (int s = 0; s < STEPS; s++)
            if (!(fabs(cpu.loss[s] - dev.loss[s]) <= 2e-3 * cpu.loss[s] && fabs(cpu.norm[s] - dev.norm[s]) <= 2e-2 * cpu.norm[s])) {
                lm_t_fail++;
                printf("%s: step %d: loss %.8g, norm %.6g; processors have %.8g, %.6g\n", key[k / 2][1], s, dev.loss[s], dev.norm[s],
                       cpu.loss[s], cpu.norm[s]);
            }
    }
    end();
}
static void test_waits_are_timed(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LAUNCH(2, "waited");
    end();
}
static void test_checkpoints_of_a_device(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    enum { L = 1, Z = 10 };
    result whole, x;
    char dir[400];
    LM_CHECK_OK(ctx0, run_job(ctx0, NULL, L, &whole, NULL, NULL));
    LAUNCH(2, "save:1:f2 save:10:z2 load:1:f2 load:10:f2");
    LAUNCH(4, "load:1:f2 load:1:z2");
    static const struct { const char *key; int n; } from[] = { { "load:1:f2", 2 }, { "load:10:f2", 2 }, { "load:1:f2", 4 }, { "load:1:z2", 4 } };
    for (int i = 0; i < LM_COUNT(from); i++) if (result_of(from[i].key, from[i].n, 0, &x)) close_to(from[i].key, &x, &whole, CUT, STEPS);
    snprintf(dir, sizeof dir, "%s/z2", scratch);
    LM_CHECK_OK(ctx0, run_from_checkpoint(ctx0, NULL, L, dir, &x));
    close_to("zero1=2 of a device, resumed alone on a processor", &x, &whole, CUT, STEPS);
    end();
}
static void test_ranks_that_do_not_come(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    launch(2, 2, "60", "fault:1:kill");                              /* fsdp: in the middle of a step */
    SAYS(0, 30, "E_COMM", "rank 1 has gone", "step");
    launch(2, 2, "60", "fault:0:kill");
    SAYS(0, 30, "E_COMM", "rank 1 has gone");
    launch(2, 2, "60", "fault:1:sick");                              /* a card that fails */
    SAYS(0, 30, "E_COMM", "rank 1 has gone", "step");
    SAYS(1, 60, "E_DEVICE", "a recorded run of", "an illegal address");
    setenv("MOCK_NCCL_SLOW_ABORT", "1", 1);                          /* giving up does not wait for the library */
    launch(2, 2, "2", "fault:1:stop");
    unsetenv("MOCK_NCCL_SLOW_ABORT");
    SAYS(0, 20, "E_COMM", "rank 0 of 2 waited 2 seconds in all_gather", "meeting", "of step 4");
    launch(2, 2, "2", "fault:0:stop");
    SAYS(0, 20, "E_COMM", "rank 0 of 2 waited 2 seconds in all_reduce_in, meeting 1 of", "of step 4");
    launch(2, 2, "2", "fault:-2:stop");                              /* processors over TCP */
    SAYS(0, 20, "E_COMM", "rank 0 of 2: all_reduce, step 4: rank 1 did not answer for 2 seconds");
    launch(3, 3, "60", "killed:1:k3");                               /* while a checkpoint is written, by TCP: the first is whole, nothing stays */
    SAYS(0, 30, "E_COMM", "rank 2 has gone", "was not written, earlier ones are untouched");
    char dir[400], *path;
    snprintf(dir, sizeof dir, "%s/k3", scratch);
    LM_CHECK(!has_litter(ctx0, dir));
    LM_NEED_OK(ctx0, lm_ckpt_find(ctx0, NULL, dir, &path));
    LM_CHECK(strstr(path, "step-00000003") != NULL);
    lm_free(ctx0, path);
    launch(1, 2, "2", "collectives");
    SAYS(0, 20, "E_COMM", "rank 0 of 2 waited 2 seconds", "missing: rank 1");
    end();
}
static void test_cards_too_small(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LM_CHECK(write_sentences(ctx0, scratch));
    for (int n = 1; n <= 2; n++) {
        char key[40], name[40];
        snprintf(key, sizeof key, "short:%d", n);
        launch(2, 2, "30", key);
        if (n == 1) SAYS(0, 30, "E_COMM", "planning failed on rank 1"); else SAYS(0, 30, "E_NOMEM", "training does not fit the device", "GB at the least (parameters");
        SAYS(1, 30, "E_NOMEM", "training does not fit the device");
        for (int r = 0, told; r < 2; r++) {
            snprintf(name, sizeof name, "told-%d", r);
            LM_CHECK(read_file(scratch, name, &told, sizeof told) && told == (r == (n == 1)));           /* one of them, and it has the ledger */
        }
    }
    end();
}
/* One process, on the fake card: a run goes on there without a word, on a processor with one. */
static void count_warnings(void *ud, lm_level level, const char *room, const char *msg) { (void)room; *(int *)ud += level == LM_LOG_WARN && strstr(msg, "kernels") != NULL; }
static void test_a_run_resumed_on_a_card(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LM_CHECK(write_sentences(ctx0, scratch));
    static const char *const device[] = { "cuda", "cuda", "cpu" };
    short_of = 0;
    for (int i = 0; i < LM_COUNT(device); i++) {
        int warned = 0;
        lm_ctx *ctx; lm_arena *a; lm_run_cfg k;
        char out[400], text[400];
        snprintf(out, sizeof out, "%s/run", scratch); snprintf(text, sizeof text, "%s/text.txt", scratch);
        LM_CHECK(!lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1, .log = count_warnings, .log_ud = &warned }));
        LM_NEED_OK(ctx, lm_arena_new(&a, ctx, LM_MEM_MISC, 0));
        LM_NEED_OK(ctx, lm_opt_defaults(ctx, a, lm_run_options, &k));
        k.out = out; k.device = device[i]; k.data.path = text; k.data.seq = 32; k.tokenizer.vocab = 300; k.model.d = 64; k.model.n_layer = 1; k.model.n_head = 2; k.train.batch = 4;
        k.train.steps = i + 1; k.optim.schedule = 0; k.optim.warmup = 1;
        LM_CHECK_OK(ctx, lm_train_run(ctx, &k, &(lm_run_opts){ .resume = i > 0 }));
        LM_CHECK(warned == (i == 2));
        lm_arena_free(a); lm_ctx_free(ctx);
    }
    end();
}
/* The program itself: a rank is killed after the first checkpoint, the other says so and ends; one process goes on from the checkpoint. */
static const char *executable = LM_PROGRAM;
static pid_t program(int rank, const char *port, const char *const *more) {
    char out[400], text[400], log[400], number[24];
    snprintf(out, sizeof out, "out=%s/run", scratch); snprintf(text, sizeof text, "data.path=%s/text.txt", scratch);
    const char *arg[40] = { LM_PROGRAM, "train", out, text, "threads=1", "data.seq=32", "tokenizer.vocab=300", "model.d=32", "model.n_layer=1",
                            "model.n_head=2", "train.batch=4", "train.val_every=0", "train.checkpoint_every=2", "train.timeout=60" };
    int n = 14;
    for (; *more; more++) arg[n++] = *more;
    fflush(stdout);
    const pid_t pid = fork();
    if (pid) return pid;
    snprintf(log, sizeof log, "%s/log-%d", scratch, rank); snprintf(number, sizeof number, "%d", rank);
    if (port) {
        setenv("RANK", number, 1); setenv("LOCAL_RANK", number, 1); setenv("WORLD_SIZE", "2", 1);
        setenv("MASTER_ADDR", "127.0.0.1", 1); setenv("MASTER_PORT", port, 1);
    }
    if (!freopen(log, "w", stdout)) _exit(1);
    dup2(1, 2);
    execv(executable, (char *const *)(uintptr_t)arg);
    _exit(127);
}
static int status_of(pid_t pid) { int rc = 0; return waitpid(pid, &rc, 0) == pid && WIFEXITED(rc) ? WEXITSTATUS(rc) : 255; }
static bool log_has(int rank, const char *what) {
    char path[400], line[600];
    bool has = false;
    snprintf(path, sizeof path, "%s/log-%d", scratch, rank);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f)) has |= strstr(line, what) != NULL;
    if (f) fclose(f);
    if (!has) { lm_t_fail++; printf("\"%s\" is not in the log of rank %d\n", what, rank); show_logs(2); }
    return has;
}
static void test_the_program_loses_a_rank(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LM_CHECK(write_sentences(ctx0, scratch));
    char port[24], latest[400];
    snprintf(port, sizeof port, "%d", free_port()); snprintf(latest, sizeof latest, "%s/run/checkpoints/latest", scratch);
    static const char *const two[] = { "mesh=zero2=2", "train.steps=100000", NULL }, *const one[] = { "mesh=", "train.steps=1", "--resume", NULL };
    calm();                                          /* under a sanitizer the machine is measured for longer than ranks are waited for here */
    setenv("XDG_CACHE_HOME", calm_cache, 1);
    const pid_t a = program(0, port, two), b = program(1, port, two);
    for (int i = 0; i < 6000 && !lm_exists(latest) && !waitpid(a, NULL, WNOHANG); i++) usleep(10000);
    LM_CHECK(lm_exists(latest));
    kill(b, SIGKILL);
    const double t0 = lm_now();
    LM_CHECK(status_of(a) == 1 && lm_now() - t0 < 30);
    status_of(b);
    log_has(0, "rank 1 has gone");
    LM_CHECK(status_of(program(0, NULL, one)) == 0);
    log_has(0, "all 1 steps were done before");
    end();
}
/* Two builds of one version: the second is a copy of the program whose linker's id has another byte. */
static void test_builds_that_differ(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LM_CHECK(write_sentences(ctx0, scratch));
    static const char note[] = { 4, 0, 0, 0, 20, 0, 0, 0, 3, 0, 0, 0, 'G', 'N', 'U', 0 };
    size_t n = 0;
    char *file;
    char other[400], port[24];
    LM_NEED_OK(ctx0, lm_file_read_all(ctx0, LM_PROGRAM, 1 << 30, &file, &n));
    char *id = memmem(file, n, note, sizeof note);
    if (!id) { lm_free(ctx0, file); end(); LM_SKIP("the linker gives no build id of 20 bytes"); }
    id[sizeof note] ^= 1;
    LM_CHECK(write_file(scratch, "other", file, n));
    lm_free(ctx0, file);
    snprintf(other, sizeof other, "%s/other", scratch); snprintf(port, sizeof port, "%d", free_port());
    LM_CHECK(!chmod(other, 0700));
    struct stat st;                                  /* size and time are what the machine's ceilings are kept under: nobody measures */
    LM_CHECK(!stat(LM_PROGRAM, &st) && !utimensat(AT_FDCWD, other, (struct timespec[]){ st.st_atim, st.st_mtim }, 0));
    calm();
    setenv("XDG_CACHE_HOME", calm_cache, 1);
    static const char *const two[] = { "mesh=dp=2", "train.steps=2", NULL };
    const pid_t a = program(0, port, two);
    executable = other;
    const pid_t b = program(1, port, two);
    executable = LM_PROGRAM;
    const int sa = status_of(a), sb = status_of(b);
    LM_CHECK(sa > 0 && sa < 128 && sa == sb);
    for (int r = 0; r < 2; r++) log_has(r, "all ranks must run the same program");
    log_has(1, "(build ");
    end();
}
static void test_ranks_that_differ(void) {
    if (!begin()) LM_SKIP("no folder can be made in /tmp");
    LAUNCH(2, "auto");
    launch(2, 2, "20", "version");
    SAYS(0, 20, "E_MISMATCH", "rank 1 loam 9.9"); SAYS(1, 20, "E_MISMATCH", "rank 1 loam 9.9");
    launch(2, 2, "20", "plans");
    SAYS(0, 20, "E_MISMATCH", "rank 1 has another plan than rank 0"); SAYS(1, 20, "E_MISMATCH", "rank 1 has another plan than rank 0");
    launch(2, 2, "20", "other");
    SAYS(0, 20, "E_COMM", "rank 1 is in another call (barrier");
    launch(2, 2, "20", "nolib");
    SAYS(0, 20, "E_UNSUPPORTED", "/nowhere/libnccl.so.2", "LOAM_NCCL");
    setenv("SECOND_NCCL", "21805", 1);
    launch(2, 2, "20", "nccl");
    unsetenv("SECOND_NCCL");
    SAYS(0, 20, "another version"); SAYS(1, 20, "rank 1 has NCCL 2.18.5");
    setenv("MOCK_NCCL_FAIL", "1", 1);
    launch(2, 2, "20", "nccl");
    unsetenv("MOCK_NCCL_FAIL");
    SAYS(0, 20, "NCCL connecting the ranks, step 0: invalid usage: Duplicate GPU detected : rank 0 and rank 1\n");
    end();
}
int main(int argc, char **argv) {
    const ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    if (n <= 0) snprintf(self_path, sizeof self_path, "%s", argv[0]);
    snprintf(mock, sizeof mock, "%.*s/libmock_nccl.so", (int)(strrchr(self_path, '/') ? strrchr(self_path, '/') - self_path : 0), self_path);
    if (argc > 3 && !strcmp(argv[1], "job")) return child(argc, argv);
    if (lm_ctx_new(&ctx0, &(lm_ctx_opts){ .n_threads = 1 })) return 1;
    static const lm_t_case cases[] = { LM_T1(test_the_fake_device_alone), LM_T1(test_steps_allocate_nothing), LM_T1(test_ranks_by_variables), LM_T1(test_devices_that_meet_by_themselves), LM_T1(test_rounded_before_gathered), LM_T1(test_waits_are_timed),
                                       LM_T1(test_checkpoints_of_a_device), LM_T1(test_ranks_that_do_not_come),
                                       LM_T1(test_cards_too_small), LM_T1(test_a_run_resumed_on_a_card), LM_T1(test_the_program_loses_a_rank), LM_T1(test_builds_that_differ),
                                       LM_T1(test_ranks_that_differ) };
    int rc = lm_t_main(cases, LM_COUNT(cases), argc, argv);
    lm_ctx_free(ctx0);
    return rc;
}
