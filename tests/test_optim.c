/* test_optim.c — twenty steps of AdamW against PyTorch's and of Muon against a reference (tools/fixtures/optim.py), and the schedules. */
#include "format/safetensors.h"
#include "graph/plan.h"
#include "optim/optim.h"
#include "test.h"

static lm_ctx *ctx; static lm_st *fx;
static const float *get(const char *fmt, const char *p, const lm_st_tensor **info) {
    char name[64]; snprintf(name, sizeof name, fmt, p);
    const lm_st_tensor *t = lm_st_find(fx, name);
    const void *d;
    if (!t || lm_st_map(fx, t, &d)) { printf("no tensor %s\n", name); exit(1); }
    if (info) *info = t;
    return d;
}
static void open_all(void) {
    if (ctx) return;
    if (lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }) || lm_st_open(&fx, ctx, LM_FIXTURES "/optim.safetensors")) {
        printf("%s\n", lm_error(ctx));
        exit(1);
    }
}
static double worst(const float *got, const float *want, int64_t n) {      /* against the size of the tensor */
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) { d = fmax(d, fabs((double)got[i] - (double)want[i])); s = fmax(s, fabs((double)want[i])); }
    return d / s;
}
typedef struct { lm_store *store; lm_plan *plan; lm_optim_param p[3]; int n; } rig;
static lm_err rig_new(rig *r, const lm_optim_cfg *c, const char *const *name, int n, const char *start) {
    lm_graph *g;
    LM_TRY(lm_store_new(&r->store, ctx));
    r->n = n;
    for (int i = 0; i < n; i++) {
        const lm_st_tensor *t; const float *v = get(start, name[i], &t);
        lm_type ty = lm_type_make(LM_F32, t->rank, t->dim);
        r->p[i] = (lm_optim_param){ .name = name[i], .type = ty, .role = !strcmp(name[i], "b") ? LM_ROLE_BIAS : LM_ROLE_COL };
        lm_tensor w;
        LM_TRY(lm_store_add(r->store, name[i], &ty, LM_PLAIN, LM_MEM_WEIGHTS, &w));
        memcpy(w.data, v, (size_t)lm_numel(&w) * 4);
    }
    LM_TRY(lm_graph_new(&g, ctx, NULL));
    lm_err e = lm_optim_build(g, c, r->p, n, NULL);
    if (!e) e = lm_plan_new(&r->plan, ctx, g, &(lm_plan_opts){ .store = r->store, .create_states = true, .state_tag = LM_MEM_OPTIM });
    lm_graph_free(g);
    return e;
}
static lm_tensor state(rig *r, const char *fmt, const char *p) {
    char name[64]; snprintf(name, sizeof name, fmt, p);
    lm_tensor t = {0};
    LM_CHECK(lm_store_get(r->store, name, &t));
    return t;
}
static lm_err step(rig *r, const lm_optim_cfg *c, const char *const *name, const char *grads, int64_t s, int64_t row, double lr_scale, float *norm) {
    for (int i = 0; i < r->n; i++) {
        lm_tensor g = state(r, "grad.%s", name[i]);
        int64_t n = lm_numel(&g);
        const float *src = get(grads, name[i], NULL) + row * n;
        for (int64_t k = 0; k < n; k++) { LM_CHECK(((float *)g.data)[k] == 0); ((float *)g.data)[k] = 4 * src[k]; }      /* four tokens' sum */
    }
    float *clip = lm_plan_input(r->plan, "clip", NULL);
    clip[0] = (float)c->clip; clip[1] = 0.25f;
    for (int k = 0; lm_optims[k]; k++)
        for (int d = 0; d < 2; d++) {
            char in[64]; snprintf(in, sizeof in, "hyper.%s.%s", lm_optims[k]->name, d ? "decay" : "plain");
            float *h = lm_plan_input(r->plan, in, NULL);
            if (h) lm_optims[k]->hyper(c, lr_scale, d, s + 1, h);
        }
    LM_TRY(lm_plan_run(r->plan));
    *norm = *(float *)lm_plan_output(r->plan, "gnorm", NULL);
    return LM_OK;
}
static void rig_free(rig *r) { lm_plan_free(r->plan); lm_store_free(r->store); }

static void test_adamw(void) {
    static const char *const name[] = { "w", "b" };
    const lm_optim_cfg c = { .name = "adamw", .lr = 1.0, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 0 };
    open_all();
    const float *lr = get("%s", "lr", NULL);
    rig r = {0};
    LM_NEED_OK(ctx, rig_new(&r, &c, name, 2, "adamw.start.%s"));
    double bad = 0;
    for (int64_t s = 0; s < 20; s++) {
        float norm;
        LM_NEED_OK(ctx, step(&r, &c, name, "adamw.grad.%s", s, s, (double)lr[s], &norm));
        for (int i = 0; i < 2; i++) {
            lm_tensor p = state(&r, "%s", name[i]);
            bad = fmax(bad, worst(p.data, get("adamw.plain.%s", name[i], NULL) + s * lm_numel(&p), lm_numel(&p)));
        }
    }
    if (!(bad <= 1e-6)) { lm_t_fail++; printf("adamw: %g\n", bad); }
    for (int i = 0; i < 2; i++) {
        lm_tensor m = state(&r, "adamw.m.%s", name[i]), v = state(&r, "adamw.v.%s", name[i]);
        LM_CHECK(worst(m.data, get("adamw.plain.m.%s", name[i], NULL), lm_numel(&m)) <= 1e-6);
        LM_CHECK(worst(v.data, get("adamw.plain.v.%s", name[i], NULL), lm_numel(&v)) <= 1e-6);
    }
    rig_free(&r);
}
/* With the third parameter, of rank 3, the global norm and the clip are PyTorch's. */
static void test_adamw_clipped(void) {
    static const char *const name[] = { "w", "b", "u" };
    open_all();
    const lm_optim_cfg c = { .name = "adamw", .lr = 1.0, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0 };
    const float *lr = get("%s", "lr", NULL), *want = get("%s", "adamw.clip.norm", NULL);
    rig r = {0};
    LM_NEED_OK(ctx, rig_new(&r, &c, name, 3, "adamw.start.%s"));
    double bad = 0;
    for (int64_t s = 0; s < 20; s++) {
        float norm;
        LM_NEED_OK(ctx, step(&r, &c, name, "adamw.grad.%s", s, s, (double)lr[s], &norm));
        LM_CHECK_NEAR(norm, want[s], 1e-6 * (double)want[s]);
        for (int i = 0; i < 3; i++) {
            lm_tensor p = state(&r, "%s", name[i]);
            bad = fmax(bad, worst(p.data, get("adamw.clip.%s", name[i], NULL) + s * lm_numel(&p), lm_numel(&p)));
        }
    }
    if (!(bad <= 1e-6)) { lm_t_fail++; printf("adamw clipped: %g\n", bad); }
    rig_free(&r);
}
static void test_muon(void) {
    static const char *const name[] = { "wide", "tall", "square" };
    static const int keep[] = { 1, 2, 5, 10, 20 };
    open_all();
    const lm_optim_cfg c = { .name = "muon",
                             .muon_lr = 0.02,
                             .muon_momentum = 0.95,
                             .muon_weight_decay = 0.1,
                             .muon_steps = 5,
                             .lr = 1e-3,
                             .beta1 = 0.9,
                             .beta2 = 0.95,
                             .eps = 1e-8 };
    rig r = {0};
    LM_NEED_OK(ctx, rig_new(&r, &c, name, 3, "muon.start.%s"));
    int k = 0; double bad = 0;
    for (int64_t s = 0; s < 20; s++) {
        float norm;
        LM_NEED_OK(ctx, step(&r, &c, name, "muon.grad.%s", s, s % 6, 1.0, &norm));
        if (s + 1 != keep[k]) continue;
        for (int i = 0; i < 3; i++) {
            lm_tensor p = state(&r, "%s", name[i]);
            bad = fmax(bad, worst(p.data, get("muon.f32.%s", name[i], NULL) + k * lm_numel(&p), lm_numel(&p)));
        }
        k++;
    }
    if (!(bad <= 1e-6)) { lm_t_fail++; printf("muon: %g\n", bad); }
    rig_free(&r);
}
static void test_schedules(void) {
    lm_sched s = { .kind = LM_SCHED_COSINE, .warmup = 10, .steps = 110, .floor = 0.1 };
    LM_CHECK_NEAR(lm_sched_at(&s, 0), 0.1, 1e-12); LM_CHECK_NEAR(lm_sched_at(&s, 9), 1.0, 1e-12);
    LM_CHECK_NEAR(lm_sched_at(&s, 60), 0.55, 1e-12); LM_CHECK_NEAR(lm_sched_at(&s, 110), 0.1, 1e-12); LM_CHECK_NEAR(lm_sched_at(&s, 500), 0.1, 1e-12);
    s.kind = LM_SCHED_LINEAR; LM_CHECK_NEAR(lm_sched_at(&s, 60), 0.55, 1e-12);
    s.kind = LM_SCHED_CONSTANT; LM_CHECK_NEAR(lm_sched_at(&s, 100), 1.0, 1e-12);
    s.kind = LM_SCHED_WSD; s.decay_steps = 20;
    LM_CHECK_NEAR(lm_sched_at(&s, 89), 1.0, 1e-12); LM_CHECK_NEAR(lm_sched_at(&s, 100), 0.55, 1e-12); LM_CHECK_NEAR(lm_sched_at(&s, 110), 0.1, 1e-12);
}
static void test_unknown_name(void) {
    open_all();
    const lm_optim_cfg c = { .name = "adam" };
    rig r = {0};
    LM_CHECK_ERR(ctx, rig_new(&r, &c, NULL, 0, NULL), LM_E_CONFIG, "did you mean adamw");
    rig_free(&r);
}
LM_TEST_MAIN(LM_T1(test_adamw), LM_T1(test_adamw_clipped), LM_T1(test_muon), LM_T1(test_schedules), LM_T1(test_unknown_name))
