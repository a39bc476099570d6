/* rope_fp8.c — rope, concat, then quant_fp8. The processor's plans keep the three apart; its row is a plain one. */
#include "op/rope_fp8/rope_fp8.h"
#include "op/rule.h"
#include <stdlib.h>
#include <string.h>
enum { T = LM_FP8_TILE };

static bool turns(const lm_rope_p *p) { return p->d_head >= 16 && T % p->d_head == 0 && p->rotary == p->d_head && !p->interleaved; }
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_rope_fp8_p *p = c->p;
    const int64_t rows = c->in[0].dim[0], x = c->in[0].dim[1], v = c->in[2].dim[1];
    for (int i = 0; i < 3; i++) LM_TRY(lm_want(ctx, c, i, LM_ANY_FLOAT, 2, 2));
    if (!turns(&p->rope) || x % T || v % T)
        return lm_fail(ctx, LM_E_SHAPE, "rope_fp8: got %lld and %lld columns, %d of %d dimensions of a head turn%s; wanted multiples of %d and whole "
                       "heads by halves", (long long)x, (long long)v, p->rope.rotary, p->rope.d_head, p->rope.interleaved ? ", neighbours" : "", T);
    LM_TRY(lm_want_dims(ctx, c, 1, LM_DIMS(rows, p->rope.rotary)));
    LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(rows, v)));
    LM_TRY(lm_fp8_shape(ctx, "rope_fp8", rows, x + v, &p->to, out));
    out[4] = LM_TYPE(LM_I64, c->in[3].dim[0]);
    return LM_OK;
}
/* The number in row r, column c of the rotated x; at(t, r, c) reads. */
#define TURNED(at, type)                                                                                                        \
    static type at##_turned(const lm_call *c, int64_t r, int64_t col) {                                                         \
        const lm_rope_p *p = &((const lm_rope_fp8_p *)c->p)->rope;                                                              \
        const int64_t half = p->d_head / 2, k = col % p->d_head, i = k % half;                                                  \
        const type cs = at(&c->in[1], r, i), sn = p->inverse ? -at(&c->in[1], r, half + i) : at(&c->in[1], r, half + i),        \
            mine = at(&c->in[0], r, col), other = at(&c->in[0], r, k < half ? col + half : col - half);                         \
        return k < half ? mine * cs - other * sn : mine * cs + other * sn;                                                      \
    }
static double f64_at(const lm_tensor *t, int64_t r, int64_t c) { return lm_f64(t)[r * t->dim[1] + c]; }
static float f32_at(const lm_tensor *t, int64_t r, int64_t c) { return ((const float *)t->data)[r * lm_row_stride(t) + c]; }
TURNED(f64_at, double)
TURNED(f32_at, float)
static void ref(const lm_call *c) {
    const int64_t rows = c->in[0].dim[0], x = c->in[0].dim[1], cols = x + c->in[2].dim[1];
    double *y = malloc((size_t)(rows * cols) * sizeof *y + 8);
    for (int64_t r = 0; r < rows && y; r++)
        for (int64_t k = 0; k < cols; k++) y[r * cols + k] = k < x ? f64_at_turned(c, r, k) : f64_at(&c->in[2], r, k - x);
    if (y) lm_fp8_ref(&((const lm_rope_fp8_p *)c->p)->to, y, rows, cols, c->out, c->out[4].data);
    free(y);
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    const lm_quant_fp8_p *p = &((const lm_rope_fp8_p *)c->p)->to;
    const double x = (double)lm_numel(&c->in[0]), v = (double)lm_numel(&c->in[2]);
    *flops = x * 3 + (x + v) * 6;
    *bytes = x * (double)lm_dtype_size((lm_dtype)c->in[0].dtype) + v * (double)lm_dtype_size((lm_dtype)c->in[2].dtype) +
             (x + v) * (p->rows + p->cols) + 4 * (double)lm_numel(&c->in[1]);
}
static const char *const unites[] = { "Y=rope(x,t) C=concat(Y,v) Q,S,R,T,N=quant_fp8(C,n)", NULL };
static bool unite(const void *const *params, const lm_type *const *in, uint32_t outs, void *out) {
    (void)outs;
    lm_rope_fp8_p *p = out;
    memcpy(&p->rope, params[0], sizeof p->rope); memcpy(&p->to, params[2], sizeof p->to);
    return turns(&p->rope) && !p->to.blocks && !p->to.square && in[0]->dim[1] % T == 0 && in[2] && in[2]->rank == 2 && in[2]->dim[1] % T == 0;
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 4; i++) if (c->out[i].rank && (!lm_is_contig(&c->out[i]) || c->out[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3))) return false;
    for (int i = 0; i < 3; i++) if (c->in[i].dtype != LM_F32 || c->in[i].layout != LM_PLAIN || !lm_rows_fold(&c->in[i])) return false;
    return true;
}
static int64_t across(const lm_call *c) { return (c->in[0].dim[1] + c->in[2].dim[1]) / T; }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], T) * across(c); }
static lm_err run(const lm_call *c, int64_t i, void *scratch) {
    float *y = scratch;
    const int64_t x = c->in[0].dim[1], r0 = i / across(c) * T, c0 = i % across(c) * T, n = lm_min64(T, c->in[0].dim[0] - r0);
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < T; k++) y[r * T + k] = c0 < x ? f32_at_turned(c, r0 + r, c0 + k) : f32_at(&c->in[2], r0 + r, c0 - x + k);
    lm_fp8_tile(&((const lm_rope_fp8_p *)c->p)->to, y, T, r0, c0, n, c->out, c->out[4].data);
    return LM_OK;
}
static size_t room(const lm_call *c) { (void)c; return (size_t)T * T * sizeof(float); }
static const lm_kernel plain[] = { { .name = "rope_fp8.portable", .order = "rope_fp8", .accepts = accepts, .thread_bytes = room, .n_phase = 1,
    .phase = { { tiles, run } } }, { 0 } };
LM_CUDA_DECLARE(lm_k_rope_fp8);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_rope_fp8) plain, NULL };
#define P(d, back, ...) &(const lm_rope_fp8_p){ .rope = { d, d, false, back }, .to = { __VA_ARGS__, .group = LM_FP8_GRADIENT } }
#define X(r, c) { .rank = 2, .dim = { r, c } }
#define N { .rank = 1, .dim = { 12 }, .dtype = LM_I64, .fill = LM_FILL_IOTA }
#define F .tol = 0.13, .tol_norm = 5e-3            /* a number on the edge between two codes is one of them or the other */
static const lm_sample samples[] = {
    { "a head of 128, back", P(128, true, .rows = true, .cols = true), { X(128, 128), X(128, 128), X(128, 128), N }, F },
    { "heads of 64, rows short of a tile", P(64, true, .rows = true, .cols = true), { X(150, 256), X(150, 64), X(150, 128), N }, F },
    { "heads of 16, forth, by rows", P(16, false, .rows = true), { X(70, 128), X(70, 16), X(70, 256), N }, F },
    { "heads of 128, transposed", P(128, true, .cols = true), { X(40, 384), X(40, 128), X(40, 128), N }, F },
    { NULL }
};
const lm_op lm_op_rope_fp8 = { .name = "rope_fp8", .math = "q s ~ y, qt st ~ yT in e4m3 for y = [rope(x) v]", .n_in = 4, .n_out = 5,
    .params_bytes = sizeof(lm_rope_fp8_p), .alias = { 0, 0, 0, 0, 4 }, .opaque = 15, .shape = shape, .ref = ref, .cost = cost, .kernels = kernels,
    .samples = samples, .unite_in = "xtvn", .unite_out = "QSRTN", .unites = unites, .unite = unite };
