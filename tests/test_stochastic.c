/* test_stochastic.c — weights kept in bf16 alone: rounding by chance never leaves the two neighbours and is right on average, exactly; an update of one
 * kernel has the bits of all others; a trainer has the same bits on any number of threads and after a restart, half the bytes, and learns, planned for a device too. */
#include "base/file.h"
#include "op/adamw_stochastic/adamw_stochastic.h"
#include <math.h>
#include "fake_dev.h"
#include <unistd.h>
#include "op_run.h"
#include "train/train.h"

static uint32_t bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static void test_rounding(void) {
    const float x[] = { 1.0f, -1.0f, 1.00390625f, 3.14159265f, -2.7182818f, 1e-3f, -65504.0f, 1e-40f, -3e-42f, 0.0f, -0.0f, 3.3e38f };
    for (int i = 0; i < LM_COUNT(x); i++) {
        const uint32_t u = bits_of(x[i]);
        const uint16_t lower = (uint16_t)(u >> 16), upper = (uint16_t)(lower + 1);       /* towards zero, and away from it */
        int64_t up = 0, other = 0;
        for (uint32_t r = 0; r < 65536; r++) {                                            /* every draw there is */
            const uint16_t y = lm_bf16_by_chance(u, r);
            up += y == upper;
            other += y != lower && y != upper;
        }
        LM_CHECK((int64_t)(other) == (int64_t)(0));
        LM_CHECK((int64_t)(up) == (int64_t)((int64_t)(u & 0xffff)));                                             /* the distance from the lower one, in 65536ths */
    }
    for (uint32_t r = 0; r < 65536; r += 13) {
        LM_CHECK((int64_t)(lm_bf16_by_chance(0x7f800000u, r)) == (int64_t)(0x7f80));
        LM_CHECK((int64_t)(lm_bf16_by_chance(0xff800000u, r)) == (int64_t)(0xff80));
        const uint16_t nan = lm_bf16_by_chance(0x7fffffffu, r), low = lm_bf16_by_chance(0x7f800001u, r);
        LM_CHECK((nan & 0x7fff) > 0x7f80 && (low & 0x7fff) > 0x7f80);
    }
}
/* Many steps' draws of one update: their mean is the exact result within the error of so many draws, and kernels agree to the bit. */
static void test_mean(void) {
    enum { R = 17, C = 61, N = R * C, DRAWS = LM_T_WATCHED ? 256 : 4096 };
    lm_ctx *ctx;
    LM_CHECK((lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 2 })) == LM_OK);
    float *p0 = t_op_floats(N), *g = t_op_floats(N), *m = malloc(N * 4), *v = malloc(N * 4), *exact = malloc(N * 4);
    uint16_t *p = malloc(N * 2), *start = malloc(N * 2), *first = malloc(N * 2);
    double *mean = calloc(N, sizeof *mean);
    for (int i = 0; i < N; i++) start[i] = lm_f32_to_bf16(p0[i]);
    float hyper[LM_HYPER_N] = { 1e-4f, 0.9f, 0.95f, 1e-8f, 0.1f, 0.1f, 0.05f, 0.05f }, one = 1;
    int64_t rng[2] = { 5, 0 };
    const lm_adamw_stochastic_p par = { .stream = 77, .clear = false };
    int n_kernels = 0;
    for (int64_t step = 0; step < DRAWS; step++) {
        rng[1] = step;
        n_kernels = 0;
        T_OP_KERNELS(&lm_op_adamw_stochastic, k) {
            if (step && n_kernels) break;                                                 /* all of them once, then the best one */
            memcpy(p, start, N * 2); memset(m, 0, N * 4); memset(v, 0, N * 4);
            lm_call c = { .op = &lm_op_adamw_stochastic, .p = &par, .n_in = 7, .n_out = 4 };
            c.in[0] = t_op_2d(p, LM_BF16, R, C); c.in[1] = t_op_2d(g, LM_F32, R, C); c.in[2] = t_op_2d(m, LM_F32, R, C); c.in[3] = t_op_2d(v, LM_F32, R, C);
            c.in[4] = t_op_1d(hyper, LM_F32, LM_HYPER_N); c.in[5] = t_op_1d(&one, LM_F32, 1); c.in[6] = t_op_1d(rng, LM_I64, 2);
            for (int i = 0; i < 4; i++) c.out[i] = c.in[i];
            LM_CHECK((t_op_run(k, &c, ctx)) == LM_OK);
            if (!step && !n_kernels) memcpy(first, p, N * 2);
            if (!step) LM_CHECK(!memcmp(first, p, N * 2));
            n_kernels++;
        }
        for (int i = 0; i < N; i++) mean[i] += (double)lm_bf16_to_f32(p[i]) / DRAWS;
    }
    LM_CHECK(n_kernels >= 1);
    double worst = 0, bias = 0, moved = 0;
    for (int i = 0; i < N; i++) {                                                          /* the first step of Adam is lr towards -sign(g), nearly */
        const float w = lm_bf16_to_f32(start[i]), m1 = g[i] * (1 - 0.9f), v1 = g[i] * g[i] * 0.05f;
        exact[i] = w * (float)(1 - 1e-4 * 0.1) - m1 / (sqrtf(v1) / sqrtf(0.05f) + 1e-8f) * (1e-4f / 0.1f);
        const double gap = (double)fabsf(lm_bf16_to_f32((uint16_t)((bits_of(exact[i]) >> 16) + 1)) - lm_bf16_to_f32((uint16_t)(bits_of(exact[i]) >> 16))),
                     error = (mean[i] - (double)exact[i]) / (gap * 0.5 / sqrt(DRAWS));      /* in standard deviations at most */
        worst = fmax(worst, fabs(error)); bias += error / N; moved += fabs(mean[i] - (double)w) / 1e-4 / N;
    }
    printf(" %d draws of %d numbers: worst mean %.2f deviations off, bias %.4f; %.3f of an update that is lost to rounding to the nearest arrives\n", DRAWS, N, worst, bias, moved);
    LM_CHECK(worst < 5 && fabs(bias) < 4 / sqrt(N));
    LM_CHECK(LM_T_WATCHED || (moved > 0.9 && moved < 1.1));                                /* few draws have as much noise as that */
    free(p0); free(g); free(m); free(v); free(exact); free(p); free(start); free(first); free(mean);
    lm_ctx_free(ctx);
}
enum { B = 2, T = 48, V = 97 };
static lm_cfg config(void) {
    lm_cfg c = { .model = lm_model_by_name("llama"), .vocab = V, .d = 64, .n_layer = 2, .n_head = 4, .n_kv = 2, .d_head = 16, .d_ff = 128, .max_pos = 64,
                 .eps = 1e-5, .init_std = 0.05, .tie = true, .bos = -1, .hf_type = "llama" };
    c.rope.d_head = 16; c.rope.base = 10000; c.rope.max_pos = 64;
    return c;
}
typedef struct { lm_ctx *ctx; lm_store *store; lm_trainer *t; lm_batch b; lm_dev *dev; } rig;
static lm_trainer_opts options(bool pure) {
    return (lm_trainer_opts){ .batch = B, .seq = T, .mm = LM_BF16, .pure = pure, .seed = 3,
                              .optim = { .name = "adamw", .lr = 3e-3, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .clip = 1.0 } };
}
static void rig_new(rig *r, int threads, bool pure, bool device) {
    const lm_cfg c = config();
    lm_trainer_opts o = options(pure);
    LM_CHECK((lm_ctx_new(&r->ctx, &(lm_ctx_opts){ .n_threads = threads })) == LM_OK);
    r->dev = o.dev = device ? fake_open(r->ctx, 9) : NULL;
    LM_CHECK((lm_store_new(&r->store, r->ctx)) == LM_OK);
    LM_CHECK((lm_model_init(r->ctx, &c, r->store, 5)) == LM_OK);
    LM_CHECK((lm_trainer_new(&r->t, r->ctx, &c, r->store, &o)) == LM_OK);
    LM_CHECK((lm_batch_alloc(r->ctx, &r->b, B, T)) == LM_OK);
}
static void rig_free(rig *r) { lm_batch_free(r->ctx, &r->b); lm_trainer_free(r->t); lm_store_free(r->store); lm_dev_close(r->dev); lm_ctx_free(r->ctx); }
static double steps(rig *r, int from, int n) {
    double loss = 0, norm;
    for (int s = from; s < from + n; s++) {
        r->b.n_target = B * T;
        for (int64_t i = 0; i < B * T; i++) {
            const int64_t t = i % T + s % 4 * 7 + i / T * 3;
            r->b.tokens[i] = (int32_t)(t * t / 3 % V); r->b.target[i] = (int32_t)((t + 1) * (t + 1) / 3 % V); r->b.start[i] = (int32_t)(i / T * T); r->b.pos[i] = (int32_t)(i % T);
        }
        loss = 0;
        LM_CHECK((lm_trainer_accumulate(r->t, &r->b, s, 0, &loss)) == LM_OK);
        LM_CHECK((lm_trainer_update(r->t, s + 1, 1.0, (double)r->b.n_target, &norm)) == LM_OK);
    }
    return loss / (B * T);
}
static void test_trainer(void) {
    rig a, b, c, full;
    rig_new(&a, 1, true, false); rig_new(&b, 3, true, false); rig_new(&c, 2, true, false); rig_new(&full, 2, false, false);
    lm_tensor w;
    LM_CHECK(lm_store_get(a.store, "layer.0.attn.q", &w) || lm_store_get(a.store, lm_trainer_param(a.t, 0)->name, &w));
    LM_CHECK((int64_t)(w.dtype) == (int64_t)(LM_BF16));
    lm_trainer_plan pure, usual;
    lm_trainer_plan_of(a.t, &pure); lm_trainer_plan_of(full.t, &usual);
    size_t vectors = 0;
    for (int i = 0; i < lm_trainer_n_params(a.t); i++) {
        const lm_type *t = &lm_trainer_param(a.t, i)->type;
        if (t->rank == 1) vectors += (size_t)t->dim[0] * 4;
    }
    LM_CHECK((int64_t)(pure.params) == (int64_t)((usual.params - vectors) / 2 + vectors));
    LM_CHECK((int64_t)(pure.optim) == (int64_t)(usual.optim));
    const double first = steps(&a, 0, 1);
    steps(&a, 1, 11);
    steps(&b, 0, 12);
    LM_CHECK(lm_hash_same(lm_trainer_hash(a.t), lm_trainer_hash(b.t)));
    /* a checkpoint in the middle, and another trainer that goes on from it */
    char dir[] = "/tmp/loam-stochastic-XXXXXX", path[100];
    LM_CHECK(mkdtemp(dir) != NULL);
    const lm_ckpt_state st = { .step = 12, .isa = "" };
    lm_ckpt_state got;
    LM_CHECK((lm_ckpt_save(a.t, dir, &st, 1)) == LM_OK);
    snprintf(path, sizeof path, "%s/step-%08d", dir, 12);
    LM_CHECK((lm_ckpt_load(c.t, path, &got)) == LM_OK);
    LM_CHECK(lm_hash_same(lm_trainer_hash(a.t), lm_trainer_hash(c.t)));
    const int more = LM_T_WATCHED ? 8 : 100;
    const double last = steps(&a, 12, more), again = steps(&c, 12, more), wide = LM_T_WATCHED ? last : steps(&full, 0, 12 + more);
    LM_CHECK(last == again && lm_hash_same(lm_trainer_hash(a.t), lm_trainer_hash(c.t)));
    printf(" loss %.4f, after all steps %.4f; with f32 beside the weights %.4f; parameters %zu bytes for %zu\n", first, last, wide, pure.params, usual.params);
    LM_CHECK(last < (LM_T_WATCHED ? 1 : 0.5) * first && fabs(last - wide) < 0.15 * first);
    lm_dir_remove(c.ctx, dir);
    rig_free(&a); rig_free(&b); rig_free(&c); rig_free(&full);
}
/* Plans of a device (gradients begin by being written, states live there) with the processor's rows. */
static void test_plans_of_a_device(void) {
#ifdef __SANITIZE_THREAD__
    LM_SKIP("the fake device has one thread: nothing to be found there in minutes");
#endif
    rig a, b;
    rig_new(&a, 1, true, false); rig_new(&b, 1, true, true);
    const int n = LM_T_WATCHED ? 6 : 40;
    const double x = steps(&a, 0, n), y = steps(&b, 0, n);
    printf(" loss after %d steps %.5f, planned for a device %.5f\n", n, x, y);
    LM_CHECK(fabs(x - y) < 0.05 * x);
    rig_free(&a); rig_free(&b);
}
static void test_refusals(void) {
    const lm_cfg c = config();
    lm_ctx *ctx; lm_store *store; lm_trainer *t;
    LM_CHECK((lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) == LM_OK);
    LM_CHECK((lm_store_new(&store, ctx)) == LM_OK);
    LM_CHECK((lm_model_init(ctx, &c, store, 5)) == LM_OK);
    lm_trainer_opts o = options(true);
    o.mm = LM_F32;
    LM_CHECK((int64_t)(lm_trainer_new(&t, ctx, &c, store, &o)) == (int64_t)(LM_E_UNSUPPORTED));
    o = options(true); o.optim.name = "muon"; o.optim.muon_steps = 5;
    LM_CHECK((int64_t)(lm_trainer_new(&t, ctx, &c, store, &o)) == (int64_t)(LM_E_UNSUPPORTED));
    LM_CHECK(strstr(lm_error(ctx), "muon") != NULL);
    lm_store_free(store); lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_rounding), LM_T1(test_mean), LM_T1(test_trainer), LM_T1(test_plans_of_a_device), LM_T1(test_refusals))
