/* test_op_torch.c — references and optimizer steps against torch (tests/fixtures/op_torch.h). The driver (test_ops.c) ties kernels to references. */
#include "test.h"
#include "op/adamw/adamw.h"
#include "op/gelu/gelu.h"
#include "op/layernorm/layernorm.h"
#include "op/muon_momentum/muon_momentum.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rmsnorm_grad/rmsnorm_grad.h"
#include "op/rmsnorm_grad_w/rmsnorm_grad_w.h"
#include "op/rule.h"
#include "op/softmax/softmax.h"
#include "fixtures/op_torch.h"

enum { R = 3, C = 7, N = 23, STEPS = 20 };
static lm_tensor f64_at(uintptr_t p, int rank) {
    return lm_tensor_of((void *)p, LM_F64, rank, rank == 2 ? (const int64_t[]){ R, C } : (const int64_t[]){ rank == 1 ? C : R });
}
#define f64(p, rank) f64_at((uintptr_t)(p), rank)
static void ref(const char *name, const void *p, int n_in, const lm_tensor *in, int n_out, const lm_tensor *out) {
    lm_call c = { .op = lm_op_by_name(name), .p = p, .n_in = n_in, .n_out = n_out };
    LM_CHECK(c.op != NULL);
    if (!c.op) return;
    memcpy(c.in, in, sizeof *in * (size_t)n_in); memcpy(c.out, out, sizeof *out * (size_t)n_out);
    c.op->ref(&c);
}
static void near(const char *what, const double *got, const double *want, int n) {
    for (int i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= 1e-12 * (1 + fabs(want[i])))) {
            lm_t_fail++;
            printf("%s[%d] = %.17g, torch has %.17g\n", what, i, got[i], want[i]);
        }
}
static void test_unary(void) {
    double y[R * C], dx[R * C]; lm_tensor Y = f64(y, 2), DX = f64(dx, 2), X = f64(t_x, 2), DY = f64(t_dy, 2);
    static const lm_gelu_p erf_form = { false }, tanh_form = { true }; static const lm_softmax_p half = { 0.5f };
    const struct { const char *op, *grad; const void *p; bool from_y; const double *y, *dx;
    } row[] = { { "gelu", "gelu_grad", &erf_form, false, t_gelu_y, t_gelu_dx },
                { "gelu", "gelu_grad", &tanh_form, false, t_gelu_tanh_y, t_gelu_tanh_dx },
                { "silu", "silu_grad", NULL, false, t_silu_y, t_silu_dx },
                { "tanh", "tanh_grad", NULL, true, t_tanh_y, t_tanh_dx },
                { "softmax", "softmax_grad", &half, true, t_softmax_y, t_softmax_dx } };
    for (int i = 0; i < LM_COUNT(row); i++) {
        ref(row[i].op, row[i].p, 1, &X, 1, &Y); near(row[i].op, y, row[i].y, R * C);
        ref(row[i].grad, row[i].p, 2, (lm_tensor[]){ DY, row[i].from_y ? Y : X }, 1, &DX); near(row[i].grad, dx, row[i].dx, R * C);
    }
}
static void test_norms(void) {
    double y[R * C], dx[R * C], dw[C], mean[R], rstd[R];
    lm_tensor Y = f64(y, 2), DX = f64(dx, 2), X = f64(t_x, 2), DY = f64(t_dy, 2), W = f64(t_w, 1), B = f64(t_b, 1), DW = f64(dw, 1),
              M = f64(mean, 0), S = f64(rstd, 0);
    M.rank = S.rank = 1; M.dim[0] = S.dim[0] = R;
    /* torch computes with eps as a double, loam's parameter is a float: the difference is below 1e-12 here only for y and dx relative to 1 */
    ref("rmsnorm", &(lm_rmsnorm_p){ 1e-5f, 0 }, 2, (lm_tensor[]){ X, W }, 2, (lm_tensor[]){ Y, S }); near("rmsnorm", y, t_rmsnorm_y, R * C);
    ref("rmsnorm_grad", &(lm_rmsnorm_grad_p){ 0 }, 4, (lm_tensor[]){ DY, X, W, S }, 1, &DX); near("rmsnorm dx", dx, t_rmsnorm_dx, R * C);
    ref("rmsnorm_grad_w", &(lm_rmsnorm_grad_w_p){ C }, 3, (lm_tensor[]){ DY, X, S }, 1, &DW); near("rmsnorm dw", dw, t_rmsnorm_dw, C);
    ref("layernorm", &(lm_layernorm_p){ 1e-5f }, 3, (lm_tensor[]){ X, W, B }, 3, (lm_tensor[]){ Y, M, S });
    near("layernorm", y, t_layernorm_y, R * C);
    ref("layernorm_grad", NULL, 5, (lm_tensor[]){ DY, X, W, M, S }, 1, &DX); near("layernorm dx", dx, t_layernorm_dx, R * C);
    ref("layernorm_grad_w", NULL, 4, (lm_tensor[]){ DY, X, M, S }, 1, &DW); near("layernorm dw", dw, t_layernorm_dw, C);
}

static void step(lm_call *c, const lm_kernel *k) {
    for (int ph = 0; ph < k->n_phase; ph++)
        for (int64_t t = 0; t < k->phase[ph].tiles(c); t++) LM_CHECK(k->phase[ph].run(c, t, NULL) == LM_OK);
}
static void close32(const char *what, const char *kernel, const float *got, const float *want, double tol) {
    for (int i = 0; i < N; i++)
        if (!(fabs((double)got[i] - (double)want[i]) <= tol * fmax(1, fabs((double)want[i])))) {
            lm_t_fail++;
            printf("%s %s[%d] = %.9g, torch has %.9g\n", kernel, what, i, (double)got[i], (double)want[i]);
        }
}
/* Every kernel row of the machine walks the same twenty steps. The gradient is fed doubled with scale 1/2, which is exact. */
static void test_adamw(void) {
    int ran = 0;
    for (int a = 0; lm_op_adamw.kernels[a]; a++) for (const lm_kernel *k = lm_op_adamw.kernels[a]; k->name; k++) {
        if (k->device != LM_DEV_CPU || (k->needs & ~lm_cpu_features())) continue;
        float p[N], g[N], m[N] = { 0 }, v[N] = { 0 }, h[LM_HYPER_N], s = 0.5f; const int64_t n[1] = { N }, eight[1] = { LM_HYPER_N }, one[1] = { 1 };
        lm_tensor T[6] = { lm_tensor_of(p, LM_F32, 1, n), lm_tensor_of(g, LM_F32, 1, n),     lm_tensor_of(m, LM_F32, 1, n),
                           lm_tensor_of(v, LM_F32, 1, n), lm_tensor_of(h, LM_F32, 1, eight), lm_tensor_of(&s, LM_F32, 1, one) };
        lm_call c = { .op = &lm_op_adamw, .n_in = 6, .n_out = 4 };
        memcpy(c.in, T, sizeof T); memcpy(c.out, T, 4 * sizeof *T); memcpy(p, t_adamw_p0, sizeof p);
        for (int t = 1; t <= STEPS; t++) {
            for (int i = 0; i < N; i++) g[i] = 2 * t_adamw_g[(t - 1) * N + i];
            h[LM_HYPER_LR] = 1e-3f; h[LM_HYPER_BETA1] = 0.9f; h[LM_HYPER_BETA2] = 0.95f; h[LM_HYPER_EPS] = 1e-8f; h[LM_HYPER_WD] = 0.1f;
            h[LM_HYPER_BIAS1] = (float)(1 - pow(0.9, t));
            h[LM_HYPER_BIAS2] = (float)(1 - pow(0.95, t));
            h[LM_HYPER_ONE_MINUS_BETA2] = (float)(1 - 0.95);
            step(&c, k);
            for (int i = 0; i < N; i++) LM_CHECK(g[i] == 0);
        }
        close32("param", k->name, p, t_adamw_p, 5e-7); close32("m", k->name, m, t_adamw_m, 1e-6); close32("v", k->name, v, t_adamw_v, 1e-6);
        ran++;
    }
    LM_CHECK(ran > 0);
}
static void test_muon(void) {
    for (int a = 0; lm_op_muon_momentum.kernels[a]; a++) for (const lm_kernel *k = lm_op_muon_momentum.kernels[a]; k->name; k++) {
        if (k->device != LM_DEV_CPU || (k->needs & ~lm_cpu_features())) continue;
        float u[N], g[N], b[N] = { 0 }, h[LM_HYPER_N] = { 0 }, s = 1; const int64_t n[1] = { N }, eight[1] = { LM_HYPER_N }, one[1] = { 1 };
        lm_call c = { .op = &lm_op_muon_momentum,
                      .p = &(lm_muon_momentum_p){ true },
                      .n_in = 4,
                      .n_out = 3,
                      .in = { lm_tensor_of(g, LM_F32, 1, n), lm_tensor_of(b, LM_F32, 1, n), lm_tensor_of(h, LM_F32, 1, eight),
                              lm_tensor_of(&s, LM_F32, 1, one) },
                      .out = { lm_tensor_of(u, LM_F32, 1, n), lm_tensor_of(g, LM_F32, 1, n), lm_tensor_of(b, LM_F32, 1, n) } };
        h[LM_HYPER_BETA1] = 0.95f;
        for (int t = 0; t < STEPS; t++) { memcpy(g, t_adamw_g + t * N, sizeof g); step(&c, k); }
        close32("buf", k->name, b, t_muon_buf, 1e-6); close32("update", k->name, u, t_muon_u, 1e-6);
    }
}
/* What shape rules refuse, and how they say it; ids outside a table. */
static void test_refusals(void) {
    lm_ctx *ctx; LM_NEED_OK(NULL, lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 }));
    lm_type ot[LM_MAX_OUT];
    lm_tensor a = lm_tensor_of(NULL, LM_F32, 2, (const int64_t[]){ 3, 7 }), b = lm_tensor_of(NULL, LM_F32, 2, (const int64_t[]){ 7, 3 }),
              i32 = lm_tensor_of(NULL, LM_I32, 1, (const int64_t[]){ 4 }), v5 = lm_tensor_of(NULL, LM_F32, 1, (const int64_t[]){ 5 });
#define SHAPE(name_, p_, sub, ...) do { const lm_tensor in_[] = { __VA_ARGS__ }; lm_call c = { .op = lm_op_by_name(name_), .p = p_, .n_in = LM_COUNT(in_) }; memcpy(c.in, in_, sizeof in_); c.n_out = c.op->n_out; \
    LM_CHECK_ERR(ctx, c.op->shape(ctx, &c, ot), LM_E_SHAPE, sub); } while (0)
    SHAPE("add", NULL, "add: input 1: got F32(7, 3), wanted dimensions (3, 7)", a, b);
    SHAPE("mul", NULL, "mul: input 1: got F32(5), wanted dimensions (7)", a, v5);
    SHAPE("silu", NULL, "silu: input 0: got I32(4), wanted dtype float", i32);
    SHAPE("rmsnorm", (&(lm_rmsnorm_p){ 1e-5f, 0 }), "rmsnorm: input 1: got 5 weights, wanted a divisor of the 7 columns", a, v5);
    SHAPE("softmax", (&(lm_softmax_p){ -1 }), "softmax: scale: got -1", a);
    SHAPE("embed", NULL, "embed: input 1: got F32(5), wanted dtype I32", a, v5);
    SHAPE("split", (&(struct { int n; int64_t size[4]; }){ 2, { 3, 3 } }), "split: got pieces of 6 columns in all, wanted the 7", a);
    SHAPE("concat", NULL, "concat: input 1: got F32(7, 3)", a, b);
    float w[3 * 7] = { 0 }, y[4 * 7]; int32_t bad[] = { -1, 3, INT32_MAX, INT32_MIN };
    for (int i = 0; i < 4; i++) {
        int32_t ids[4] = { 0, 1, 2, 0 }; ids[i] = bad[i];
        const int64_t four[] = { 4 }, wd[] = { 3, 7 }, yd[] = { 4, 7 }; struct { int64_t rows; } rows = { 3 };
        lm_call c = { .op = lm_op_by_name("embed"),
                      .n_in = 2,
                      .n_out = 1,
                      .in = { lm_tensor_of(w, LM_F32, 2, wd), lm_tensor_of(ids, LM_I32, 1, four) },
                      .out = { lm_tensor_of(y, LM_F32, 2, yd) } };
        const lm_kernel *k = lm_kernel_choose(c.op, &c, LM_DEV_CPU, lm_cpu_features());
        LM_CHECK(k && k->phase[0].run(&c, 0, NULL) == LM_E_RANGE);
        memset(y, 0, sizeof y);
        lm_call s = { .op = lm_op_by_name("embed_grad"),
                      .p = &rows,
                      .n_in = 2,
                      .n_out = 1,
                      .in = { lm_tensor_of(ids, LM_I32, 1, four), lm_tensor_of(y, LM_F32, 2, yd) },
                      .out = { lm_tensor_of(w, LM_F32, 2, wd) } };
        k = lm_kernel_choose(s.op, &s, LM_DEV_CPU, lm_cpu_features());
        LM_CHECK(k && k->phase[1].run(&s, 0, NULL) == LM_E_RANGE);
    }
    lm_ctx_free(ctx);
}
LM_TEST_MAIN(LM_T1(test_unary), LM_T1(test_norms), LM_T1(test_adamw), LM_T1(test_muon), LM_T1(test_refusals))
