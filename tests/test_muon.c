/* test_muon.c — Muon's matrices of one shape updated at once: on the processor what they are one by one, to the bit; where LM_DEVICE names a device,
 * close to the processor's and the same again. */
#include "device/device.h"
#include "graph/plan.h"
#include "optim/optim.h"
#include "test.h"

enum { UPDATES = 3, MOST = 24, NAME = 32 };
typedef struct { int64_t rows, cols; int n; } shape;
typedef struct { lm_optim_param p[MOST]; char name[MOST][NAME]; int n; int64_t numbers; } model;
static void fill(model *m, const shape *s, int n_shape) {
    *m = (model){ 0 };
    for (int round = 0, was = -1; was < m->n; round++) {                         /* shapes in turn, as layers have them */
        was = m->n;
        for (int k = 0; k < n_shape; k++) {
            if (round >= s[k].n) continue;
            snprintf(m->name[m->n], NAME, "w%d", m->n);
            m->p[m->n] = (lm_optim_param){ .name = m->name[m->n], .type = LM_TYPE(LM_F32, s[k].rows, s[k].cols), .role = m->n & 1 ? LM_ROLE_ROW : LM_ROLE_COL };
            m->n++;
            m->numbers += s[k].rows * s[k].cols;
        }
    }
}
typedef struct { float *x; int steps, at_once; } result;                      /* parameters, then momenta */
static lm_err updates(lm_ctx *ctx, const model *m, const lm_optim_cfg *c, lm_store *store, lm_plan *plan, float *x) {
    const lm_rng r = lm_rng_of(3, "muon");
    uint64_t at = 0;
    char name[NAME + 16];
    lm_tensor t = { 0 };
    for (int s = 0; s < UPDATES; s++) {
        LM_TRY(lm_store_pull(store));
        for (int i = 0; i < m->n; i++) {
            snprintf(name, sizeof name, "grad.%s", m->name[i]);
            LM_CHECK(lm_store_get(store, name, &t));
            for (int64_t k = 0; k < lm_numel(&t); k++) ((float *)t.data)[k] = lm_rng_normal(r, at++);
        }
        LM_TRY(lm_store_push(store));
        float *clip = lm_plan_input(plan, "clip", NULL);
        clip[0] = 1; clip[1] = 0.25f;
        lm_optim_by_name("muon")->hyper(c, 1, true, s + 1, lm_plan_input(plan, "hyper.muon.decay", NULL));
        LM_TRY(lm_plan_run(plan));
    }
    LM_TRY(lm_store_pull(store));
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < m->n; i++) {
            snprintf(name, sizeof name, "%s%s", k ? "muon.buf." : "", m->name[i]);
            LM_CHECK(lm_store_get(store, name, &t));
            memcpy(x, t.data, (size_t)lm_numel(&t) * sizeof(float));
            x += lm_numel(&t);
        }
    (void)ctx;
    return LM_OK;
}
static void run(lm_ctx *ctx, const model *m, lm_dev *dev, size_t together, lm_dtype mm, result *r) {
    const lm_optim_cfg c = { .name = "muon", .muon_lr = 0.02, .muon_momentum = 0.95, .muon_weight_decay = 0.1, .muon_steps = 5, .clip = 1, .together = together, .mm = mm };
    lm_store *store; lm_graph *g; lm_plan *plan;
    *r = (result){ .x = calloc((size_t)m->numbers, 2 * sizeof(float)), .at_once = 1 };
    LM_NEED_OK(ctx, lm_store_new(&store, ctx));
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    LM_NEED_OK(ctx, lm_optim_build(g, &c, m->p, m->n, NULL));
    if (dev && mm == LM_BF16) LM_NEED_OK(ctx, lm_pass_storage(g, dev));
    LM_NEED_OK(ctx, lm_plan_new(&plan, ctx, g, &(lm_plan_opts){ .store = store, .create_states = true, .state_tag = LM_MEM_OPTIM, .dev = dev }));
    lm_graph_free(g);
    lm_plan_stats st; lm_plan_stats_of(plan, &st);
    r->steps = st.n_steps;
    for (int i = 0; i < st.n_steps; i++) {                                    /* how many a product multiplies */
        const lm_call *q = lm_plan_call(plan, i);
        if (!strcmp(q->op->name, "matmul") && q->in[0].rank == 3 && q->in[0].dim[0] > r->at_once) r->at_once = (int)q->in[0].dim[0];
    }
    LM_CHECK_OK(ctx, updates(ctx, m, &c, store, plan, r->x));
    lm_plan_free(plan); lm_store_free(store);
}
static bool same(const model *m, const result *a, const result *b) { return !memcmp(a->x, b->x, (size_t)m->numbers * 2 * sizeof(float)); }
static size_t room_of(int n, int64_t rows, int64_t cols) { const int64_t k = lm_min64(rows, cols); return (size_t)(n * (2 * rows * cols + 2 * k * k)) * sizeof(float); }

static void test_together(void) {
    static const shape odd[] = { { 33, 70, 5 }, { 70, 33, 2 }, { 17, 17, 1 }, { 1, 9, 2 }, { 128, 48, 3 }, { 5, 1, 2 }, { 64, 64, 5 } };
    const struct { size_t bytes; int at_once; } w[] = { { (size_t)1 << 20, 5 }, { room_of(3, 64, 64), 5 }, { room_of(2, 33, 70), 2 }, { room_of(1, 33, 70), 2 } };
    lm_ctx *ctx;
    model m;
    result half[2] = { 0 };
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    fill(&m, odd, LM_COUNT(odd));
    for (int h = 0; h < 2; h++) {
        result *one = &half[h], r;
        run(ctx, &m, NULL, 0, h ? LM_BF16 : LM_F32, one);
        LM_CHECK(one->at_once == 1);
        for (int i = 0; i < LM_COUNT(w); i++) {
            run(ctx, &m, NULL, w[i].bytes, h ? LM_BF16 : LM_F32, &r);
            LM_CHECK(same(&m, one, &r));
            LM_CHECK(r.steps < one->steps);
            LM_CHECK(r.at_once == w[i].at_once);
            free(r.x);
        }
    }
    LM_CHECK(!same(&m, &half[0], &half[1]));                                  /* products in bf16 are taken */
    free(half[0].x); free(half[1].x);
    lm_ctx_free(ctx);
}
/* Of the whole update; no singular value of such a matrix is small. */
static double apart(const model *m, const result *a, const result *b) {
    double off = 0, all = 0;
    for (int64_t i = 0; i < m->numbers; i++) { const double d = (double)a->x[i] - (double)b->x[i]; off += d * d; all += (double)b->x[i] * (double)b->x[i]; }
    return sqrt(off / all);
}
static void test_on_device(void) {
    static const shape even[] = { { 256, 640, 5 }, { 640, 256, 3 }, { 128, 384, 1 }, { 33, 70, 2 } };
    lm_ctx *ctx; lm_dev *dev;
    model m;
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    fill(&m, even, LM_COUNT(even));
    result want, r[3];
    run(ctx, &m, NULL, 0, LM_F32, &want);
    for (int h = 0; h < 2; h++) {
        const lm_dtype mm = h ? LM_BF16 : LM_F32;
        const double most = h ? 3e-2 : 1e-5;
        for (int k = 0; k < 3; k++) run(ctx, &m, dev, k ? (size_t)64 << 20 : 0, mm, &r[k]);        /* one by one, at once, at once again */
        LM_CHECK(r[0].at_once == 1 && r[1].at_once == 5);
        LM_CHECK(same(&m, &r[1], &r[2]));
        for (int k = 0; k < 2; k++) {
            const double d = apart(&m, &r[k], &want);
            LM_CHECK(d <= most);
            printf("  %s, %s: %.2g from the processor's\n", lm_dtype_name(mm), k ? "at once" : "one by one", d);
        }
        for (int k = 0; k < 3; k++) free(r[k].x);
    }
    free(want.x);
    lm_dev_close(dev); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_together), LM_T1(test_on_device))
