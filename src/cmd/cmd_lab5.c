/* cmd_lab5.c — suite: lab5, the ladder of cmd_lab5.h as six rows, for one row of activations and for many. */
#include <math.h>
#include <string.h>
#include "base/pool.h"
#include "cmd/cmd_bench.h"
#include "cmd/cmd_lab5.h"
#include "cmd/cmd_text.h"
#include "device/cpu.h"
#include "op/matmul/matmul.h"
#include "quant/quant.h"

enum { EACH = 64 };                                            /* outputs that a thread takes at a time */
typedef struct { const lm_lab5 *p; const lm_lab5_step *s; uint64_t features; } job;
static void some(void *ud, int64_t t, int ith) {
    const job *j = ud; (void)ith;
    j->s->run(j->p, t * EACH, lm_min64((t + 1) * EACH, j->p->N), j->features);
}
static void take(lm_ctx *ctx, const job *j) {
    if (j->s->threads) lm_pool_tiles(lm_ctx_pool(ctx), lm_ceil_div(j->p->N, EACH), some, (void *)(uintptr_t)j);
    else j->s->run(j->p, 0, j->p->N, j->features);
}
/* The largest difference, in parts of the root of the mean square. */
static double apart(const float *y, const float *want, int64_t n) {
    double most = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)y[i] - (double)want[i]);
        most = d > most || !(d >= 0) ? d : most;
        squares += (double)want[i] * (double)want[i];
    }
    return squares > 0 ? most / sqrt(squares / (double)n) : most > 0 ? INFINITY : 0;
}
static lm_err row(lm_bench *b, const char *shape, const char *name, const char *what, const lm_lab5 *p, const float *want, double seconds, double limit, double *first) {
    const double ops = 2.0 * (double)p->M * (double)p->N * (double)p->K, off = apart(p->y, want, p->M * p->N);
    if (!(off < 1e-4)) return lm_fail(b->cli->ctx, LM_E_INTERNAL, "lab5: %s.%s differs from the reference by %g of its size", shape, name, off);
    if (!*first) *first = ops / seconds;
    lm_bench_put(b, lm_arena_printf(b->cli->a, "%s.%s", shape, name), ops / seconds, "OP/s", limit, *first,
                 lm_arena_printf(b->cli->a, "%s; off by %.1e", what, off));
    return LM_OK;
}
/* The program's own product: panels, as weights are loaded; the activations come as numbers and are made codes in it. */
static lm_err own(lm_bench *b, const lm_lab5 *p, const float *x, double *seconds) {
    lm_ctx *ctx = b->cli->ctx;
    lm_store *store; lm_graph *g = NULL; lm_plan *plan = NULL;
    lm_tensor w;
    lm_err err;
    LM_TRY(lm_store_new(&store, ctx));
    lm_type tx = LM_TYPE(LM_F32, p->M, p->K), tw = LM_TYPE(LM_QUANT, p->N, p->K);
    tw.quant = lm_quant_by_name("Q4_0");
    LM_GOTO(lm_store_add(store, "w", &tw, LM_PANEL16, LM_MEM_WEIGHTS, &w), done);
    for (int64_t n = 0; n < p->N; n++) lm_quant_row_move(&w, n, p->w + n * (p->K / LM_LAB5_BLOCK) * LM_LAB5_BYTES);
    LM_GOTO(lm_graph_new(&g, ctx, store), done);
    lm_graph_output(g, "y", lm_matmul_mm(g, lm_input(g, "x", &tx), lm_state(g, "w", &tw), NULL, false, true, LM_I8));
    LM_GOTO(lm_graph_err(g), done);
    LM_GOTO(lm_plan_new(&plan, ctx, g, &(lm_plan_opts){ .store = store }), done);
    memcpy(lm_plan_input(plan, "x", NULL), x, (size_t)(p->M * p->K) * 4);
    *seconds = 1e30;
    for (double end = lm_now() + 0.2, t; lm_now() < end || *seconds > 1e29;) {
        t = lm_now();
        LM_GOTO(lm_plan_run(plan), done);
        t = lm_now() - t;
        if (t < *seconds) *seconds = t;
    }
    memcpy(p->y, lm_plan_output(plan, "y", NULL), (size_t)(p->M * p->N) * 4);
done:
    lm_plan_free(plan); lm_graph_free(g); lm_store_free(store);
    return err;
}
static lm_err ladder(lm_bench *b, const char *shape, int64_t M, int64_t N, int64_t K) {
    lm_ctx *ctx = b->cli->ctx;
    const int64_t nb = K / LM_LAB5_BLOCK, rows = lm_max64(M, N);
    float *x = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(M * K) * 4), *xd = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(M * nb) * 4),
          *y = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(M * N) * 4), *want = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(M * N) * 4),
          *one = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)K * 4);
    int8_t *q = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(M * K));
    uint8_t *w = lm_alloc(ctx, LM_MEM_SCRATCH, (size_t)(N * nb) * LM_LAB5_BYTES);
    lm_err err = x && xd && y && want && one && q && w ? LM_OK : LM_E_NOMEM;
    const lm_rng r = lm_rng_of(5, "lab5");
    const lm_quant *format = lm_quant_by_name("Q4_0");
    for (int64_t i = 0; !err && i < rows; i++) {
        for (int64_t k = 0; k < K; k++) one[k] = lm_rng_normal(r, (uint64_t)(i * K + k));
        if (i < M) memcpy(x + i * K, one, (size_t)K * 4);
        if (i < N) { void *to[] = { w + i * nb * LM_LAB5_BYTES }; format->from_float(format, one, K, to); }
    }
    if (!err) lm_lab5_quantize(x, M * K, q, xd);
    const lm_lab5 p = { M, N, K, w, q, xd, y };
    const uint64_t features = lm_cpu_features_of(ctx);
    const double ops = 2.0 * (double)M * (double)N * (double)K, bytes = (double)(N * nb) * LM_LAB5_BYTES + (double)(M * K);
    const int threads = lm_ctx_threads(ctx);
    double first = 0;
    for (int s = 0; s < LM_COUNT(lm_lab5_steps) && !err; s++) {
        const job j = { &p, &lm_lab5_steps[s], features };
        if (lm_cli_stopped(b->cli)) { err = lm_cli_stop_err(b->cli); break; }
        double best = 1e30;
        for (double end = lm_now() + 0.2, t; lm_now() < end || best > 1e29;) {
            t = lm_now();
            take(ctx, &j);
            t = lm_now() - t;
            if (t < best) best = t;
        }
        if (!s) memcpy(want, y, (size_t)(M * N) * 4);
        const double share = lm_lab5_steps[s].threads ? 1 : 1.0 / threads, read = (lm_lab5_steps[s].threads ? b->m.mid_n : b->m.mid_n / threads) / bytes * ops;
        err = row(b, shape, lm_lab5_steps[s].name, lm_lab5_steps[s].what, &p, want, best, b->m.dot8 * share < read ? b->m.dot8 * share : read, &first);
        memset(y, 0xff, (size_t)(M * N) * 4);                              /* no step finds another's answer */
    }
    double best = 0;
    if (!err) err = own(b, &p, x, &best);
    const double read = b->m.mid_n / bytes * ops;
    if (!err)
        err = row(b, shape, "all", "threads, vectors and the rest: the program's own product, which makes the codes too", &p, want, best,
                  b->m.dot8 < read ? b->m.dot8 : read, &first);
    lm_free(ctx, x); lm_free(ctx, xd); lm_free(ctx, y); lm_free(ctx, want); lm_free(ctx, one); lm_free(ctx, q); lm_free(ctx, w);
    return err;
}
static lm_err lab5(lm_bench *b) {
    LM_TRY(ladder(b, "gemv", 1, 4096, 4096));
    return ladder(b, "gemm", 32, 2048, 2048);
}
const lm_bench_suite lm_bench_lab5[] = { { "lab5", "a course's ladder: 4-bit weights by 8-bit activations, six ways", lab5 }, { NULL, NULL, NULL } };
