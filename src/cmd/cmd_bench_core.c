/* cmd_bench_core.c — suites: ceilings, matmul (beside OpenBLAS when it is installed), executor. */
#include <dlfcn.h>
#include <string.h>
#include "cmd/cmd_bench.h"
#include "cmd/cmd_shapes.h"
#include "cmd/cmd_text.h"
#include "quant/quant.h"

static lm_err ceilings(lm_bench *b) {
    const lm_machine *m = &b->m;
    lm_bench_put(b, "read.1_thread", m->read_1, "B/s", 0, 0, "from memory");
    lm_bench_put(b, "read.all_threads", m->read_n, "B/s", 0, 0, "from memory");
    lm_bench_put(b, "read.small_pages", m->map_n, "B/s", m->read_n, 0, "from memory, as a mapped file lies; limit: in huge pages");
    lm_bench_put(b, "read.cache", m->cache_n, "B/s", 0, 0, "half a megabyte a thread");
    lm_bench_put(b, "fma.f32", m->fma_f32, "FLOP/s", 0, 0, "independent chains in registers");
    lm_bench_put(b, "matmul.f32", m->mm_f32, "FLOP/s", m->fma_f32, 0, "512 × 2048 × 1024");
    lm_bench_put(b, "matmul.bf16", m->mm_bf16, "FLOP/s", 0, 0, "512 × 2048 × 1024");
    lm_bench_put(b, "dot.int8", m->dot8, "OP/s", 0, 0, "independent chains in registers");
    for (int i = 0; lm_quants[i]; i++)
        for (int rows = 0; rows < 2; rows++) {                          /* what the products with each format's blocks reach */
            const char *format = lm_arena_printf(b->cli->a, "%s%s", lm_quants[i]->name, rows ? " rows" : "");
            const double rate = format ? lm_machine_rate(m, format) : 0;
            if (rate > 0) lm_bench_put(b, lm_arena_printf(b->cli->a, "matmul.%s%s", lm_quants[i]->name, rows ? ".rows" : ""), rate, "OP/s", m->dot8, 0,
                                       rows ? "256 rows, weights as a file has them" : "256 rows");
        }
    return LM_OK;
}

/* OpenBLAS, if the system has it: found at run time, never needed. */
typedef void sgemm_fn(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *, int);
static double peer_rate(lm_bench *b, sgemm_fn *f, int64_t m, int64_t n, int64_t k) {
    lm_ctx *ctx = b->cli->ctx;
    float *x = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(m * k) * 4), *w = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(n * k) * 4),
          *c = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(m * n) * 4);
    double best = 1e30, end = lm_now() + 0.25;
    if (x && w && c) {
        for (int64_t i = 0; i < m * k; i++) x[i] = (float)(i % 13) * 0.01f;
        for (int64_t i = 0; i < n * k; i++) w[i] = (float)(i % 7) * 0.01f;
        for (int i = 0; i < 3 || lm_now() < end; i++) {
            double t = lm_now();
            f(101, 111, 112, (int)m, (int)n, (int)k, 1.0f, x, (int)k, w, (int)k, 0.0f, c, (int)n);      /* row-major, B transposed */
            t = lm_now() - t;
            if (i && t < best) best = t;
        }
    }
    lm_free(ctx, x); lm_free(ctx, w); lm_free(ctx, c);
    return best < 1e29 ? 2.0 * (double)m * (double)n * (double)k / best : 0;
}
static lm_err matmul(lm_bench *b) {
    static const struct {
        int64_t m, n, k;
    } size[] = { { 512, 512, 512 },   { 1024, 1024, 1024 }, { 2048, 2048, 2048 }, { 1024, 2304, 768 },
                 { 1024, 3072, 768 }, { 1024, 768, 3072 },  { 256, 50257, 768 } };
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    union { void *p; sgemm_fn *f; void (*threads)(int); } gemm = { NULL }, set = { NULL };
    if (lib) { gemm.p = dlsym(lib, "cblas_sgemm"); set.p = dlsym(lib, "openblas_set_num_threads"); }
    if (gemm.p && set.p) set.threads(lm_ctx_threads(b->cli->ctx)); else gemm.p = NULL;
    lm_err err = LM_OK;
    for (int dt = 0; dt < 2 && !err; dt++)
        for (int i = 0; i < LM_COUNT(size) && !err; i++) {
            if (lm_cli_stopped(b->cli)) { err = lm_cli_stop_err(b->cli); break; }
            double rate;
            err = lm_machine_matmul(b->cli->ctx, dt ? LM_BF16 : LM_F32, size[i].m, size[i].n, size[i].k, false, 0.25, &rate);
            double peer = !dt && gemm.p ? peer_rate(b, gemm.f, size[i].m, size[i].n, size[i].k) : 0;
            char name[80];
            snprintf(name, sizeof name, "%s.%lldx%lldx%lld", dt ? "bf16" : "f32", (long long)size[i].m, (long long)size[i].n, (long long)size[i].k);
            if (!err) lm_bench_put(b, name, rate, "FLOP/s", dt ? b->m.mm_bf16 : b->m.fma_f32, peer, peer > 0 ? "peer: OpenBLAS" : NULL);
        }
    if (lib) dlclose(lib);
    return err;
}

static lm_err drop(void *ud, int r, int64_t i, const float *l) { (void)ud; (void)r; (void)i; (void)l; return LM_OK; }
/* What the executor itself costs: a decode step of a small model on one thread, and the same plan with no rows, so that no tile runs. */
static lm_err executor(lm_bench *b) {
    lm_ctx *ctx = NULL;
    lm_store *store = NULL; lm_engine *e = NULL; lm_session *s = NULL;
    lm_cfg c;
    lm_err err;
    LM_TRY(lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1, .isa_mask = lm_ctx_isa_mask(b->cli->ctx) }));
    LM_GOTO(lm_shape_cfg(ctx, "tiny-1m", &c), done);
    LM_GOTO(lm_store_new(&store, ctx), done);
    LM_GOTO(lm_shape_weights(ctx, &c, &(lm_load_opts){ .dtype = LM_F32, .panels = true }, true, store), done);
    LM_GOTO(lm_engine_new(&e, ctx, &c, store, &(lm_engine_opts){ .chunk = 16, .context = 512, .mm = LM_F32, .kv = LM_F32 }), done);
    LM_GOTO(lm_session_new(&s, e), done);
    double best = 1e30, empty = 1e30;
    for (int32_t i = 0; i < 256; i++) {
        int32_t id = i;
        const lm_request q = { s, &id, 1, LM_WANT_LAST };
        double t = lm_now();
        LM_GOTO(lm_engine_run(e, &q, 1, drop, NULL), done);
        t = lm_now() - t;
        if (t < best) best = t;
    }
    lm_plan *p = (lm_plan *)(uintptr_t)lm_engine_plan(e);          /* the engine's own; it sets both extents again before each of its runs */
    LM_GOTO(lm_plan_extent(p, "N", 0), done);
    LM_GOTO(lm_plan_extent(p, "L", 0), done);
    for (int i = 0; i < 1000; i++) {
        double t = lm_now();
        LM_GOTO(lm_plan_run(p), done);
        t = lm_now() - t;
        if (t < empty) empty = t;
    }
    lm_plan_stats st; lm_plan_stats_of(p, &st);
    char *note = lm_arena_printf(b->cli->a, "%d plan steps, one thread; limit 2 %%", st.n_steps);
    lm_bench_put(b, "decode_step", best * 1e6, "us", 0, 0, "1 M parameters, one thread");
    lm_bench_put(b, "dispatch", empty * 1e6, "us", 0, 0, "the same plan without rows");
    lm_bench_put(b, "dispatch_share", 100 * empty / best, "%", 2, 0, note);
done:
    if (err) lm_fail(b->cli->ctx, err, "%s", lm_error(ctx));
    lm_session_free(s); lm_engine_free(e); lm_store_free(store); lm_ctx_free(ctx);
    return err;
}
/* From a configuration to a plan that could run, 32 layers: graph, passes, kernels, memory, waits. Nothing is allocated for the model. */
static lm_err planning(lm_bench *b) {
    lm_ctx *ctx = b->cli->ctx;
    lm_cfg c;
    LM_TRY(lm_shape_cfg(ctx, "llama-7b", &c));
    static const struct {
        const char *name;
        int recompute;
        int64_t rows;
    } what[] = { { "decode", 0, 1 },
                 { "prefill", 0, 256 },
                 { "train", 0, 512 },
                 { "train.recompute_cheap", 1, 512 },
                 { "train.recompute_all", 33, 512 } };
    for (int i = 0; i < LM_COUNT(what); i++) {
        double took[15];
        lm_plan_stats st = { 0 };
        int n = (int)lm_min64(15, 3 * b->o->repeat);
        for (int r = 0; r < n; r++) {
            lm_store *store; lm_engine *e = NULL; lm_trainer *t = NULL;
            if (lm_cli_stopped(b->cli)) return lm_cli_stop_err(b->cli);
            LM_TRY(lm_store_new(&store, ctx));
            const bool train = i > 1;
            lm_err err = train ? LM_OK : lm_shape_weights(ctx, &c, &(lm_load_opts){ .dtype = LM_BF16, .panels = true }, false, store);
            double t0 = lm_now();
            if (!err && !train)
                err = lm_engine_new(&e, ctx, &c, store,
                                    &(lm_engine_opts){ .context = 4096, .chunk = what[i].rows, .mm = LM_BF16, .kv = LM_BF16, .dry = true });
            if (train)
                err = lm_trainer_new(
                    &t, ctx, &c, store,
                    &(lm_trainer_opts){ .batch = 1,
                                        .seq = what[i].rows,
                                        .mm = LM_BF16,
                                        .recompute = what[i].recompute,
                                        .dry = true,
                                        .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .clip = 1.0 } });
            took[r] = 1e3 * (lm_now() - t0);
            if (!err) lm_plan_stats_of(train ? lm_trainer_accumulate_plan(t) : lm_engine_plan(e), &st);
            lm_engine_free(e); lm_trainer_free(t); lm_store_free(store);
            LM_TRY(err);
        }
        char name[64];
        snprintf(name, sizeof name, "llama-7b.%s", what[i].name);
        lm_bench_put(
            b, name, lm_bench_median(took, n), "ms", i < 2 ? 10 : 0, 0,
            lm_arena_printf(b->cli->a, i < 2 ? "%d steps" : "%d steps to accumulate, and the update and validation plans", st.n_steps));
        snprintf(name, sizeof name, "llama-7b.%s.arena", what[i].name);
        lm_bench_put(b, name, (double)st.arena_bytes / 1e6, "MB", (double)st.live_bytes / 1e6, 0, "limit: the largest live set");
    }
    return LM_OK;
}
const lm_bench_suite lm_bench_core[] = { { "ceilings", "what the cores and the memory reach", ceilings },
                                         { "matmul", "matrix products", matmul },
                                         { "executor", "dispatch of a small decode step", executor },
                                         { "plan", "planning 32 layers", planning },
                                         { NULL, NULL, NULL } };
