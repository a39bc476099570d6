/* machine_weights.c — how long products with a model's weights take here, by format, by how the weights lie and by where they come from.
 *
 * Decoding reads every weight once, so what bounds a product of one row is where its weights are: a model larger than the last cache has them in
 * memory, every time. Here chains of products are run as the executor runs them, each with matrices of its own: "cold", after something larger than
 * the caches was read, and, small enough, again from the cache. Weights as the file has them (`--load map`) lie in small pages, the others in
 * huge ones, where the system has them. Products of many rows are bound by instructions, and those depend on the format.
 *
 * All formats look at the same memory, which is zero: no kernel's time depends on the numbers. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "device/cpu.h"
#include "device/probe.h"
#include "op/matmul/matmul.h"
#include "train/cost.h"

enum { ROWS = 256, MOST = 400, CHAIN = 24 << 20 /* bytes of a cold chain */, AREA = 40 << 20, RUNS = 2, ROUNDS = 2 };
static const double LONGEST = 4, SLOW = 0.12;                    /* seconds in all; of one run, beyond which larger ones are left out */
typedef struct { const char *quant; lm_dtype dtype; bool rows, across; } kind;       /* rows: as a file has them; across: (K, N), as GPT-2 keeps matrices */
typedef struct { lm_ctx *ctx; lm_machine *m; int first; char *huge, *small, *other; size_t others; } bench;

static lm_layout layout_of(const kind *k) { return k->rows || k->across ? LM_PLAIN : k->dtype == LM_BF16 ? LM_PANEL16X2 : LM_PANEL16; }
static lm_type type_of(const kind *k, int64_t n, int64_t wide) {
    lm_type t = LM_TYPE(k->dtype, k->across ? wide : n, k->across ? n : wide);
    t.quant = k->quant ? lm_quant_by_name(k->quant) : NULL;
    return t;
}
/* count products of (m, .) one after another: n out of wide, wide out of n, … */
static lm_err chain(bench *b, const kind *k, int64_t m, int64_t n, int64_t wide, int count, lm_store *store, lm_plan **out) {
    lm_graph *g;
    lm_err err = LM_OK;
    LM_TRY(lm_graph_new(&g, b->ctx, store));
    lm_type tx = LM_TYPE(LM_F32, m, wide);
    lm_value *x = lm_input(g, "x", &tx);
    size_t at = 0;
    for (int i = 0; i < count && !err; i++) {
        const lm_type t = i % 2 ? type_of(k, wide, n) : type_of(k, n, wide);
        char name[24]; size_t bytes;
        snprintf(name, sizeof name, "w%d", i);
        if (!lm_storage_bytes(t.dtype, t.quant, layout_of(k), 2, t.dim, &bytes)) { err = LM_E_RANGE; break; }
        if (at + bytes > AREA) at = 0;
        if (bytes > AREA) { err = LM_E_RANGE; break; }
        err = lm_store_borrow(store, name, &t, layout_of(k), (k->rows ? b->small : b->huge) + at, NULL);
        at += (bytes + 4095) & ~(size_t)4095;
        if (!err) x = lm_matmul_mm(g, x, lm_state(g, name, &t), NULL, false, !k->across, k->quant ? LM_I8 : k->dtype);
    }
    if (!err) { lm_graph_output(g, "y", x); err = lm_graph_err(g); }
    if (!err) err = lm_plan_new(out, b->ctx, g, &(lm_plan_opts){ .store = store });
    lm_graph_free(g);
    return err;
}
/* Mean of a few runs: what memory gives for a moment is not what a model gets. */
static lm_err mean(lm_plan *p, const bench *b, bool cold, double *seconds) {
    double sum = 0;
    int r = 0;
    LM_TRY(lm_plan_run(p));
    do {
        if (cold) lm_probe_walk(b->ctx, b->other, b->others);
        double t = lm_now();
        LM_TRY(lm_plan_run(p));
        sum += lm_now() - t;
    } while (++r < RUNS && sum < SLOW);
    *seconds = sum / r;
    return LM_OK;
}
/* The best of the rounds is kept. */
static void put(bench *b, const char *key, const char *more, double work, double seconds) {
    lm_machine *m = b->m;
    lm_machine_point x = { .work = work, .seconds = seconds };
    if (snprintf(x.key, sizeof x.key, "%s%s", key, more) >= (int)sizeof x.key) return;
    for (int i = b->first; i < m->n_point; i++) {
        lm_machine_point *p = &m->point[i];
        if (p->work < work || p->work > work || strcmp(p->key, x.key)) continue;
        if (seconds < p->seconds) p->seconds = seconds;
        return;
    }
    if (m->n_point < LM_MACHINE_POINTS) m->point[m->n_point++] = x;
}
/* One row (m = 1) or many of one size; *slow: larger ones would take too long. */
static lm_err measure(bench *b, const kind *k, int64_t m, int64_t n, int64_t wide, bool cold, bool *slow) {
    lm_store *store; lm_plan *p = NULL;
    lm_err err;
    size_t bytes;
    const lm_type t = type_of(k, n, wide);
    const int64_t most = cold ? CHAIN : (int64_t)(b->m->last_cache / 4);
    if (!lm_storage_bytes(t.dtype, t.quant, layout_of(k), 2, t.dim, &bytes) || bytes > AREA) return LM_OK;
    if (m == 1 && !cold && 2 * (int64_t)bytes > most) return LM_OK;
    const bool twice = 2 * (bytes + 4096) <= AREA;               /* else the second would find what the first has read */
    const int count = m > 1 ? 2 : !twice ? 1 : (int)lm_max64(2, lm_min64(MOST, most / (int64_t)bytes / 2 * 2));
    LM_TRY(lm_store_new(&store, b->ctx));
    LM_GOTO(chain(b, k, m, n, wide, count, store, &p), done);
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    double work = 0, seconds;
    char key[LM_MACHINE_KEY];
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, by;
        lm_plan_step(p, i, &op, &kernel, &flops, &by);
        work += lm_cost_work(lm_plan_call(p, i), kernel, &flops, by, 0, 0, key);
    }
    LM_GOTO(mean(p, b, cold, &seconds), done);
    *slow = seconds > SLOW / 2;
    put(b, key, cold ? LM_COST_COLD : "", work / count, seconds / count);
done:
    lm_plan_free(p); lm_store_free(store);
    return err;
}
static int by_key(const void *a, const void *b) {
    const lm_machine_point *x = a, *y = b;
    const int k = strcmp(x->key, y->key);
    return k ? k : (x->work > y->work) - (x->work < y->work);
}
static char *touched(lm_ctx *ctx, size_t bytes, bool small) {
    char *p = lm_alloc(ctx, LM_MEM_SCRATCH, bytes);
    if (p && small) madvise((void *)(((uintptr_t)p + 4095) & ~(uintptr_t)4095), bytes - 4096, MADV_NOHUGEPAGE);      /* advice */
    if (p) memset(p, 0, bytes);
    return p;
}
lm_err lm_machine_weights(lm_ctx *ctx, lm_machine *m) {
    static const kind all[] = {
        { "Q4_K", LM_QUANT, 0, 0 }, { "Q6_K", LM_QUANT, 0, 0 }, { "Q8_0", LM_QUANT, 0, 0 }, { "Q4_0", LM_QUANT, 0, 0 },
        { NULL, LM_BF16, 0, 0 }, { NULL, LM_F32, 0, 0 }, { NULL, LM_F32, 0, 1 }, { "Q5_K", LM_QUANT, 0, 0 },
        { "IQ4_NL", LM_QUANT, 0, 0 }, { "Q5_0", LM_QUANT, 0, 0 }, { "Q4_1", LM_QUANT, 0, 0 }, { "Q5_1", LM_QUANT, 0, 0 },
        { "Q8_0", LM_QUANT, 1, 0 }, { "Q4_0", LM_QUANT, 1, 0 }, { "Q4_K", LM_QUANT, 1, 0 }, { "Q6_K", LM_QUANT, 1, 0 },
        { "Q5_K", LM_QUANT, 1, 0 }, { "Q5_0", LM_QUANT, 1, 0 }, { NULL, LM_F32, 1, 0 }, { NULL, LM_BF16, 1, 0 },
    };
    static const int64_t one[][2] = { { 256, 256 }, { 1024, 512 }, { 2048, 2048 }, { 8192, 2048 } }, many[][2] = { { 512, 512 }, { 2048, 2048 } };
    size_t other = 4 * (size_t)m->last_cache;                       /* caches do not forget in order: twice their size leaves some of what was there */
    if (other > (size_t)512 << 20) other = (size_t)512 << 20;
    if (lm_memory_available() < other + 3 * (size_t)AREA) return LM_OK;              /* priced by the ceilings */
    bench b = { .ctx = ctx, .m = m, .others = other };
    b.huge = touched(ctx, AREA, false); b.small = touched(ctx, AREA, true); b.other = touched(ctx, other, false);
    lm_err err = b.huge && b.small && b.other ? LM_OK : LM_E_NOMEM;
    const double begun = lm_now();
    b.first = m->n_point;
    for (int round = 0; round < ROUNDS; round++)                     /* seconds apart: what disturbs one may spare the other */
        for (int i = 0; i < LM_COUNT(all) && !err && lm_now() - begun < LONGEST; i++) {
            bool slow = false;
            for (int s = 0; s < LM_COUNT(one) && !err && !slow; s++) {
                err = measure(&b, &all[i], 1, one[s][0], one[s][1], true, &slow);
                if (!err && !slow && all[i].quant && !all[i].rows) err = measure(&b, &all[i], 1, one[s][0], one[s][1], false, &slow);
            }
            slow = false;
            for (int s = 0; s < LM_COUNT(many) && !err && !slow; s++) err = measure(&b, &all[i], ROWS, many[s][0], many[s][1], false, &slow);
        }
    qsort(m->point, (size_t)m->n_point, sizeof *m->point, by_key);
    lm_free(ctx, b.huge); lm_free(ctx, b.small); lm_free(ctx, b.other);
    return err;
}
