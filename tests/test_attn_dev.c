/* Attention and its gradient over more blocks of keys than a device has multiprocessors, where LM_DEVICE names one: some rows of dq, dk and dv against
 * sums in double, and again to the bit. The driver's samples are too small for what only then happens: heads that are walked a few at a time, the last
 * group of them a smaller one, items that wait for each other (op/attn_grad/bwd.cuh). Other devices than Hopper run the same graphs by their own rows. */
#include "device/device.h"
#include "graph/plan.h"
#include "op/attn_grad/attn_grad.h"
#include "op/scale/scale.h"
#include "test.h"

enum { LOOK = 23 };                                          /* rows of a sequence that are compared */
typedef struct { int heads, kv, d; int64_t t, window, doc; bool sinks; } shape;
typedef struct { const float *q, *k, *v, *go; const int32_t *start; const float *gl, *dq, *dk, *dv; } numbers;
typedef struct { double off, all; } apart;
static void add(apart *a, float got, double want) { const double e = (double)got - want; a->off += e * e; a->all += want * want; }
static void row(double *to, const float *x, int64_t n) { for (int64_t i = 0; i < n; i++) to[i] = (double)x[i]; }
static double dot(const double *x, const double *y, int64_t n) { double s = 0; for (int64_t i = 0; i < n; i++) s += x[i] * y[i]; return s; }
static void more(double *to, double times, const double *x, int64_t n) { for (int64_t i = 0; i < n; i++) to[i] += times * x[i]; }
/* Uniform in ±half, rounded to bf16, the same everywhere. */
static uint32_t next(uint32_t *s) { *s = *s * 1664525 + 1013904223; return *s >> 8; }
static void fill(float *x, int64_t n, float half, uint32_t seed) {
    for (int64_t i = 0; i < n; i++) x[i] = lm_bf16_to_f32(lm_f32_to_bf16(((float)next(&seed) / 8388608.0f - 1) * half));
}

/* The t rows from r0 on, kv head hk. */
static void judge(const shape *s, const numbers *x, int64_t r0, int hk) {
    const int64_t T = s->t, D = s->d, wq = (int64_t)s->heads * D, wk = (int64_t)s->kv * D;
    const double scale = 1 / sqrt((double)D);
    double *k = malloc((size_t)(T * D) * 8), *v = malloc((size_t)(T * D) * 8), *p = malloc((size_t)T * 8), *dp = malloc((size_t)T * 8),
           *dk = calloc((size_t)(LOOK * D), 8), *dv = calloc((size_t)(LOOK * D), 8), q[256], go[256], o[256], dq[256];
    apart a[3] = { 0 };
    for (int64_t j = 0; j < T; j++) { row(k + j * D, x->k + (r0 + j) * wk + hk * D, D); row(v + j * D, x->v + (r0 + j) * wk + hk * D, D); }
    for (int h = hk * (s->heads / s->kv); h < (hk + 1) * (s->heads / s->kv); h++) for (int64_t i = 0, look = 0; i < T; i++) {
        const int64_t from = lm_attn_first(x->start[r0 + i] - r0, i, s->window);
        double sum = 0, di = 0;
        row(q, x->q + (r0 + i) * wq + h * D, D); row(go, x->go + (r0 + i) * wq + h * D, D);
        memset(o, 0, sizeof o); memset(dq, 0, sizeof dq);
        for (int64_t j = from; j <= i; j++) { p[j] = exp(scale * dot(q, k + j * D, D)); sum += p[j]; dp[j] = dot(go, v + j * D, D); }
        for (int64_t j = from; j <= i; j++) { p[j] /= sum; di += p[j] * dp[j]; }
        if (x->gl) di -= (double)x->gl[(r0 + i) * s->heads + h];
        for (int64_t l = 0; l < LOOK; l++) {
            const int64_t j = l * (T - 1) / (LOOK - 1);
            if (j < from || j > i) continue;
            more(dv + l * D, p[j], go, D); more(dk + l * D, scale * p[j] * (dp[j] - di), q, D);
        }
        if (i != look * (T - 1) / (LOOK - 1)) continue;
        for (int64_t j = from; j <= i; j++) more(dq, scale * p[j] * (dp[j] - di), k + j * D, D);
        for (int64_t c = 0; c < D; c++) add(&a[0], x->dq[(r0 + i) * wq + h * D + c], dq[c]);
        look++;
    }
    for (int64_t l = 0; l < LOOK; l++) for (int64_t c = 0; c < D; c++) {
        const int64_t at = (r0 + l * (T - 1) / (LOOK - 1)) * wk + hk * D + c;
        add(&a[1], x->dk[at], dk[l * D + c]); add(&a[2], x->dv[at], dv[l * D + c]);
    }
    for (int i = 0; i < 3; i++) {
        const double e = sqrt(a[i].off / a[i].all);
        LM_CHECK(e <= 8e-3);                                 /* P, dS and results are bf16 */
        if (!(e <= 8e-3)) printf("%s of kv head %d, rows from %ld, d_head %d: off by %.3g\n", ((const char *[]){ "dq", "dk", "dv" })[i], hk, (long)r0, s->d, e);
    }
    free(k); free(v); free(p); free(dp); free(dk); free(dv);
}
static void gradient(lm_ctx *ctx, lm_dev *dev, const shape *s, int64_t sequences) {
    const int64_t n = s->t * sequences, wq = (int64_t)s->heads * s->d, wk = (int64_t)s->kv * s->d;
    const lm_type tq = LM_TYPE(LM_F32, n, wq), tk = LM_TYPE(LM_F32, n, wk), ts = LM_TYPE(LM_I32, n), tl = LM_TYPE(LM_F32, n, s->heads);
    const lm_attn_p ap = { .n_head = s->heads, .n_kv = s->kv, .d_head = s->d, .window = s->window, .scale = 1 / sqrtf((float)s->d), .mm = LM_BF16 };
    const char *const name[4] = { "q", "k", "v", "go" };
    lm_graph *g; lm_plan *p;
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    lm_value *x[4], *start = lm_input(g, "start", &ts), *gl = s->sinks ? lm_input(g, "gl", &tl) : NULL;
    for (int i = 0; i < 4; i++) x[i] = lm_scale(g, lm_input(g, name[i], i == 1 || i == 2 ? &tk : &tq), 1.0f);     /* which the device keeps as bf16 */
    lm_value *o = lm_attn(g, x[0], x[1], x[2], start, &ap), *dq = lm_attn_grad(g, x[0], x[1], x[2], start, o, lm_output(o, 1), x[3], gl, &ap);
    for (int i = 0; i < 3; i++) lm_graph_output(g, ((const char *[]){ "dq", "dk", "dv" })[i], lm_scale(g, i ? lm_output(dq, i) : dq, 1.0f));
    LM_NEED_OK(ctx, lm_pass_storage(g, dev));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .dev = dev }));
    float *in[4];
    for (uint32_t i = 0; i < 4; i++) { in[i] = lm_plan_input(p, name[i], NULL); fill(in[i], n * (i == 1 || i == 2 ? wk : wq), 1.7f, 77 + i); }
    int32_t *st = lm_plan_input(p, "start", NULL);
    for (int64_t i = 0; i < n; i++) st[i] = (int32_t)(i / s->t * s->t + i % s->t / s->doc * s->doc);
    float *sinks = s->sinks ? lm_plan_input(p, "gl", NULL) : NULL;
    uint32_t seed = 5;
    for (int64_t i = 0; sinks && i < n * s->heads; i++) sinks[i] = (float)next(&seed) / 8388608.0f - 1;
    LM_CHECK_OK(ctx, lm_plan_run(p));
    lm_plan_stats stats; int own = 0;
    lm_plan_stats_of(p, &stats);
    for (int i = 0; i < stats.n_steps; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        own += !strcmp(kernel, "attn_grad.hopper");
    }
    LM_CHECK(own == 1 || !(dev->features & LM_CUDA_WGMMA));
    const float *out[3] = { lm_plan_output(p, "dq", NULL), lm_plan_output(p, "dk", NULL), lm_plan_output(p, "dv", NULL) };
    const numbers all = { in[0], in[1], in[2], in[3], st, sinks, out[0], out[1], out[2] };
    judge(s, &all, 0, 0);
    judge(s, &all, n - s->t, s->kv - 1);
    float *first[3];
    for (int i = 0; i < 3; i++) {
        const int64_t m = n * (i ? wk : wq);
        int64_t bad = 0;
        first[i] = malloc((size_t)m * 4);
        memcpy(first[i], out[i], (size_t)m * 4);
        for (int64_t j = 0; j < m; j++) bad += !isfinite(out[i][j]);
        LM_CHECK(!bad);
    }
    for (int r = 0; r < 3; r++) {
        LM_CHECK_OK(ctx, lm_plan_run(p));
        for (int i = 0; i < 3; i++) LM_CHECK(!memcmp(first[i], out[i], (size_t)(n * (i ? wk : wq)) * 4));
    }
    for (int i = 0; i < 3; i++) free(first[i]);
    lm_plan_free(p); lm_graph_free(g);
}
static void test_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    static const shape all[] = {
        { 16, 8, 128, 2048, 0, 2048, false }, { 10, 5, 128, 2048, 0, 700, false }, { 6, 6, 128, 1500, 300, 1500, true }, { 12, 12, 64, 2048, 0, 900, false },
        { 16, 8, 96, 2048, 0, 2048, false },  { 10, 5, 96, 1300, 0, 500, true },   { 8, 4, 256, 2048, 0, 2048, false },  { 10, 5, 256, 1300, 200, 900, true },
        { 5, 5, 256, 1500, 0, 1500, false }, { 5, 5, 128, 2300, 0, 2300, false }, { 5, 5, 96, 2300, 0, 2300, true },
    };
    lm_ctx *ctx; lm_dev *dev;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) gradient(ctx, dev, &all[i], 2);
    lm_dev_close(dev); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_on_device))
