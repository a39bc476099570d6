/* matmul_squares.c — shape and truth of y are matmul's. The processor's row is a plain one: its plans read gradients for the norm. */
#include <stddef.h>
#include "op/matmul_squares/matmul_squares.h"
#include "op/rule.h"

int64_t lm_squares_of(int64_t rows, int64_t cols) { return lm_ceil_div(rows, LM_SQUARES_ROWS) * lm_ceil_div(cols, LM_SQUARES_COLS); }
static lm_call product(const lm_call *c) { lm_call m = *c; m.n_in = 2; m.n_out = 1; return m; }
static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_p *p = c->p;
    const lm_call m = product(c);
    if (!p->ta || p->tb) return lm_fail(ctx, LM_E_SHAPE, "matmul_squares: got ta %d, tb %d; wanted ta alone", p->ta, p->tb);
    LM_TRY(lm_op_matmul.shape(ctx, &m, out));
    if (out[0].rank != 2) return lm_fail(ctx, LM_E_SHAPE, "matmul_squares: got rank %d, wanted one matrix (fold)", out[0].rank);
    LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 2, 2)); LM_TRY(lm_want_dims(ctx, c, 2, 2, out[0].dim));
    LM_TRY(lm_want(ctx, c, 3, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 3, LM_DIMS(lm_squares_of(out[0].dim[0], out[0].dim[1]))));
    out[0] = lm_type_like(&c->in[2]); out[1] = lm_type_like(&c->in[3]);
    out[0].ext[0] = out[1].ext[0] = LM_NO_EXTENT;
    return LM_OK;
}
static void ref(const lm_call *c) {
    const lm_call p = product(c);
    lm_op_matmul.ref(&p);
    const int64_t M = c->out[0].dim[0], N = c->out[0].dim[1], across = lm_ceil_div(N, LM_SQUARES_COLS);
    const double *y = lm_f64(&c->out[0]); double *s = lm_f64(&c->out[1]);
    for (int64_t i = 0; i < lm_numel(&c->out[1]); i++) s[i] = 0;
    for (int64_t m = 0; m < M; m++)
        for (int64_t n = 0; n < N; n++) s[m / LM_SQUARES_ROWS * across + n / LM_SQUARES_COLS] += y[m * N + n] * y[m * N + n];
}
static void cost(const lm_call *c, double *flops, double *bytes) {
    *bytes -= (double)(lm_numel(&c->in[2]) * (int64_t)lm_dtype_size((lm_dtype)c->in[2].dtype));              /* written, not read */
    *flops = 2.0 * (double)lm_numel(&c->out[0]) * (double)lm_rows(&c->in[0]);
}
static float rounded(float x, bool half) { return half ? lm_bf16_to_f32(lm_f32_to_bf16(x)) : x; }
static int64_t tiles(const lm_call *c) { return lm_ceil_div(c->out[0].dim[0], LM_SQUARES_ROWS); }
static lm_err run(const lm_call *c, int64_t t, void *scratch) {
    (void)scratch;
    const bool half = ((const lm_matmul_p *)c->p)->mm == LM_BF16, small = c->out[0].dtype == LM_BF16;
    const lm_tensor *a = &c->in[0], *b = &c->in[1], *y = &c->out[0];
    const int64_t M = y->dim[0], N = y->dim[1], K = lm_rows(a), across = lm_ceil_div(N, LM_SQUARES_COLS);
    const int64_t end = lm_min64(M, (t + 1) * LM_SQUARES_ROWS);
    for (int64_t q = 0; q < across; q++) {
        float sum = 0;
        const int64_t right = lm_min64(N, (q + 1) * LM_SQUARES_COLS);
        for (int64_t m = t * LM_SQUARES_ROWS; m < end; m++) for (int64_t n = q * LM_SQUARES_COLS; n < right; n++) {
            const float *u = (const float *)a->data + m, *v = (const float *)b->data + n;
            float s = 0;
            for (int64_t k = 0; k < K; k++) s += rounded(u[k * lm_row_stride(a)], half) * rounded(v[k * lm_row_stride(b)], half);
            s = rounded(s, small);
            if (small) ((uint16_t *)y->data)[m * N + n] = lm_f32_to_bf16(s); else ((float *)y->data)[m * N + n] = s;
            sum += s * s;
        }
        ((float *)c->out[1].data)[t * across + q] = sum;
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) {
    const lm_tensor *y = &c->out[0];
    const lm_call p = { .n_in = 2, .in = { c->in[0], c->in[1] } };
    if (!lm_accepts_rows(&p) || ((const lm_matmul_p *)c->p)->mm == LM_I8 || !lm_is_f32_vec(&c->out[1])) return false;
    return (y->dtype == LM_F32 || y->dtype == LM_BF16) && y->layout == LM_PLAIN && lm_is_contig(y);
}
static const lm_kernel plain[] = {
    { .name = "matmul_squares.f32", .order = "matmul_squares", .accepts = accepts, .n_phase = 1, .phase = { { tiles, run } } }, { 0 }
};
LM_CUDA_DECLARE(lm_k_matmul_squares);
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_matmul_squares) plain, NULL };
lm_value *lm_matmul_squares(lm_graph *g, lm_value *a, lm_value *b, lm_value *y, lm_value *s, const lm_matmul_p *p) {
    return lm_emit(g, &lm_op_matmul_squares, p, 4, (lm_value *[]){ a, b, y, s });
}

#define P(...) &(const lm_matmul_p){ .ta = true, __VA_ARGS__ }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define F32 .tol = 4e-5, .tol_norm = 1e-5
#define BF .tol = 4e-2, .tol_norm = 1e-2
#define Y(r, c, type) { .rank = 2, .dim = { r, c }, .dtype = type }, { .rank = 1, .dim = { ((r) + 15) / 16 * (((c) + 255) / 256) } }
static const lm_sample samples[] = {
    { "1x1x1", P(0), { T2(1, 1), T2(1, 1), Y(1, 1, LM_F32) }, F32 },
    { "17x33, 5 rows", P(0), { T2(5, 17), T2(5, 33), Y(17, 33, LM_F32) }, F32 },
    { "fold", P(.fold = true), { { .rank = 3, .dim = { 3, 7, 34 } }, { .rank = 3, .dim = { 3, 7, 260 } }, Y(34, 260, LM_F32) }, F32 },
    { "bf16 16x256, 40 rows", P(.mm = LM_BF16), { T2(40, 16), T2(40, 256), Y(16, 256, LM_F32) }, BF },
    { "bf16 136x520, 96 rows", P(.mm = LM_BF16), { T2(96, 136), T2(96, 520), Y(136, 520, LM_BF16) }, BF },
    { NULL }
};
const lm_op lm_op_matmul_squares = { .name = "matmul_squares",
                                     .math = "y = a^T b; s = sums of y^2 over blocks",
                                     .n_in = 4,
                                     .n_out = 2,
                                     .alias = { 3, 4 },
                                     .pure_write = true,
                                     .params_bytes = sizeof(lm_matmul_p),
                                     .mm_at = 1 + (int16_t)offsetof(lm_matmul_p, mm),
                                     .shape = shape,
                                     .ref = ref,
                                     .cost = cost,
                                     .kernels = kernels,
                                     .samples = samples };
