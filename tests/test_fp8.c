/* test_fp8.c — training with linear layers in e4m3: beside bf16, the same bits on any number of threads, what is counted, what is refused; and the
 * plan of a device, with its united rows (swiglu_fp8 and the like), on the fake one. That one has the processor's rows: the program is linked so that
 * whoever asks for a device's gets those. The rows themselves are the driver's (test_ops). */
#include "test.h"
#include "fake_dev.h"
#include "graph/plan.h"
#include "op/rmsnorm_back/rmsnorm_back.h"
#include "op/swiglu_grad_fp8/swiglu_grad_fp8.h"
#include "train/train.h"

const lm_kernel *__real_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features);
const lm_kernel *__wrap_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features);
const lm_kernel *__wrap_lm_kernel_choose(const lm_op *op, const lm_call *c, lm_dev_kind dev, uint64_t features) {
    return __real_lm_kernel_choose(op, c, LM_DEV_CPU, dev == LM_DEV_CUDA ? LM_CPU_PORTABLE : features);
}
static bool on_device;
static int n_kv = 2;                             /* of 4 heads; 2: a key head's rows of k and v are half a tile each */
static const char *family = "llama";
static int united[6];                            /* steps of swiglu_fp8; of swiglu_grad_fp8 side by side; products in e4m3; rope_fp8; attn_back; norms made again */

enum { B = 2, T = 70, V = 97 };                  /* 140 tokens: tiles of rows are not full */
enum { N_STEP = LM_T_WATCHED ? 3 : 12 };
static lm_cfg config(int64_t d, int64_t d_ff) {
    lm_cfg c = { .model = lm_model_by_name(family), .vocab = V, .d = d, .n_layer = 2, .n_head = 4, .n_kv = n_kv, .d_head = d / 4, .d_ff = d_ff,
        .max_pos = 256,
                 .eps = 1e-5, .init_std = 0.02, .tie = true, .bos = -1, .hf_type = family };
    c.rope.d_head = (int)(d / 4); c.rope.base = 10000; c.rope.max_pos = 256;
    return c;
}
static lm_trainer_opts options(lm_dtype mm, int recompute) {
    return (lm_trainer_opts){ .batch = B, .seq = T, .mm = mm, .recompute = recompute, .seed = 7,
                              .optim = { .name = "adamw", .lr = 1e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0 } };
}
static void fill(lm_batch *b, int64_t step) {
    b->n_target = b->n;
    for (int64_t i = 0; i < b->n; i++) {
        const int64_t t = i % T;
        b->tokens[i] = (int32_t)((t * t / 3 + i / T + step) % V); b->target[i] = (int32_t)(((t + 1) * (t + 1) / 3 + i / T + step) % V);
        b->pos[i] = (int32_t)t; b->start[i] = (int32_t)(i / T * T);
    }
}
enum { MOST = 64 };
typedef struct { char name[64]; float *g; int64_t n; } gradient;      /* of the first step */
static gradient grads[2][MOST];
static int n_grads[2], halves;                   /* halves: gradients that were stored in bf16 */
static void keep(lm_store *store, int which) {
    n_grads[which] = halves = 0;
    for (int i = 0; i < lm_store_count(store) && n_grads[which] < MOST; i++) {
        lm_tensor t; const char *name = lm_store_name(store, i, &t);
        if (strncmp(name, "grad.", 5)) continue;
        gradient *g = &grads[which][n_grads[which]++];
        snprintf(g->name, sizeof g->name, "%s", name);
        free(g->g);
        g->n = lm_numel(&t); g->g = malloc((size_t)g->n * 4);
        uint16_t *half = t.dtype == LM_BF16 ? malloc((size_t)g->n * 2) : NULL;
        if (g->g && lm_store_read(store, i, 0, half ? (void *)half : g->g, (size_t)g->n * (half ? 2 : 4))) lm_t_fail++;
        if (g->g && half) { lm_convert(g->g, LM_F32, half, LM_BF16, g->n); halves++; }
        free(half);
    }
}
typedef struct { double loss[12]; lm_hash128_t hash; int64_t counts[LM_FP8_COUNTS * LM_FP8_GROUPS], again[LM_FP8_COUNTS * LM_FP8_GROUPS]; } outcome;
static bool fp8_first;                          /* gradients of fp8 are the ones to compare with */
static void count_united(const lm_plan *p) {
    lm_plan_stats st;
    lm_plan_stats_of(p, &st);
    memset(united, 0, sizeof united);
    for (int i = 0; i < st.n_steps; i++) {
        const lm_call *c = lm_plan_call(p, i);
        united[0] += !strcmp(c->op->name, "swiglu_fp8"); united[2] += !strcmp(c->op->name, "matmul_fp8");
        united[3] += !strcmp(c->op->name, "rope_fp8"); united[4] += !strcmp(c->op->name, "attn_back");
        united[5] += !strcmp(c->op->name, "rmsnorm_back") && ((const lm_rmsnorm_back_p *)c->p)->outs & LM_RMSNORM_BACK_Y;
        united[1] += !strcmp(c->op->name, "swiglu_grad_fp8") && ((const lm_swiglu_grad_fp8_p *)c->p)->beside;
    }
}
static lm_err train(lm_dtype mm, int recompute, int threads, int n, int64_t d, outcome *o, char *why, size_t room) {
    lm_ctx *ctx; lm_store *store = NULL; lm_trainer *t = NULL; lm_batch b = { 0 };
    const lm_cfg c = config(d, 2 * d);
    lm_trainer_opts to = options(mm, recompute);
    LM_TRY(lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = threads }));
    if (on_device) to.dev = fake_open(ctx, 3);
    lm_err e = lm_store_new(&store, ctx);
    if (!e) e = lm_model_init(ctx, &c, store, 5);
    if (!e) e = lm_trainer_new(&t, ctx, &c, store, &to);
    if (!e) e = lm_batch_alloc(ctx, &b, B, T);
    for (int s = 0; s < n && !e; s++) {
        double norm;
        o->loss[s] = 0;
        fill(&b, s % 3);
        e = lm_trainer_accumulate(t, &b, s, 0, &o->loss[s]);
        if (!s && !e) keep(store, on_device || (mm == LM_F8_E4M3 && !fp8_first));
        if (!e) e = lm_trainer_update(t, s + 1, 1.0, (double)b.n, &norm);
        o->loss[s] /= (double)b.n;
    }
    if (!e) count_united(lm_trainer_accumulate_plan(t));
    if (!e) { o->hash = lm_trainer_hash(t); e = lm_trainer_fp8_counts(t, o->counts); }
    if (!e) e = lm_trainer_fp8_counts(t, o->again);
    if (e && why) snprintf(why, room, "%s", lm_error(ctx));
    lm_batch_free(ctx, &b); lm_trainer_free(t); lm_store_free(store); if (to.dev) lm_dev_close(to.dev); lm_ctx_free(ctx);
    return e;
}
static void test_beside_bf16(void) {
    outcome h = { 0 }, f = { 0 };
    char why[512] = "";
    LM_CHECK(!train(LM_BF16, 1, 2, N_STEP, 128, &h, why, sizeof why));
    LM_CHECK(!train(LM_F8_E4M3, 1, 2, N_STEP, 128, &f, why, sizeof why));
    if (why[0]) printf("%s\n", why);
    for (int s = 0; s < N_STEP; s++)
        if (!(fabs(f.loss[s] - h.loss[s]) <= 0.01 * h.loss[s])) { lm_t_fail++; printf("step %d: fp8 %.6f, bf16 %.6f\n", s, f.loss[s], h.loss[s]); }
    LM_CHECK(h.loss[N_STEP - 1] < (LM_T_WATCHED ? 1 : 0.9) * h.loss[0] && f.hash.lo != h.hash.lo);
    for (int s = 0; getenv("LM_SHOW") && s < N_STEP; s++) printf("%d %.6f %.6f\n", s, h.loss[s], f.loss[s]);
    for (int g = 0; g < LM_FP8_GROUPS; g++) {
        const int64_t *c = f.counts + g * LM_FP8_COUNTS;
        LM_CHECK(c[LM_FP8_ELEMENTS] > 0 && c[LM_FP8_AMAX] > 0 && !c[LM_FP8_ODD] && c[LM_FP8_FLUSHED] < c[LM_FP8_ELEMENTS] / 50);
        LM_CHECK(!f.again[g * LM_FP8_COUNTS] && !h.counts[g * LM_FP8_COUNTS]);
    }
    /* a step's weights: o (128 × 128), q, gate, up, down of two layers; k and v of 64 columns stay in bf16 */
    LM_CHECK(f.counts[LM_FP8_WEIGHT * LM_FP8_COUNTS] == N_STEP * 2 * (2 * 128 * 128 + 3 * 128 * 256));
}
/* Rounding both operands to three bits behind the first is 4 % of a product; sums keep that, layers add theirs. A wrong operand or scale is 100 %. */
static void test_gradients(void) {
    outcome o = { 0 };
    LM_CHECK(!train(LM_BF16, 1, 2, 1, 128, &o, NULL, 0) && !train(LM_F8_E4M3, 1, 2, 1, 128, &o, NULL, 0));
    LM_CHECK(n_grads[0] > 15 && n_grads[0] == n_grads[1]);
    for (int i = 0; i < n_grads[0]; i++) {
        const gradient *a = &grads[0][i], *b = &grads[1][i];
        double d = 0, n = 0;
        LM_CHECK(!strcmp(a->name, b->name) && a->n == b->n);
        for (int64_t k = 0; k < a->n; k++) { d += (double)(a->g[k] - b->g[k]) * (double)(a->g[k] - b->g[k]); n += (double)a->g[k] * (double)a->g[k]; }
        if (getenv("LM_SHOW")) printf("%s %.4f\n", a->name, sqrt(d / n));
        if (!(d <= 0.15 * 0.15 * n)) { lm_t_fail++; printf("%s: %.3g of its norm from bf16's\n", a->name, sqrt(d / n)); }
    }
}
/* The device's plan computes what the processor's does: quantization apart, only where f32 sums are rounded to bf16 differs. There q, k, v are one
 * product and gate, up one, so 12 a layer where the processor has 21. */
static void test_device(void) {
    outcome a = { 0 }, b = { 0 };
    char why[512] = "";
    fp8_first = true; n_kv = 4;
    LM_CHECK(!train(LM_F8_E4M3, 1, 2, 3, 128, &a, why, sizeof why) && !united[0] && !united[1] && united[2] == 2 * 21);
    on_device = true;
    LM_CHECK(!train(LM_F8_E4M3, 1, 2, 3, 128, &b, why, sizeof why) && united[0] == 2 && united[1] == 2 && united[2] == 2 * 12 && united[3] == 2);
    LM_CHECK(!united[5]);                                                                    /* the forward keeps bytes of a norm, and its statistics */
    LM_CHECK(halves == 2 * (3 + 1 + 2 + 1 + 2));                                             /* each weight's and, of those that are one product, the whole's */
    on_device = fp8_first = false; n_kv = 2;
    if (why[0]) printf("%s\n", why);
    for (int s = 0; s < 3; s++) LM_CHECK_NEAR(a.loss[s], b.loss[s], s ? 5e-4 : 1e-4);      /* after an update numbers between two codes may differ */
    for (int g = 0; g < LM_FP8_GROUPS; g++) LM_CHECK(a.counts[g * LM_FP8_COUNTS] == b.counts[g * LM_FP8_COUNTS] &&
        !b.counts[g * LM_FP8_COUNTS + LM_FP8_ODD]);
    int met = 0;
    for (int i = 0; i < n_grads[0]; i++)
        for (int j = 0; j < n_grads[1]; j++) {
            const gradient *x = &grads[0][i], *y = &grads[1][j];
            if (strcmp(x->name, y->name)) continue;
            double d = 0, n = 0;
            for (int64_t k = 0; k < x->n; k++) { d += (double)(x->g[k] - y->g[k]) * (double)(x->g[k] - y->g[k]);
                n += (double)x->g[k] * (double)x->g[k]; }
            LM_CHECK(d <= 1e-4 * n);
            met++;
        }
    LM_CHECK(met > 15);
}
/* attn_back, which is looked for when it is known what is bf16, is what attn_grad, concat and sum_rows are: losses and every gradient. */
static void test_attn_back(void) {
    outcome a = { 0 }, b = { 0 };
    char why[512] = "";
    int met = 0;
    family = "gpt2"; n_kv = 4;
    LM_CHECK(!train(LM_BF16, 1, 2, 3, 128, &a, why, sizeof why) && !united[4]);
    on_device = true;
    LM_CHECK(!train(LM_BF16, 1, 2, 3, 128, &b, why, sizeof why) && united[4] == 2);
    on_device = false; family = "llama"; n_kv = 2;
    if (why[0]) printf("%s\n", why);
    for (int s = 0; s < 3; s++) LM_CHECK_NEAR(a.loss[s], b.loss[s], s ? 5e-4 : 1e-4);
    for (int x = 0; x < n_grads[0]; x++) for (int y = 0; y < n_grads[1]; y++) {
        const gradient *g = &grads[0][x], *h = &grads[1][y];
        if (strcmp(g->name, h->name)) continue;
        double d = 0, n = 0;
        for (int64_t k = 0; k < g->n; k++) { const double e = (double)g->g[k] - (double)h->g[k]; d += e * e; n += (double)g->g[k] * (double)g->g[k]; }
        if (!(d <= 1e-4 * n)) { lm_t_fail++; printf("%s: %.3g of its norm away\n", g->name, sqrt(d / n)); }
        met++;
    }
    LM_CHECK(met > 15);
}
/* k and v of 64 rows each are no products in e4m3 by themselves, but with q they are rows of one. */
static void test_halves_of_tiles(void) {
    outcome a = { 0 }, b = { 0 };
    LM_CHECK(!train(LM_F8_E4M3, 1, 2, 3, 128, &a, NULL, 0) && united[2] == 2 * 15);
    on_device = true;
    LM_CHECK(!train(LM_F8_E4M3, 1, 2, 3, 128, &b, NULL, 0) && united[2] == 2 * 12 && !united[3]);
    on_device = false;
    for (int s = 0; s < 3; s++) LM_CHECK_NEAR(a.loss[s], b.loss[s], 3e-3);
    LM_CHECK(b.counts[LM_FP8_WEIGHT * LM_FP8_COUNTS] - a.counts[LM_FP8_WEIGHT * LM_FP8_COUNTS] == 3 * 2 * 2 * 64 * 128);
}
static void test_same_bits(void) {
    outcome a = { 0 }, b = { 0 }, c = { 0 };
    LM_CHECK(!train(LM_F8_E4M3, 1, 1, 3, 128, &a, NULL, 0) && !train(LM_F8_E4M3, 1, 3, 3, 128, &b, NULL, 0) && !train(LM_F8_E4M3, 2, 2, 3, 128, &c,
        NULL, 0));
    LM_CHECK(a.hash.lo == b.hash.lo && a.hash.hi == b.hash.hi);                      /* threads */
    LM_CHECK(a.hash.lo == c.hash.lo && a.hash.hi == c.hash.hi);                      /* a block computed again */
    LM_CHECK(!memcmp(a.counts, b.counts, sizeof a.counts));
}
static void test_refused(void) {
    outcome o = { 0 };
    char why[512] = "";
    LM_CHECK(train(LM_F8_E4M3, 1, 1, 1, 48, &o, why, sizeof why) == LM_E_UNSUPPORTED && strstr(why, "multiples of 128"));
}
LM_TEST_MAIN(LM_T1(test_beside_bf16), LM_T1(test_gradients), LM_T1(test_device), LM_T1(test_attn_back), LM_T1(test_halves_of_tiles),
             LM_T1(test_same_bits), LM_T1(test_refused))
