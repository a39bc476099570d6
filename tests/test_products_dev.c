/* Products of many rows that a kernel of our own does on a device (op/matmul/tiles_hopper.cuh), where LM_DEVICE names one: some rows of the
 * result against doubles, and again to the bit. Other devices than Hopper run the same graphs by their own rows. */
#include "device/device.h"
#include "graph/plan.h"
#include "op/cast/cast.h"
#include "op/matmul/matmul.h"
#include "op/matmul_squares/matmul_squares.h"
#include "op/rope/rope.h"
#include "op/rope_table/rope_table.h"
#include "op/scale/scale.h"
#include "op/silu/silu.h"
#include "op/split/split.h"
#include "test.h"

enum { LOOK = 61, SIDES = 64, KIN = 136 };                   /* rows that are compared; columns of v; K of q, k, v */
typedef struct { double off, all; } apart;
static double half(double x) { return (double)lm_bf16_to_f32(lm_f32_to_bf16((float)x)); }
static void add(apart *a, double got, double want) { a->off += (got - want) * (got - want); a->all += want * want; }
static void judge(const apart *a, const char *what, int d) {
    const double e = sqrt(a->off / a->all);
    LM_CHECK(e <= 4e-3);                                     /* bf16 twice, once where nothing turns */
    if (!(e <= 4e-3)) printf("%s, %d: off by %.3g\n", what, d, e);
}
static void again(lm_ctx *ctx, lm_plan *p, const float *y, int64_t n) {
    float *first = malloc((size_t)n * 4);
    memcpy(first, y, (size_t)n * 4);
    for (int i = 0; i < 3; i++) { LM_CHECK_OK(ctx, lm_plan_run(p)); LM_CHECK(!memcmp(first, y, (size_t)n * 4)); }
    free(first);
}
static void fill(float *x, int64_t n, int64_t by) { for (int64_t i = 0; i < n; i++) x[i] = (float)((i * by + 7) % 4093) / 1024.0f - 2.0f; }
static double silu(float x) { return half((double)x / (1 + exp(-(double)x))); }

/* q, k, v as one product: q and k are turned where they are made, v is not */
static void turned(lm_ctx *ctx, lm_dev *dev, int d) {
    const int64_t turn = 512 + d, cols = turn + SIDES, n = 128 * (4 * dev->units / 3 + 1) - 37;        /* four rounds of tiles */
    lm_graph *g; lm_store *store; lm_plan *p; lm_tensor w;
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL)); LM_NEED_OK(ctx, lm_store_new(&store, ctx));
    const lm_type tw = LM_TYPE(LM_BF16, cols, KIN), tx = LM_TYPE(LM_F32, n, KIN), tp = LM_TYPE(LM_I32, n);
    LM_NEED_OK(ctx, lm_store_add(store, "w", &tw, LM_PLAIN, LM_MEM_WEIGHTS, &w));
    uint16_t *wh = w.data;
    for (int64_t i = 0; i < cols * KIN; i++) wh[i] = lm_f32_to_bf16((float)((i * 7919 + 13) % 1009) / 1009.0f - 0.5f);
    const lm_rope_table_p rt = { .d_head = d, .base = 10000 };
    lm_value *table = lm_rope_table(g, lm_input(g, "pos", &tp), &rt), *x = lm_silu(g, lm_input(g, "x", &tx));
    lm_value *m = lm_matmul_mm(g, x, lm_state(g, "w", &tw), NULL, false, true, LM_BF16), *part = lm_split(g, m, 2, (int64_t[]){ turn, SIDES });
    lm_value *r = lm_rope(g, part, table, &(lm_rope_p){ .d_head = d, .rotary = d });
    lm_graph_output(g, "turned", lm_scale(g, r, 1.0f)); lm_graph_output(g, "v", lm_scale(g, lm_output(part, 1), 1.0f));
    LM_NEED_OK(ctx, lm_pass_storage(g, dev));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = store, .dev = dev }));
    float *in = lm_plan_input(p, "x", NULL), *qk = lm_plan_output(p, "turned", NULL), *v = lm_plan_output(p, "v", NULL);
    int32_t *pos = lm_plan_input(p, "pos", NULL);
    for (int64_t i = 0; i < n; i++) pos[i] = (int32_t)(i * 5 % 4096);
    fill(in, n * KIN, 104729);
    LM_CHECK_OK(ctx, lm_plan_run(p));
    lm_plan_stats st; int joined = 0;
    lm_plan_stats_of(p, &st);
    for (int i = 0; i < st.n_steps; i++) {
        const char *op, *kernel; double flops, bytes;
        lm_plan_step(p, i, &op, &kernel, &flops, &bytes);
        joined += !strcmp(op, "q, k and v, turned");
    }
    LM_CHECK(joined == 2 || !(dev->features & LM_CUDA_WGMMA));
    float inv[LM_ROPE_MAX_D / 2], attn;
    lm_rope_inv_freq(&rt, 0, inv, &attn);
    apart a = { 0 };
    double y[1024], h[KIN];
    for (int64_t k = 0; k < LOOK; k++) {
        const int64_t row = k * (n - 1) / (LOOK - 1);
        for (int i = 0; i < KIN; i++) h[i] = silu(in[row * KIN + i]);
        for (int64_t j = 0; j < cols; j++) { y[j] = 0; for (int i = 0; i < KIN; i++) y[j] += h[i] * (double)lm_bf16_to_f32(wh[j * KIN + i]); }
        for (int64_t j = 0; j < turn; j++) {
            const int64_t in_head = j % d; const bool second = in_head >= d / 2;
            const double at = (double)((float)pos[row] * inv[in_head % (d / 2)]);
            add(&a, (double)qk[row * turn + j], second ? y[j] * cos(at) + y[j - d / 2] * sin(at) : y[j] * cos(at) - y[j + d / 2] * sin(at));
        }
        for (int64_t j = 0; j < SIDES; j++) add(&a, (double)v[row * SIDES + j], y[turn + j]);
    }
    judge(&a, "turned", d);
    again(ctx, p, qk, n * turn);
    lm_plan_free(p); lm_graph_free(g); lm_store_free(store);
}
/* xᵀ y over many rows, and its squares: two rounds of tiles and a third of one, which is shared along K */
static void gradient(lm_ctx *ctx, lm_dev *dev, bool squares) {
    const int64_t K = 64 * 48 + 24, M = 18 * 128 - 40, N = 17 * 256 - 72;
    lm_graph *g; lm_store *store; lm_plan *p;
    LM_NEED_OK(ctx, lm_graph_new(&g, ctx, NULL)); LM_NEED_OK(ctx, lm_store_new(&store, ctx));
    const lm_type tx = LM_TYPE(LM_F32, K, M), ty = LM_TYPE(LM_F32, K, N);
    lm_value *x = lm_silu(g, lm_input(g, "x", &tx)), *y = lm_silu(g, lm_input(g, "y", &ty));
    const lm_matmul_p mp = { .ta = true, .mm = LM_BF16 };
    const int64_t n = lm_squares_of(M, N);
    const lm_type td = LM_TYPE(LM_BF16, M, N), ts = LM_TYPE(LM_F32, n);
    lm_value *d = squares ? lm_matmul_squares(g, x, y, lm_state(g, "d", &td), lm_state(g, "s", &ts), &mp)
                          : lm_emit(g, &lm_op_matmul, &mp, 2, (lm_value *[]){ x, y });
    lm_graph_output(g, "dw", squares ? lm_cast(g, d, LM_F32) : lm_scale(g, d, 1.0f));          /* f32 either way */
    if (squares) lm_graph_output(g, "sums", lm_scale(g, lm_output(d, 1), 1.0f));
    LM_NEED_OK(ctx, lm_pass_storage(g, dev));
    LM_NEED_OK(ctx, lm_plan_new(&p, ctx, g, &(lm_plan_opts){ .store = store, .create_states = true, .dev = dev }));
    float *a = lm_plan_input(p, "x", NULL), *b = lm_plan_input(p, "y", NULL), *dw = lm_plan_output(p, "dw", NULL);
    fill(a, K * M, 104729); fill(b, K * N, 7907);
    LM_CHECK_OK(ctx, lm_plan_run(p));
    double *want = calloc((size_t)(LOOK * N), sizeof *want), *h = calloc((size_t)N, sizeof *h), u[LOOK];
    for (int64_t k = 0; k < K; k++) {
        for (int64_t i = 0; i < LOOK; i++) u[i] = silu(a[k * M + i * (M - 1) / (LOOK - 1)]);
        for (int64_t j = 0; j < N; j++) h[j] = silu(b[k * N + j]);
        for (int64_t i = 0; i < LOOK; i++) for (int64_t j = 0; j < N; j++) want[i * N + j] += u[i] * h[j];
    }
    apart e = { 0 };
    for (int64_t i = 0; i < LOOK; i++) for (int64_t j = 0; j < N; j++) add(&e, (double)dw[i * (M - 1) / (LOOK - 1) * N + j], want[i * N + j]);
    judge(&e, "gradient of a weight", squares);
    const float *sums = lm_plan_output(p, "sums", NULL);
    for (int64_t q = 0; q < n && squares; q++) {
        const int64_t across = lm_ceil_div(N, LM_SQUARES_COLS), r = q / across * LM_SQUARES_ROWS, c = q % across * LM_SQUARES_COLS;
        double s = 0;
        for (int64_t i = r; i < lm_min64(M, r + LM_SQUARES_ROWS); i++)
            for (int64_t j = c; j < lm_min64(N, c + LM_SQUARES_COLS); j++) s += (double)dw[i * N + j] * (double)dw[i * N + j];
        if (fabs((double)sums[q] - s) > 1e-5 * s) { LM_CHECK_NEAR(sums[q], s, 1e-5 * s); break; }
    }
    free(want); free(h);
    again(ctx, p, dw, M * N);
    lm_plan_free(p); lm_graph_free(g); lm_store_free(store);
}
static void test_on_device(void) {
    if (!getenv("LM_DEVICE")) LM_SKIP("LM_DEVICE names no device");
    lm_ctx *ctx; lm_dev *dev;
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 }));
    LM_NEED_OK(ctx, lm_dev_open(&dev, ctx, getenv("LM_DEVICE")));
    turned(ctx, dev, 64); turned(ctx, dev, 128);
    gradient(ctx, dev, false); gradient(ctx, dev, true);
    lm_dev_close(dev); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_on_device))
