/* Attention with sinks is attention over one more key, of score s and value zero: values, lse and every gradient, that of s too, against that softmax written
 * out in double; grouped heads, windows, documents, sinks above and below the scores. On this processor, and where LM_DEVICE names a device there too, by the
 * rows of f32 and of bf16. Over pages, in pieces of several sizes: the same bits here, nearly the same numbers there. */
#include "device/device.h"
#include "graph/plan.h"
#include "op/attn_sinks/attn_sinks.h"
#include "op/scale/scale.h"
#include "test.h"

typedef struct { int heads, kv, d; int64_t n, window, doc; float low, high; bool lse; } shape;    /* sinks from low to high; lse: a gradient flows into it too */
enum { Q, K, V, GO, GL, S, INPUTS };
enum { Y, LSE, DQ, DK, DV, DS, OUTPUTS };
static const char *const in_name[INPUTS] = { "q", "k", "v", "go", "gl", "s" }, *const out_name[OUTPUTS] = { "y", "lse", "dq", "dk", "dv", "ds" };
static int64_t in_cols(const shape *s, int i) { return i == K || i == V ? (int64_t)s->kv * s->d : i == GL || i == S ? s->heads : (int64_t)s->heads * s->d; }
static int64_t out_size(const shape *s, int i) { return i == DS ? s->heads : s->n * (i == LSE ? s->heads : in_cols(s, i == Y ? Q : i - DQ)); }
static uint32_t next(uint32_t *x) { *x = *x * 1664525 + 1013904223; return *x >> 8; }
/* Uniform in ±half, rounded to bf16, so that every form has the same numbers. */
static void fill(float *x, int64_t n, float half, uint32_t seed) {
    for (int64_t i = 0; i < n; i++) x[i] = lm_bf16_to_f32(lm_f32_to_bf16(((float)next(&seed) / 8388608.0f - 1) * half));
}
static double dot(const float *a, const float *b, int64_t n) { double t = 0; for (int64_t i = 0; i < n; i++) t += (double)a[i] * (double)b[i]; return t; }
static void truth(const shape *s, float *const *in, const int32_t *start, double *const *out) {
    const int64_t D = s->d, wq = in_cols(s, Q), wk = in_cols(s, K);
    const double scale = (double)(1 / sqrtf((float)D));
    double *p = malloc((size_t)(s->n + 1) * 8), *dp = malloc((size_t)(s->n + 1) * 8);
    for (int o = 0; o < OUTPUTS; o++) memset(out[o], 0, (size_t)out_size(s, o) * 8);
    for (int64_t i = 0; i < s->n; i++) for (int h = 0; h < s->heads; h++) {
        const int64_t at = i * wq + h * D, kh = (int64_t)(h / (s->heads / s->kv)) * D, lo = lm_attn_first(start[i], i, s->window);
        const double sink = (double)in[S][h];
        double top = sink, sum, di = s->lse ? -(double)in[GL][i * s->heads + h] : 0;
        for (int64_t j = lo; j <= i; j++) { p[j] = scale * dot(in[Q] + at, in[K] + j * wk + kh, D); top = fmax(top, p[j]); dp[j] = dot(in[GO] + at, in[V] + j * wk + kh, D); }
        sum = exp(sink - top);
        for (int64_t j = lo; j <= i; j++) sum += p[j] = exp(p[j] - top);
        for (int64_t j = lo; j <= i; j++) { p[j] /= sum; di += p[j] * dp[j]; }
        out[LSE][i * s->heads + h] = top + log(sum);
        out[DS][h] -= exp(sink - top) / sum * di;                        /* its value is zero, so dp of it is */
        for (int64_t j = lo; j <= i; j++) for (int64_t d = 0; d < D; d++) {
            const double ds = scale * p[j] * (dp[j] - di);
            out[Y][at + d] += p[j] * (double)in[V][j * wk + kh + d];
            out[DQ][at + d] += ds * (double)in[K][j * wk + kh + d];
            out[DK][j * wk + kh + d] += ds * (double)in[Q][at + d];
            out[DV][j * wk + kh + d] += p[j] * (double)in[GO][at + d];
        }
    }
    free(p); free(dp);
}
/* Steps whose kernel begins so. */
static int serves(const lm_plan *p, const char *begins) {
    lm_plan_stats stats; int n = 0;
    lm_plan_stats_of(p, &stats);
    for (int i = 0; i < stats.n_steps; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        n += !strncmp(kernel, begins, strlen(begins));
    }
    return n;
}
/* bf16: products and, on a device, what is stored between. */
static void one(lm_ctx *ctx, lm_dev *dev, const shape *s, bool bf16) {
    const lm_attn_p ap = { .n_head = s->heads, .n_kv = s->kv, .d_head = s->d, .window = s->window, .scale = 1 / sqrtf((float)s->d), .mm = bf16 ? LM_BF16 : LM_F32 };
    const lm_type ts = LM_TYPE(LM_I32, s->n);
    lm_graph *g; lm_plan *p;
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
    lm_value *raw[INPUTS], *x[INPUTS], *grad[4], *start = lm_input(g, "start", &ts);
    for (int i = 0; i < INPUTS; i++) {
        const lm_type t = i == S ? LM_TYPE(LM_F32, in_cols(s, i)) : LM_TYPE(LM_F32, s->n, in_cols(s, i));
        raw[i] = i == GL && !s->lse ? NULL : lm_input(g, in_name[i], &t);
        x[i] = bf16 && i < GL ? lm_scale(g, raw[i], 1.0f) : raw[i];                  /* which a device keeps as bf16 */
    }
    lm_value *y = lm_attn_sinks(g, x[Q], x[K], x[V], start, x[S], &ap), *lse = lm_output(y, 1);
    LM_NEED_OK(ctx, lm_graph_err(g));
    LM_NEED_OK(ctx, lm_autodiff(g, s->lse ? 2 : 1, (lm_value *[]){ y, lse }, (lm_value *[]){ x[GO], x[GL] }, 4, (lm_value *[]){ x[Q], x[K], x[V], x[S] }, grad));
    lm_graph_output(g, "y", lm_scale(g, y, 1.0f)); lm_graph_output(g, "lse", lse);
    for (int i = 0; i < 4; i++) lm_graph_output(g, out_name[DQ + i], i < 3 ? lm_scale(g, grad[i], 1.0f) : grad[i]);
    if (dev && bf16) LM_NEED_OK(ctx, lm_pass_storage(g, dev));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .dev = dev }));
    float *in[INPUTS] = { 0 };
    for (int i = 0; i < INPUTS; i++) if (raw[i]) { in[i] = lm_plan_input(p, in_name[i], NULL); fill(in[i], (i == S ? 1 : s->n) * in_cols(s, i), 1.7f, 31 + (uint32_t)i); }
    for (int h = 0; h < s->heads; h++) in[S][h] = s->low + (s->high - s->low) * (float)h / (float)lm_max64(1, s->heads - 1);
    int32_t *st = lm_plan_input(p, "start", NULL);
    for (int64_t i = 0; i < s->n; i++) st[i] = (int32_t)(i / s->doc * s->doc);
    LM_CHECK_OK(ctx, lm_plan_run(p));
    double *want[OUTPUTS]; float *first[OUTPUTS];
    for (int o = 0; o < OUTPUTS; o++) want[o] = malloc((size_t)out_size(s, o) * 8);
    truth(s, in, st, want);
    for (int o = 0; o < OUTPUTS; o++) {
        const float *got = lm_plan_output(p, out_name[o], NULL);
        const int64_t n = out_size(s, o);
        double off = 0, all = 0;
        for (int64_t i = 0; i < n; i++) { const double e = (double)got[i] - want[o][i]; off += e * e; all += want[o][i] * want[o][i]; }
        const double e = sqrt(off / all), most = !dev ? 3e-6 : bf16 ? 1.2e-2 : 1e-5;   /* bf16 on a device: y, do and results are rounded, and P and dS inside */
        LM_CHECK(e <= most);
        if (!(e <= most) || getenv("LM_SAY")) printf("%s, %d:%d heads of %d, %ld rows, window %ld, %s: off by %.3g\n", out_name[o], s->heads, s->kv, s->d, (long)s->n, (long)s->window, bf16 ? "bf16" : "f32", e);
        first[o] = malloc((size_t)n * 4);
        memcpy(first[o], got, (size_t)n * 4);
    }
    LM_CHECK_OK(ctx, lm_plan_run(p));
    for (int o = 0; o < OUTPUTS; o++) {
        LM_CHECK(!memcmp(first[o], lm_plan_output(p, out_name[o], NULL), (size_t)out_size(s, o) * 4));
        free(want[o]); free(first[o]);
    }
    LM_CHECK(serves(p, "attn_sinks_grad") == 1 && serves(p, "attn_sinks") == 2);
    if (dev && bf16 && s->d >= 64 && dev->features & LM_CUDA_WGMMA) LM_CHECK(serves(p, "attn_sinks.hopper") == 1 && serves(p, "attn_grad.hopper") == 1);
    lm_plan_free(p); lm_graph_free(g);
}
static const shape shapes[] = {
    { 4, 2, 16, 150, 0, 150, -2, 2, false },   { 6, 1, 24, 131, 0, 40, -1, 3, true },     { 4, 4, 64, 200, 33, 90, 0, 0, false },
    { 8, 2, 64, 300, 0, 300, -4, 6, true },    { 4, 1, 128, 260, 100, 129, -3, 3, true }, { 2, 1, 256, 130, 0, 130, -1, 1, false },
    { 3, 3, 6, 50, 5, 1, -1, 1, true },        { 2, 2, 64, 140, 0, 140, -60, 60, false }, { 64, 8, 64, 133, 128, 133, -1, 2, true },
};
static void all_on(lm_dev *dev, lm_ctx *ctx) { for (int i = 0; i < LM_COUNT(shapes); i++) for (int b = 0; b < 2; b++) one(ctx, dev, &shapes[i], b); }
static void test_one_more_key(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    all_on(NULL, ctx);
    lm_ctx_free(ctx);
}
static void test_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    lm_ctx *ctx; lm_dev *dev;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    all_on(dev, ctx);
    lm_dev_close(dev); lm_ctx_free(ctx);
}
/* The first rows of a sequence over pages, `each` at a time, beside what they are as one document. */
static void paged(lm_ctx *ctx, lm_dev *dev, const shape *s, bool bf16, int64_t each) {
    enum { PAGES = 6 };
    const lm_attn_p ap = { .n_head = s->heads, .n_kv = s->kv, .d_head = s->d, .window = s->window, .scale = 1 / sqrtf((float)s->d), .mm = bf16 ? LM_BF16 : LM_F32 };
    const int64_t wq = in_cols(s, Q), wk = in_cols(s, K), rows = s->n / each * each;
    lm_store *store; lm_plan *p[2]; float *in[2][4];
    LM_NEED_OK(ctx, lm_store_new(&store, ctx));
    for (int i = 0; i < 2; i++) {
        const int64_t n = i ? each : rows;
        const lm_type tq = LM_TYPE(LM_F32, n, wq), tk = LM_TYPE(LM_F32, n, wk), ti = LM_TYPE(LM_I32, n), tt = LM_TYPE(LM_I32, 1, PAGES), th = LM_TYPE(LM_F32, s->heads);
        lm_graph *g;
        LM_NEED_OK(ctx, lm_graph_new(&g, ctx, store));
        lm_value *x[3];
        for (int k = 0; k < 3; k++) { x[k] = lm_input(g, in_name[k], k ? &tk : &tq); if (bf16) x[k] = lm_scale(g, x[k], 1.0f); }
        lm_graph_output(g, "y", lm_scale(g, lm_attn_sinks(g, x[0], x[1], x[2], lm_input(g, "start", &ti), lm_input(g, "s", &th), &ap), 1.0f));
        lm_paged pg = { .kv_dtype = bf16 ? LM_BF16 : LM_F32, .n_pages = PAGES, .table = lm_input(g, "table", &tt), .seq = lm_input(g, "seq", &ti), .pos = lm_input(g, "pos", &ti), .slot = lm_input(g, "slot", &ti) };
        int layers = 0;
        if (i) { LM_NEED_OK(ctx, lm_pass_session(g, &pg, &layers)); LM_CHECK(layers == 1); }
        if (dev && bf16) LM_NEED_OK(ctx, lm_pass_storage(g, dev));
        LM_NEED_OK(ctx, lm_plan_new(&p[i], ctx, g, &(lm_plan_opts){ .store = store, .create_states = true, .state_tag = LM_MEM_KV, .dev = dev }));
        for (int k = 0; k < 3; k++) in[i][k] = lm_plan_input(p[i], in_name[k], NULL);
        in[i][3] = lm_plan_input(p[i], "s", NULL);
        for (int h = 0; h < s->heads; h++) in[i][3][h] = s->low + (s->high - s->low) * (float)h / (float)lm_max64(1, s->heads - 1);
        lm_graph_free(g);
    }
    LM_CHECK(serves(p[0], "attn_sinks") == 1 && serves(p[1], "attn_sinks") == 0 && serves(p[1], "attn_paged") == 1);
    int32_t *start = lm_plan_input(p[0], "start", NULL), *table = lm_plan_input(p[1], "table", NULL), *seq = lm_plan_input(p[1], "seq", NULL), *pos = lm_plan_input(p[1], "pos", NULL),
            *slot = lm_plan_input(p[1], "slot", NULL);
    for (int k = 0; k < 3; k++) fill(in[0][k], rows * (k ? wk : wq), 1.7f, 61 + (uint32_t)k);
    for (int64_t i = 0; i < rows; i++) start[i] = 0;
    for (int i = 0; i < PAGES; i++) table[i] = (i * 5 + 2) % PAGES;
    LM_CHECK_OK(ctx, lm_plan_run(p[0]));
    const float *want = lm_plan_output(p[0], "y", NULL), *got = lm_plan_output(p[1], "y", NULL);
    double off = 0, all = 0; int64_t other = 0;
    for (int64_t at = 0; at < rows; at += each) {
        for (int k = 0; k < 3; k++) { const int64_t w = k ? wk : wq; memcpy(in[1][k], in[0][k] + at * w, (size_t)(each * w) * 4); }
        for (int64_t i = 0; i < each; i++) { seq[i] = 0; pos[i] = (int32_t)(at + i); slot[i] = table[(at + i) / LM_KV_PAGE] * LM_KV_PAGE + (int32_t)((at + i) % LM_KV_PAGE); }
        LM_CHECK_OK(ctx, lm_plan_run(p[1]));
        for (int64_t i = 0; i < each * wq; i++) { const double e = (double)got[i] - (double)want[at * wq + i]; other += got[i] != want[at * wq + i]; off += e * e; all += (double)want[at * wq + i] * (double)want[at * wq + i]; }
    }
    const double e = sqrt(off / all), most = bf16 ? 8e-3 : 2e-6;
    LM_CHECK(dev ? e <= most : !other);
    if (getenv("LM_SAY") || !(dev ? e <= most : !other)) printf("pages, %d:%d heads of %d, window %ld, %ld rows at a time, %s: %ld numbers have other bits, off by %.3g\n", s->heads, s->kv, s->d, (long)s->window, (long)each, bf16 ? "bf16" : "f32", (long)other, e);
    lm_plan_free(p[0]); lm_plan_free(p[1]); lm_store_free(store);
}
static void all_paged(lm_dev *dev, lm_ctx *ctx) {
    for (int i = 0; i < LM_COUNT(shapes); i++) for (int b = 0; b < 2; b++) { paged(ctx, dev, &shapes[i], b, 1 + i * 7 % 10); paged(ctx, dev, &shapes[i], b, shapes[i].n / 2); }
}
static void test_pages(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    all_paged(NULL, ctx);
    lm_ctx_free(ctx);
}
static void test_pages_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    lm_ctx *ctx; lm_dev *dev;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    all_paged(dev, ctx);
    lm_dev_close(dev); lm_ctx_free(ctx);
}
/* lse has no paged form: a graph that reads it says so; wrong shapes are told. */
static void test_refused(void) {
    lm_ctx *ctx;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    const lm_attn_p ap = { .n_head = 2, .n_kv = 1, .d_head = 16, .scale = 0.25f, .mm = LM_F32 };
    const lm_type tq = LM_TYPE(LM_F32, 8, 32), tk = LM_TYPE(LM_F32, 8, 16), ti = LM_TYPE(LM_I32, 8), tt = LM_TYPE(LM_I32, 1, 4), ts = LM_TYPE(LM_F32, 5);
    for (int wrong = 0; wrong < 2; wrong++) {
        lm_graph *g;
        LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL));
        lm_value *q = lm_input(g, "q", &tq), *k = lm_input(g, "k", &tk), *v = lm_input(g, "v", &tk), *start = lm_input(g, "start", &ti);
        if (wrong) {
            LM_CHECK(!lm_attn_sinks(g, q, k, v, start, lm_input(g, "s", &ts), &ap));
            LM_CHECK_ERR(ctx, lm_graph_err(g), LM_E_SHAPE, "attn_sinks: input 4: got F32(5), wanted dimensions (2)");
            lm_graph_free(g);
            continue;
        }
        lm_value *o = lm_attn(g, q, k, v, start, &ap);
        lm_graph_output(g, "y", o); lm_graph_output(g, "lse", lm_scale(g, lm_output(o, 1), 2.0f));
        lm_paged pg = { .kv_dtype = LM_F32, .n_pages = 4, .table = lm_input(g, "table", &tt), .seq = lm_input(g, "seq", &ti), .pos = lm_input(g, "pos", &ti), .slot = lm_input(g, "slot", &ti) };
        LM_CHECK_ERR(ctx, lm_pass_session(g, &pg, NULL), LM_E_UNSUPPORTED, "attn: output 1 is read");
        lm_graph_free(g);
    }
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_one_more_key), LM_T1(test_on_device), LM_T1(test_pages), LM_T1(test_pages_on_device), LM_T1(test_refused))
