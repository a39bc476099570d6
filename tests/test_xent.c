/* The promises of the loss that a tolerance cannot show: lse is lm_row_lse of matmul's logits to the bit, chunks change nothing, the step
 * gives the forward's bits, and every instruction set has one logsumexp. */
#include "test.h"
#include "device/cpu.h"
#include "op/matmul/matmul.h"
#include "op/xent/xent_core.h"
#include "op/xent_step/xent_step.h"

enum { N = 75, V = 1187, D = 72 };
static lm_ctx *ctx;
static float x[N * D], w[V * D], weight[N], loss[2][N], lse[2][N], dx[2][N * D], dw[2][V * D], z[N * V];
static int32_t target[N];

static void *get(size_t n) { void *p = NULL; if (posix_memalign(&p, 64, n ? n : 64)) abort(); memset(p, 0x7f, n); return p; }
static lm_err run(const lm_kernel *k, lm_call *c) {
    void *shared = get(k->shared_bytes ? k->shared_bytes(c) : 0), *scratch = get(k->thread_bytes ? k->thread_bytes(c) : 0);
    lm_err err = LM_OK;
    c->shared = shared;
    const int64_t reps = k->repeat ? k->repeat(c) : 1;
    for (c->iter = 0; c->iter < reps; c->iter++)
        for (int f = 0; f < k->n_phase; f++)
            for (int64_t i = k->phase[f].tiles(c) - 1; i >= 0; i--) { lm_err e = k->phase[f].run(c, i, scratch); if (e) err = e; }
    c->iter = 0;
    free(shared); free(scratch);
    return err;
}
static void setup(void) {
    const lm_rng r = lm_rng_of(3, "xent");
    for (int i = 0; i < N * D; i++) x[i] = lm_rng_normal(r, (uint64_t)i);
    for (int i = 0; i < V * D; i++) w[i] = 0.3f * lm_rng_normal(r, (uint64_t)(i + N * D));
    for (int i = 0; i < N; i++) { target[i] = (int32_t)lm_rng_below(r, (uint64_t)(i + 200000), V); weight[i] = 0.5f + (float)i / N; }
    target[7] = -1;
}
static lm_call call_of(const lm_op *op, const void *p, int side) {
    lm_call c = { .op = op, .p = p, .n_in = 4, .n_out = op->n_out, .ctx = ctx };
    c.in[0] = lm_tensor_of(x, LM_F32, 2, (int64_t[]){ N, D }); c.in[1] = lm_tensor_of(w, LM_F32, 2, (int64_t[]){ V, D });
    c.in[2] = lm_tensor_of(target, LM_I32, 1, (int64_t[]){ N }); c.in[3] = lm_tensor_of(weight, LM_F32, 1, (int64_t[]){ N });
    c.out[0] = lm_tensor_of(loss[side], LM_F32, 1, (int64_t[]){ N }); c.out[1] = lm_tensor_of(lse[side], LM_F32, 1, (int64_t[]){ N });
    c.out[2] = lm_tensor_of(dx[side], LM_F32, 2, (int64_t[]){ N, D }); c.out[3] = lm_tensor_of(dw[side], LM_F32, 2, (int64_t[]){ V, D });
    return c;
}
static void same(const char *k, const char *what, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(a + i, b + i, 4)) {
            LM_CHECK(!"bits differ");
            printf("    %s: %s: [%lld] %.9g and %.9g\n", k, what, (long long)i, a[i], b[i]);
            return;
        }
}
typedef void each_fn(const lm_kernel *k, lm_dtype mm);
static void each(const lm_op *op, each_fn *f) {
    LM_NEED_OK(NULL, lm_ctx_new(&ctx, NULL));
    setup();
    for (int i = 0; i < 2; i++) {
        const lm_dtype mm = i ? LM_BF16 : LM_F32;
        const lm_xent_step_p p = { .xent = { .mm = mm } };
        lm_call c = call_of(op, &p, 0);
        for (int q = 0; op->kernels[q]; q++)
            for (const lm_kernel *k = op->kernels[q]; k->name; k++)
                if (k->device == LM_DEV_CPU && !(k->needs & ~lm_cpu_features()) && k->accepts(&c)) f(k, mm);
    }
    lm_ctx_free(ctx);
}

/* A row of logits from decoding (matmul, whole or one row at a time) has the trainer's lse. */
static void is_row_lse(const lm_kernel *k, lm_dtype mm) {
    const lm_xent_p p = { .mm = mm };
    const lm_matmul_p q = { .tb = true, .mm = mm };
    lm_call c = call_of(&lm_op_xent, &p, 0);
    LM_CHECK_OK(ctx, run(k, &c));
    bool found = false;
    for (int i = 0; lm_op_matmul.kernels[i]; i++)
        for (const lm_kernel *m = lm_op_matmul.kernels[i]; m->name; m++) {
            lm_call d = { .op = &lm_op_matmul,
                          .p = &q,
                          .n_in = 2,
                          .n_out = 1,
                          .in = { c.in[0], c.in[1] },
                          .out = { lm_tensor_of(z, LM_F32, 2, (int64_t[]){ N, V }) },
                          .ctx = ctx };
            if (strcmp(m->order, k->order) || (m->needs & ~lm_cpu_features()) || !m->accepts(&d)) continue;
            found = true;
            LM_CHECK_OK(ctx, run(m, &d));
            for (int r = 0; r < N; r++) lse[1][r] = lm_row_lse(z + r * V, V);
            same(k->name, "lse of rows of matmul", lse[0], lse[1], N);
            for (int r = 0; r < 3; r++) {
                d.in[0] = lm_tensor_of(x + r * D, LM_F32, 2, (int64_t[]){ 1, D }); d.out[0].dim[0] = 1;
                LM_CHECK_OK(ctx, run(m, &d));
                const float one = lm_row_lse(z, V);
                same(k->name, "lse of one row", lse[0] + r, &one, 1);
            }
        }
    LM_CHECK(found);
}
static void test_lse_is_the_servers(void) { each(&lm_op_xent, is_row_lse); }

static void chunks_agree(const lm_kernel *k, lm_dtype mm) {
    const lm_xent_step_p p[2] = { { .xent = { .mm = mm, .label_smoothing = 0.1f, .z_loss = 1e-3f } },
                                  { .xent = { .mm = mm, .label_smoothing = 0.1f, .z_loss = 1e-3f, .chunk = 32 } } };
    for (int i = 0; i < 2; i++) { lm_call c = call_of(&lm_op_xent_step, &p[i], i); LM_CHECK_OK(ctx, run(k, &c)); }
    same(k->name, "loss", loss[0], loss[1], N);
    same(k->name, "lse", lse[0], lse[1], N);
    same(k->name, "dx", dx[0], dx[1], N * D);
    same(k->name, "dW", dw[0], dw[1], V * D);
    for (int j = 0; j < D; j++) LM_CHECK(dx[0][7 * D + j] == 0);                                  /* a token without target */
    LM_CHECK(loss[0][7] == 0 && lse[0][7] > 0);
    /* the forward alone */
    for (int i = 0; lm_op_xent.kernels[i]; i++)
        for (const lm_kernel *f = lm_op_xent.kernels[i]; f->name; f++) {
            lm_call c = call_of(&lm_op_xent, &p[0], 1);
            if (strcmp(f->order, k->order) || (f->needs & ~lm_cpu_features()) || !f->accepts(&c)) continue;
            LM_CHECK_OK(ctx, run(f, &c));
            same(k->name, "lse of forward", lse[0], lse[1], N);
            /* the mean logit may be added in another order */
            for (int r = 0; r < N; r++) LM_CHECK_NEAR(loss[0][r], loss[1][r], 1e-6 * (1 + fabs(loss[0][r])));
        }
}
static void test_chunks_change_nothing(void) { each(&lm_op_xent_step, chunks_agree); }

static void refuses(const lm_kernel *k, lm_dtype mm) {
    const lm_xent_step_p p = { .xent = { .mm = mm } };
    target[3] = V;
    lm_call c = call_of(k->n_phase == 4 || strstr(k->name, "step") ? &lm_op_xent_step : &lm_op_xent, &p, 0);
    LM_CHECK(run(k, &c) == LM_E_RANGE);
    LM_CHECK(loss[0][3] != loss[0][3] && loss[0][4] == loss[0][4]);
    target[3] = 5;
}
static void test_target_too_large(void) { each(&lm_op_xent, refuses); each(&lm_op_xent_step, refuses); }

static void test_one_logsumexp(void) {
    enum { L = 5003 };
    static float row[L], copy[L];
    const lm_rng r = lm_rng_of(5, "row");
    for (int i = 0; i < L; i++) row[i] = 6 * lm_rng_normal(r, (uint64_t)i);
    const int len[] = { 1, 15, 16, 17, 511, 512, 513, 1024, L };
    for (int i = 0; i < LM_COUNT(len); i++) {
        double s = 0;
        for (int v = 0; v < len[i]; v++) s += exp((double)row[v]);
        memcpy(copy, row, sizeof row);
        const float got = lm_row_lse(copy, len[i]);
        LM_CHECK_NEAR(got, log(s), 1e-6 * fabs(log(s)) + 2e-7);
        LM_CHECK(!memcmp(copy, row, sizeof row));
        const float portable = lm_xent_lse(&lm_xent_vec_portable, copy, len[i]);
        same("portable", "lse", &got, &portable, 1);
        if (lm_cpu_features() & LM_CPU_AVX2) { const float t = lm_xent_lse(&lm_xent_vec_avx2, copy, len[i]); same("avx2", "lse", &got, &t, 1); }
    }
    for (int v = 0; v < 600; v++) copy[v] = -INFINITY;
    LM_CHECK(lm_row_lse(copy, 600) == -INFINITY);
    copy[555] = 2; LM_CHECK(lm_row_lse(copy, 600) == 2);
    copy[5] = NAN; LM_CHECK(isnan(lm_row_lse(copy, 600)));
    copy[5] = INFINITY; LM_CHECK(lm_row_lse(copy, 600) == INFINITY);
    copy[5] = -3e38f; copy[6] = 3e38f; LM_CHECK(lm_row_lse(copy, 600) == 3e38f);
}
LM_TEST_MAIN(LM_T1(test_lse_is_the_servers), LM_T1(test_chunks_change_nothing), LM_T1(test_target_too_large), LM_T1(test_one_logsumexp))
