/* matmul_each.c — the row; its kernels are those of matmul for integers (op/matmul/q8.h), which know both rows. */
#include <string.h>
#include "op/matmul/gemm.h"
#include "op/matmul_each/matmul_each.h"
#include "op/rule.h"

enum { MOST = LM_MATMUL_EACH };
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_p *p = c->p;
    const lm_tensor *a = &c->in[0];
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    if (!p->tb || p->ta || p->fold || p->mm != LM_I8) return lm_fail(ctx, LM_E_CONFIG, "matmul_each: wanted tb and mm I8 alone");
    for (int i = 0; i < MOST; i++) {
        const lm_tensor *w = &c->in[1 + i];
        if (!lm_has(c, 1 + i)) {
            if (lm_has(c, 1 + MOST + i)) return lm_fail(ctx, LM_E_SHAPE, "matmul_each: bias %d has no weight", i);
            out[i] = (lm_type){ .dtype = LM_F32 };
            continue;
        }
        if (w->dtype != LM_QUANT || w->rank != 2)
            return lm_fail(ctx, LM_E_SHAPE, "matmul_each: input %d: got %s of rank %d, wanted a quantized matrix", 1 + i, lm_dtype_name((lm_dtype)w->dtype),
                           w->rank);
        if (w->dim[1] != lm_cols(a))
            return lm_fail(ctx, LM_E_SHAPE, "matmul_each: input %d: got %lld columns, wanted the %lld of input 0", 1 + i, (long long)w->dim[1],
                           (long long)lm_cols(a));
        if (lm_has(c, 1 + MOST + i)) {
            LM_TRY(lm_want(ctx, c, 1 + MOST + i, LM_ANY_FLOAT, 1, 1));
            LM_TRY(lm_want_dims(ctx, c, 1 + MOST + i, LM_DIMS(w->dim[0])));
        }
        out[i] = lm_type_like(a);
        out[i].dtype = LM_F32; out[i].dim[a->rank - 1] = w->dim[0];
    }
    return LM_OK;
}
static void ref(const lm_call *c) {
    const int64_t M = lm_rows(&c->in[0]), K = lm_cols(&c->in[0]);
    const double *a = lm_f64(&c->in[0]);
    for (int i = 0; i < MOST && lm_has(c, 1 + i); i++) {
        const double *w = lm_f64(&c->in[1 + i]), *bias = lm_has(c, 1 + MOST + i) ? lm_f64(&c->in[1 + MOST + i]) : NULL;
        const int64_t N = c->in[1 + i].dim[0];
        double *o = lm_f64(&c->out[i]);
        for (int64_t m = 0; m < M; m++)
            for (int64_t n = 0; n < N; n++) {
                double t = bias ? bias[n] : 0;
                for (int64_t k = 0; k < K; k++) t += a[m * K + k] * w[n * K + k];
                o[m * N + n] = t;
            }
    }
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 0;
    for (int i = 0; i < MOST && lm_has(c, 1 + i); i++)
        *flops += 2.0 * (double)lm_rows(&c->in[0]) * (double)c->in[1 + i].dim[0] * (double)lm_cols(&c->in[0]);
}
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    for (int i = 0; i < MOST; i++) {
        const lm_matmul_p *p = params[i];
        if (p && (!p->tb || p->ta || p->fold || p->mm != LM_I8 || !in[1 + i]->quant || in[1 + i]->quant->block != in[1]->quant->block)) return false;
    }
    memcpy(out, params[0], sizeof(lm_matmul_p));
    return true;
}
static const char *const unites[] = { "X=matmul(a,b,c) Y=matmul(a,d,e) Z=matmul(a,f,g)", "X=matmul(a,b,c) Y=matmul(a,d,e)", NULL };

extern const lm_kernel lm_k_matmul_each_q8_vnni[], lm_k_matmul_each_q8_avx2[], lm_k_matmul_each_q8_plain[];
static const lm_kernel *const kernels[] = { lm_k_matmul_each_q8_vnni, lm_k_matmul_each_q8_avx2, lm_k_matmul_each_q8_plain, NULL };
#define P &(const lm_matmul_p){ .tb = true, .mm = LM_I8 }
#define A(r, c) { .rank = 2, .dim = { r, c } }
#define Q(r, c, q, ...) { .rank = 2, .dim = { r, c }, .dtype = LM_QUANT, .quant = q, __VA_ARGS__ }
#define V(n) { .rank = 1, .dim = { n } }
#define TOL .tol = 4e-2, .tol_norm = 1e-2, .grad_tol = -1
static const lm_sample samples[] = {
    { "two, one row, no gradient", P, { A(1, 96), Q(50, 96, "Q8_0"), Q(17, 96, "Q4_0") }, TOL },
    { "three formats in panels, biases",
      P,
      { A(3, 544), Q(50, 544, "Q4_0", .layout = LM_PANEL16), Q(130, 544, "Q5_1", .layout = LM_PANEL16), Q(16, 544, "Q8_0", .layout = LM_PANEL16), V(50),
        { 0 }, V(16) },
      TOL },
    { "29 rows", P, { A(29, 1056), Q(50, 1056, "Q4_1", .layout = LM_PANEL16), Q(77, 1056, "Q5_0", .layout = LM_PANEL16), { 0 }, { 0 }, V(77) }, TOL },
    { "super-blocks, one row",
      P,
      { A(1, 512), Q(50, 512, "Q4_K", .layout = LM_PANEL16), Q(33, 512, "Q4_K", .layout = LM_PANEL16), Q(160, 512, "Q6_K", .layout = LM_PANEL16) },
      TOL },
    { "super-blocks as rows, 11 rows", P, { A(11, 768), Q(50, 768, "Q5_K"), Q(33, 768, "Q6_K"), Q(20, 768, "Q4_K"), V(50), V(33), V(20) }, TOL },
    { "70 rows", P, { A(70, 256), Q(100, 256, "Q4_K", .layout = LM_PANEL16), Q(40, 256, "Q6_K", .layout = LM_PANEL16), { 0 }, V(100) }, TOL },
    { 0 }
};
const lm_op lm_op_matmul_each = { .name = "matmul_each",
                                  .math = "y_i = a W_i^T [+ b_i]",
                                  .n_in = 3,
                                  .n_opt = 2 * MOST - 2,
                                  .n_out = MOST,
                                  .params_bytes = sizeof(lm_matmul_p),
                                  .mm_at = 1 + (int16_t)offsetof(lm_matmul_p, mm),
                                  .here = true,
                                  .shape = shape,
                                  .ref = ref,
                                  .cost = cost,
                                  .kernels = kernels,
                                  .samples = samples,
                                  .unite_in = "abdfceg",
                                  .unite_out = "XYZ",
                                  .unites = unites,
                                  .unite = unite };
lm_value *lm_matmul_each(lm_graph *g, lm_value *a, int n, lm_value *const *w, lm_value *const *bias) {
    lm_value *in[1 + 2 * MOST] = { a };
    for (int i = 0; i < n; i++) { in[1 + i] = w[i]; in[1 + MOST + i] = bias ? bias[i] : NULL; }
    return lm_emit(g, &lm_op_matmul_each, &(lm_matmul_p){ .tb = true, .mm = LM_I8 }, 1 + 2 * MOST, in);
}
