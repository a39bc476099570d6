/* matmul_gelu.c — shape and truth are matmul's. */
#include "op/matmul_gelu/matmul_gelu.h"
#include "op/gelu/gelu.h"
#include "op/rule.h"
#include <math.h>

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_gelu_p *p = c->p;
    if (p->mm.ta || p->mm.fold || c->in[1].rank != 2 || c->in[1].dtype == LM_QUANT)
        return lm_fail(ctx, LM_E_SHAPE, "matmul_gelu: got ta %d, fold %d, rank %d of input 1; wanted rows times a plain matrix", p->mm.ta,
                       p->mm.fold, c->in[1].rank);
    LM_TRY(lm_op_matmul.shape(ctx, c, out));
    out[1] = out[0];
    return LM_OK;
}
static void ref(const lm_call *c) {
    lm_op_matmul.ref(c);
    const double *h = lm_f64(&c->out[0]); double *y = lm_f64(&c->out[1]);
    for (int64_t i = 0, n = lm_numel(&c->out[0]); i < n; i++) y[i] = h[i] * 0.5 * (1 + tanh(sqrt(2 / M_PI) * (h[i] + 0.044715 * h[i] * h[i] * h[i])));
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    *flops = 2.0 * (double)lm_numel(&c->out[0]) * (double)lm_cols(&c->in[0]);
}
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    const lm_matmul_p *p = params[0];
    (void)outs;
    ((lm_matmul_gelu_p *)out)->mm = *p;
    return ((const lm_gelu_p *)params[1])->tanh && p->mm == LM_BF16 && !p->ta && !p->fold && in[1]->rank == 2 && in[1]->dtype != LM_QUANT && in[2];
}
static const char *const unites[] = { "H=matmul(x,w,b) Y=gelu(H)", NULL };

LM_SIMD_CUDA_KERNELS(lm_k_matmul_gelu);
#define P(...) &(const lm_matmul_gelu_p){ { __VA_ARGS__ } }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define V(n) { .rank = 1, .dim = { n } }
#define F32 .tol = 2e-5, .tol_norm = 4e-6
#define BF .tol = 3e-2, .tol_norm = 6e-3
static const lm_sample samples[] = { { "1x1x1", P(0), { T2(1, 1), T2(1, 1), V(1) }, F32 },
                                     { "3x7x5, no bias", P(0), { T2(3, 7), T2(7, 5) }, F32 },
                                     { "nt 17x33x15", P(.tb = true), { T2(17, 33), T2(15, 33), V(15) }, F32 },
                                     { "rank 3", P(.tb = true), { { .rank = 3, .dim = { 3, 5, 18 } }, T2(34, 18), V(34) }, F32 },
                                     { "bf16 nn 33x100x48", P(.mm = LM_BF16), { T2(33, 100), T2(100, 48), V(48) }, BF },
                                     { "bf16 nn 130x128x256", P(.mm = LM_BF16), { T2(130, 128), T2(128, 256), V(256) }, BF },
                                     { "bf16 nt 192x256x320", P(.tb = true, .mm = LM_BF16), { T2(192, 256), T2(320, 256), V(320) }, BF },
                                     { "bf16 one row", P(.tb = true, .mm = LM_BF16), { T2(1, 64), T2(32, 64), V(32) }, BF },
                                     { NULL } };
const lm_op lm_op_matmul_gelu = { .name = "matmul_gelu",
                                  .math = "h = x W + bias, y = gelu(h), tanh form",
                                  .n_in = 2,
                                  .n_opt = 1,
                                  .n_out = 2,
                                  .params_bytes = sizeof(lm_matmul_gelu_p),
                                  .mm_at = 1 + (int16_t)(offsetof(lm_matmul_gelu_p, mm) + offsetof(lm_matmul_p, mm)),
                                  .shape = shape,
                                  .ref = ref,
                                  .cost = cost,
                                  .kernels = lm_k_matmul_gelu,
                                  .samples = samples,
                                  .unite_in = "xwb",
                                  .unite_out = "HY",
                                  .unites = unites,
                                  .unite = unite };
