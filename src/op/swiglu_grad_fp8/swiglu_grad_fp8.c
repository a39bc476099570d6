/* swiglu_grad_fp8.c — swiglu_grad, then quant_fp8 of both. The processor's plans keep them apart; its row is a plain one. */
#include "op/swiglu_grad_fp8/swiglu_grad_fp8.h"
#include "op/rule.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { T = LM_FP8_TILE };

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_swiglu_grad_fp8_p *p = c->p;
    const int64_t rows = c->in[0].dim[0], cols = c->in[0].dim[1];
    for (int i = 0; i < 3; i++) { LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 2, 2)); LM_TRY(lm_want_dims(ctx, c, i, LM_DIMS(rows, cols))); }
    for (int i = 0; i < 2; i++) LM_TRY(lm_fp8_shape(ctx, "swiglu_grad_fp8", rows, cols, &p->of[i], out + 4 * i));
    if (p->beside) {
        memset(out + 4, 0, 4 * sizeof *out);
        LM_TRY(lm_fp8_shape(ctx, "swiglu_grad_fp8", rows, 2 * cols, &p->of[0], out));
    }
    out[8] = LM_TYPE(LM_I64, c->in[3].dim[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_swiglu_grad_fp8_p *p = c->p;
    const double *g = lm_f64(&c->in[0]), *a = lm_f64(&c->in[1]), *b = lm_f64(&c->in[2]);
    const int64_t n = lm_numel(&c->in[0]);
    const int64_t rows = c->in[0].dim[0], cols = c->in[0].dim[1], ld = p->beside ? 2 * cols : cols, db = p->beside ? cols : n;
    double *y = malloc((size_t)n * 2 * sizeof *y + 8);
    for (int64_t i = 0; i < n && y; i++) {
        const double s = 1 / (1 + exp(-a[i]));
        double *to = y + i / cols * ld + i % cols;
        to[0] = g[i] * b[i] * s * (1 + a[i] * (1 - s)); to[db] = g[i] * a[i] * s;
    }
    if (y && p->beside) lm_fp8_ref(&p->of[0], y, rows, ld, c->out, c->out[8].data);
    else for (int i = 0; i < 2 && y; i++) lm_fp8_ref(&p->of[i], y + i * n, rows, cols, c->out + 4 * i, c->out[8].data);
    free(y);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_swiglu_grad_fp8_p *p = c->p;
    const double n = (double)lm_numel(&c->in[0]);
    *flops = n * 24; *bytes = 0;
    for (int i = 0; i < 3; i++) *bytes += n * (double)lm_dtype_size((lm_dtype)c->in[i].dtype);
    for (int i = 0; i < 2; i++) *bytes += n * (p->of[i].rows + p->of[i].cols);
}
/* the gradient of a product that is both; or of two, where the counts pass through one of them first */
static const char *const unites[] = { "A,B=swiglu_grad(g,a,b) C=concat(A,B) Q,S,R,T,M=quant_fp8(C,n)",
                                      "A,B=swiglu_grad(g,a,b) E,F,G,H,N=quant_fp8(B,n) Q,S,R,T,M=quant_fp8(A,N)",
                                      "A,B=swiglu_grad(g,a,b) Q,S,R,T,N=quant_fp8(A,n) E,F,G,H,M=quant_fp8(B,N)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)in;
    lm_swiglu_grad_fp8_p *p = out;
    p->beside = !(outs >> 4 & 15);
    for (int i = 0; i < 2; i++) memcpy(&p->of[i], params[p->beside ? 2 : 1 + i], sizeof p->of[i]);
    return !memcmp(&p->of[0], &p->of[1], sizeof p->of[0]) && !p->of[0].blocks && !p->of[0].square;     /* alike, so which came first is no matter */
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 8; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3))) return false;
    for (int i = 0; i < 3; i++) if (c->in[i].dtype != LM_F32 || c->in[i].layout != LM_PLAIN || !lm_rows_fold(&c->in[i])) return false;
    return true;
}
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], T) * (c->in[0].dim[1] / T); }
static float at(const lm_tensor *t, int64_t r, int64_t c) { return ((const float *)t->data)[r * lm_row_stride(t) + c]; }
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    const lm_swiglu_grad_fp8_p *p = c->p;
    float *y = scratch;
    const int64_t across = c->in[0].dim[1] / T, r0 = i / across * T, c0 = i % across * T, n = lm_min64(T, c->in[0].dim[0] - r0);
    for (int64_t r = 0; r < n; r++) for (int64_t k = 0; k < T; k++) {
        const float g = at(&c->in[0], r0 + r, c0 + k), a = at(&c->in[1], r0 + r, c0 + k), s = 1 / (1 + expf(-a));
        y[r * T + k] = g * at(&c->in[2], r0 + r, c0 + k) * (s * (1 + a * (1 - s)));
        y[T * T + r * T + k] = g * (a * s);
    }
    for (int q = 0; q < 2; q++)
        lm_fp8_tile(&p->of[q], y + q * T * T, T, r0, c0 + (p->beside ? q * c->in[0].dim[1] : 0), n, c->out + (p->beside ? 0 : 4 * q), c->out[8].data);
    return LM_OK;
}
static size_t room(const lm_call *c) { (void)c; return (size_t)T * T * 2 * sizeof(float); }
static const lm_kernel plain[] = { { .name = "swiglu_grad_fp8.portable", .order = "swiglu_grad_fp8", .accepts = accepts, .thread_bytes = room,
    .n_phase = 1, .phase = { { tiles, run } } },
                                   { 0 } };
LM_CUDA_DECLARE(lm_k_swiglu_grad_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_swiglu_grad_fp8) plain, NULL };
#define P(...) &(const lm_swiglu_grad_fp8_p){ .of = { { __VA_ARGS__ }, { __VA_ARGS__ } } }
#define BESIDE(...) &(const lm_swiglu_grad_fp8_p){ .of = { { __VA_ARGS__ }, { __VA_ARGS__ } }, .beside = true }
#define X(r, c) { .rank = 2, .dim = { r, c } }
#define X3(r, c) X(r, c), X(r, c), X(r, c)
#define N { .rank = 1, .dim = { 12 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
#define F .tol = 0.13, .tol_norm = 5e-3            /* a number on the edge between two codes is one of them or the other */
static const lm_sample samples[] = {
    { "one tile", P(.rows = true, .cols = true, .group = LM_FP8_GRADIENT), { X3(128, 128), N }, F },
    { "rows short of a tile", P(.rows = true, .cols = true, .group = LM_FP8_GRADIENT), { X3(150, 256), N }, F },
    { "transposed alone", P(.cols = true), { X3(70, 128), N }, F },
    { "side by side", BESIDE(.rows = true, .cols = true, .group = LM_FP8_GRADIENT), { X3(150, 256), N }, F },
    { "side by side, by rows", BESIDE(.rows = true), { X3(70, 128), N }, F },
    { NULL }
};
const lm_op lm_op_swiglu_grad_fp8 = { .name = "swiglu_grad_fp8", .math = "swiglu_grad's da and db in e4m3, by rows and transposed", .n_in = 4,
    .n_out = 9,
    .params_bytes = sizeof(lm_swiglu_grad_fp8_p), .alias = { 0, 0, 0, 0, 0, 0, 0, 0, 4 }, .opaque = 15, .shape = shape, .ref = ref, .cost = cost,
    .kernels = kernels, .samples = samples, .unite_in = "gabn", .unite_out = "QSRTEFGHM", .unites = unites, .unite = unite };
