/* swiglu_fp8.c — swiglu, then quant_fp8. The processor's plans keep the two apart; its row is a plain one. */
#include "op/swiglu_fp8/swiglu_fp8.h"
#include "op/rule.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
enum { T = LM_FP8_TILE };

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 2, 2));
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(c->in[0].dim[0], c->in[0].dim[1])));
    LM_TRY(lm_fp8_shape(ctx, "swiglu_fp8", c->in[0].dim[0], c->in[0].dim[1], c->p, out));
    out[4] = LM_TYPE(LM_I64, c->in[2].dim[0]);
    return LM_OK;
}
static void ref(const lm_call *c) {
    const double *a = lm_f64(&c->in[0]), *b = lm_f64(&c->in[1]);
    const int64_t n = lm_numel(&c->in[0]);
    double *y = malloc((size_t)n * sizeof *y + 8);
    for (int64_t i = 0; i < n && y; i++) y[i] = a[i] / (1 + exp(-a[i])) * b[i];
    if (y) lm_fp8_ref(c->p, y, c->in[0].dim[0], c->in[0].dim[1], c->out, c->out[4].data);
    free(y);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_quant_fp8_p *p = c->p;
    const double n = (double)lm_numel(&c->in[0]);
    *flops = n * 12;
    *bytes = n * ((double)lm_dtype_size((lm_dtype)c->in[0].dtype) + (double)lm_dtype_size((lm_dtype)c->in[1].dtype) + p->rows + p->cols);
}
static const char *const unites[] = { "Y=swiglu(a,b) Q,S,R,T,N=quant_fp8(Y,n)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)in; (void)outs;
    memcpy(out, params[1], sizeof(lm_quant_fp8_p));
    return !((const lm_quant_fp8_p *)out)->blocks;
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 4; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3))) return false;
    for (int i = 0; i < 2; i++) if (c->in[i].dtype != LM_F32 || c->in[i].layout != LM_PLAIN || !lm_rows_fold(&c->in[i])) return false;
    return true;
}
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], T) * (c->in[0].dim[1] / T); }
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    float *y = scratch;
    const int64_t across = c->in[0].dim[1] / T, r0 = i / across * T, c0 = i % across * T, n = lm_min64(T, c->in[0].dim[0] - r0);
    for (int64_t r = 0; r < n; r++) for (int64_t k = 0; k < T; k++) {
        const float a = ((const float *)c->in[0].data)[(r0 + r) * lm_row_stride(&c->in[0]) + c0 + k];
        y[r * T + k] = a / (1 + expf(-a)) * ((const float *)c->in[1].data)[(r0 + r) * lm_row_stride(&c->in[1]) + c0 + k];
    }
    lm_fp8_tile(c->p, y, T, r0, c0, n, c->out, c->out[4].data);
    return LM_OK;
}
static size_t room(const lm_call *c) { (void)c; return (size_t)T * T * sizeof(float); }
static const lm_kernel plain[] = { { .name = "swiglu_fp8.portable", .order = "swiglu_fp8", .accepts = accepts, .thread_bytes = room, .n_phase = 1,
    .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_swiglu_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_swiglu_fp8) plain, NULL };
#define P(...) &(const lm_quant_fp8_p){ __VA_ARGS__ }
#define X(r, c) { .rank = 2, .dim = { r, c } }
#define N { .rank = 1, .dim = { 12 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
#define F .tol = 0.13, .tol_norm = 5e-3            /* a number on the edge between two codes is one of them or the other */
static const lm_sample samples[] = {
    { "one tile", P(.rows = true, .cols = true), { X(128, 128), X(128, 128), N }, F },
    { "rows short of a tile", P(.rows = true, .cols = true), { X(150, 256), X(150, 256), N }, F },
    { "square", P(.rows = true, .cols = true, .square = true), { X(150, 256), X(150, 256), N }, F },
    { "by rows alone", P(.rows = true), { X(70, 128), X(70, 128), N }, F },
    { NULL }
};
const lm_op lm_op_swiglu_fp8 = { .name = "swiglu_fp8", .math = "q s ~ y, qt st ~ yT in e4m3 for y = silu(a) b", .n_in = 3, .n_out = 5,
    .params_bytes = sizeof(lm_quant_fp8_p), .alias = { 0, 0, 0, 0, 3 }, .opaque = 7, .shape = shape, .ref = ref, .cost = cost, .kernels = kernels,
    .samples = samples, .unite_in = "abn", .unite_out = "QSRTN", .unites = unites, .unite = unite };
