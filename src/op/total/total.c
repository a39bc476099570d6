/* total.c — a few numbers, added in f32 in the order of the inputs. */
#include "op/rule.h"
#include "op/total/total.h"

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    for (int i = 0; i < c->n_in; i++) { LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(1))); }
    *out = lm_type_like(&c->in[0]); out->ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    double s = 0;
    for (int i = 0; i < c->n_in; i++) s += *lm_f64(&c->in[i]);
    *lm_f64(&c->out[0]) = s;
}
static int64_t one(const lm_call *c) { (void)c; return 1; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch;
    float s = *(const float *)c->in[0].data;
    for (int i = 1; i < c->n_in; i++) s += *(const float *)c->in[i].data;
    *(float *)c->out[0].data = s;
    return LM_OK;
}
static const lm_kernel k_total[] = { { .name = "total.f32", .order = "total", .n_phase = 1, .phase = { { one, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_total);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_total) k_total, NULL };
#define ONE { .rank = 1, .dim = { 1 } }
static const lm_sample samples[] = {
    { .name = "one number", .in = { ONE }, .tol = 1e-6 },
    { .name = "three", .in = { ONE, ONE, ONE }, .tol = 1e-6 },
    { .name = "twelve", .in = { ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE, ONE }, .tol = 1e-5 },
    { 0 }
};
const lm_op lm_op_total = { .name = "total",
                            .math = "y = x_0 + x_1 + …",
                            .n_in = 1,
                            .n_opt = LM_MAX_IN - 1,
                            .n_out = 1,
                            .shape = shape,
                            .ref = ref,
                            .kernels = kernels,
                            .samples = samples };
lm_value *lm_total(lm_graph *g, lm_value *const *x, int n) {
    if (n <= LM_MAX_IN) return n == 1 ? x[0] : lm_emit(g, &lm_op_total, NULL, n, x);
    /* totals of `each`, a power of twelve, so that at most twelve are left */
    int each = LM_MAX_IN, m = 0;
    while ((n - 1) / each >= LM_MAX_IN) each *= LM_MAX_IN;
    lm_value *sum[LM_MAX_IN];
    for (int at = 0; at < n; at += each) sum[m++] = lm_total(g, x + at, n - at < each ? n - at : each);
    return lm_total(g, sum, m);
}
