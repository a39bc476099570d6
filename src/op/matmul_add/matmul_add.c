/* matmul_add.c — shape and truth are matmul's. The processor's row is a plain one: its plans keep the two apart, where each has a fast one. */
#include "op/matmul_add/matmul_add.h"
#include "op/rule.h"
#include <string.h>

static lm_call product(const lm_call *c) {
    lm_call p = *c;
    p.in[0] = c->in[1]; p.in[1] = c->in[2]; p.n_in = 2;
    return p;
}
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_p *p = c->p;
    const lm_call m = product(c);
    if (p->ta || p->fold || c->in[2].rank != 2 || c->in[2].dtype == LM_QUANT)
        return lm_fail(ctx, LM_E_SHAPE, "matmul_add: got ta %d, fold %d, rank %d of input 2; wanted rows times a plain matrix", p->ta, p->fold,
                       c->in[2].rank);
    LM_TRY(lm_op_matmul.shape(ctx, &m, out));
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    return lm_want_dims(ctx, c, 0, out[0].rank, out[0].dim);
}
static void ref(const lm_call *c) {
    const lm_call m = product(c);
    lm_op_matmul.ref(&m);
    double *y = lm_f64(&c->out[0]); const double *h = lm_f64(&c->in[0]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] += h[i];
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 2.0 * (double)lm_numel(&c->out[0]) * (double)lm_cols(&c->in[1]);
}
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    const lm_matmul_p *p = params[0];
    (void)outs;
    memcpy(out, p, sizeof *p);
    return p->mm == LM_BF16 && !p->ta && !p->fold && in[2]->rank == 2 && in[2]->dtype != LM_QUANT && in[0]->rank == in[1]->rank;
}
static const char *const unites[] = { "X=matmul(x,w) S=add(h,X)", NULL };

static int64_t rows(const lm_call *c) { return lm_rows(&c->out[0]); }
static float rounded(float x, bool half) { return half ? lm_bf16_to_f32(lm_f32_to_bf16(x)) : x; }
static lm_err run(const lm_call *c, int64_t r, void *scratch) {
    (void)scratch;
    const lm_matmul_p *p = c->p;
    const lm_tensor *w = &c->in[2];
    const int64_t N = lm_cols(&c->out[0]), K = lm_cols(&c->in[1]), ld = lm_row_stride(w), step = p->tb ? 1 : ld;
    const float *x = (const float *)c->in[1].data + r * lm_row_stride(&c->in[1]), *h = (const float *)c->in[0].data + r * lm_row_stride(&c->in[0]);
    float *y = (float *)c->out[0].data + r * N;
    for (int64_t n = 0; n < N; n++) {
        const float *q = (const float *)w->data + n * (p->tb ? ld : 1);
        float s = 0;
        for (int64_t k = 0; k < K; k++) s += rounded(x[k], p->mm == LM_BF16) * rounded(q[k * step], p->mm == LM_BF16);
        y[n] = h[n] + s;
    }
    return LM_OK;
}
static const lm_kernel plain[] = {
    { .name = "matmul_add.f32", .order = "matmul_add", .accepts = lm_accepts_rows, .n_phase = 1, .phase = { { rows, run } } }, { 0 }
};
LM_CUDA_DECLARE(lm_k_matmul_add);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_matmul_add) plain, NULL };
#define P(...) &(const lm_matmul_p){ __VA_ARGS__ }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define F32 .tol = 2e-5, .tol_norm = 4e-6
#define BF .tol = 3e-2, .tol_norm = 6e-3
static const lm_sample samples[] = {
    { "1x1x1", P(0), { T2(1, 1), T2(1, 1), T2(1, 1) }, F32 },
    { "3x7x5", P(0), { T2(3, 5), T2(3, 7), T2(7, 5) }, F32 },
    { "nt 17x33x15", P(.tb = true), { T2(17, 15), T2(17, 33), T2(15, 33) }, F32 },
    { "rank 3", P(.tb = true), { { .rank = 3, .dim = { 3, 5, 34 } }, { .rank = 3, .dim = { 3, 5, 18 } }, T2(34, 18) }, F32 },
    { "bf16 nn 33x100x48", P(.mm = LM_BF16), { T2(33, 48), T2(33, 100), T2(100, 48) }, BF },
    { "bf16 nn 130x128x256", P(.mm = LM_BF16), { T2(130, 256), T2(130, 128), T2(128, 256) }, BF },
    { "bf16 nt 192x256x320", P(.tb = true, .mm = LM_BF16), { T2(192, 320), T2(192, 256), T2(320, 256) }, BF },
    { "bf16 one row", P(.tb = true, .mm = LM_BF16), { T2(1, 32), T2(1, 64), T2(32, 64) }, BF },
    { NULL }
};
const lm_op lm_op_matmul_add = { .name = "matmul_add",
                                 .math = "y = h + x W",
                                 .n_in = 3,
                                 .n_out = 1,
                                 .params_bytes = sizeof(lm_matmul_p),
                                 .mm_at = 1 + (int16_t)offsetof(lm_matmul_p, mm),
                                 .inplace_ok = true,
                                 .shape = shape,
                                 .ref = ref,
                                 .cost = cost,
                                 .kernels = kernels,
                                 .samples = samples,
                                 .unite_in = "hxw",
                                 .unite_out = "S",
                                 .unites = unites,
                                 .unite = unite };
