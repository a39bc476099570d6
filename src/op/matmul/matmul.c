/* matmul.c — the row of the matrix product: shapes, truth, gradients, samples. The kernels are in gemm_*.c, q8_*.c and qk_vnni.c. */
#include "op/matmul/matmul.h"
#include "op/matmul/gemm.h"
#include "op/sum_rows/sum_rows.h"
#include "op/rule.h"

typedef struct { bool batched; int64_t batch, M, N, K, bk; } dims_t;   /* bk: the reduction as b has it */

static dims_t dims_of(const lm_call *c) {
    const lm_matmul_p *p = c->p;
    const lm_tensor *a = &c->in[0], *b = &c->in[1];
    dims_t d = { .batched = a->rank == 3 && b->rank == 3 && !p->fold };
    const int64_t ar = d.batched ? a->dim[1] : lm_rows(a), br = d.batched ? b->dim[1] : lm_rows(b);
    d.batch = d.batched ? a->dim[0] : 1;
    d.M = p->ta ? lm_cols(a) : ar;
    d.K = p->ta ? ar : lm_cols(a);
    d.N = p->tb ? br : lm_cols(b);
    d.bk = p->tb ? lm_cols(b) : br;
    return d;
}

static lm_err shape(lm_ctx *ctx, const lm_call *c, lm_type *out) {
    const lm_matmul_p *p = c->p;
    const lm_tensor *a = &c->in[0], *b = &c->in[1];
    LM_TRY(lm_want(ctx, c, 0, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    if (b->dtype == LM_QUANT) {
        if (!p->tb || b->rank != 2)
            return lm_fail(ctx, LM_E_SHAPE, "matmul: input 1 is quantized: wanted a matrix (N, K) and tb, got rank %d%s", b->rank,
                           p->tb ? "" : " without tb");
    } else LM_TRY(lm_want(ctx, c, 1, LM_ANY_FLOAT, 2, LM_MAX_RANK));
    if (p->fold && (!p->ta || p->tb || a->rank != b->rank))
        return lm_fail(ctx, LM_E_SHAPE, "matmul: fold wants ta without tb and inputs of one rank, got ta %d, tb %d, ranks %d and %d", p->ta,
                       p->tb, a->rank, b->rank);
    if (p->mm != LM_F32 && p->mm != LM_BF16 && p->mm != LM_I8)
        return lm_fail(ctx, LM_E_CONFIG, "matmul: mm: got %s, wanted F32, BF16 or I8", lm_dtype_name(p->mm));
    const bool both3 = a->rank == 3 && b->rank == 3;
    if (!p->fold && !both3 && (b->rank != 2 || (p->ta && a->rank != 2)))
        return lm_fail(ctx, LM_E_SHAPE, "matmul: got ranks %d%s and %d, wanted a matrix on the right, or rank 3 on both sides", a->rank,
                       p->ta ? " transposed" : "", b->rank);
    if (both3 && !p->fold && a->dim[0] != b->dim[0])
        return lm_fail(ctx, LM_E_SHAPE, "matmul: batches differ: %lld and %lld", (long long)a->dim[0], (long long)b->dim[0]);
    if (p->fold) for (int i = 0; i + 2 < a->rank; i++) if (a->dim[i] != b->dim[i])
        return lm_fail(ctx, LM_E_SHAPE, "matmul: fold: dimension %d differs: %lld and %lld", i, (long long)a->dim[i], (long long)b->dim[i]);
    const dims_t d = dims_of(c);
    if (d.K != d.bk)
        return lm_fail(ctx, LM_E_SHAPE, "matmul: the summed dimensions differ: %lld in input 0, %lld in input 1 (ta %d, tb %d)",
                       (long long)d.K, (long long)d.bk, p->ta, p->tb);
    if (lm_has(c, 2)) { LM_TRY(lm_want(ctx, c, 2, LM_ANY_FLOAT, 1, 1)); LM_TRY(lm_want_dims(ctx, c, 2, LM_DIMS(d.N))); }
    if (p->ta && !d.batched) { out[0] = LM_TYPE(LM_F32, d.M, d.N); out[0].ext[0] = LM_NO_EXTENT; return LM_OK; }
    if (d.batched) out[0] = LM_TYPE(LM_F32, d.batch, d.M, d.N);
    else if (p->ta || a->rank == 2) out[0] = LM_TYPE(LM_F32, d.M, d.N);
    else { out[0] = lm_type_like(a); out[0].dtype = LM_F32; out[0].dim[a->rank - 1] = d.N; }
    return LM_OK;
}

static void ref(const lm_call *c) {
    const lm_matmul_p *p = c->p;
    const dims_t d = dims_of(c);
    const double *bias = lm_has(c, 2) ? lm_f64(&c->in[2]) : NULL;
    for (int64_t s = 0; s < d.batch; s++) {
        const double *a = lm_f64(&c->in[0]) + s * d.M * d.K, *b = lm_f64(&c->in[1]) + s * d.N * d.K;
        double *o = lm_f64(&c->out[0]) + s * d.M * d.N;
        for (int64_t m = 0; m < d.M; m++)
            for (int64_t n = 0; n < d.N; n++) {
                double t = 0;
                for (int64_t k = 0; k < d.K; k++) t += (p->ta ? a[k * d.M + m] : a[m * d.K + k]) * (p->tb ? b[n * d.K + k] : b[k * d.N + n]);
                if (bias) t += bias[n];
                o[m * d.N + n] = c->acc & 1 ? o[m * d.N + n] + t : t;
            }
    }
}

static void cost(const lm_call *c, double *flops, double *bytes) {
    (void)bytes;
    const dims_t d = dims_of(c);
    *flops = 2.0 * (double)d.batch * (double)d.M * (double)d.N * (double)d.K;
}

/* ---- gradients ------------------------------------------------------------------------------------------------------------ */
static lm_value *product(lm_graph *g, lm_value *a, lm_value *b, bool ta, bool tb, bool fold, lm_dtype mm) {
    const lm_matmul_p p = { .ta = ta, .tb = tb, .fold = fold, .mm = mm };
    return lm_emit(g, &lm_op_matmul, &p, 2, (lm_value *[]){ a, b });
}
static lm_err grad(lm_graph *g, lm_grad *d) {
    const lm_matmul_p *p = d->p;
    lm_value *a = d->in[0], *b = d->in[1], *y = d->gout[0];
    const int ra = lm_type_of(a)->rank, rb = lm_type_of(b)->rank;
    const bool folded = p->fold || (ra > 2 && rb == 2);          /* leading dimensions are rows of one matrix */
    if (!y) return LM_OK;
    if (d->want[0]) d->gin[0] = p->ta ? (p->fold ? product(g, b, y, false, true, false, p->mm) : product(g, b, y, p->tb, true, false, p->mm))
                                      : product(g, y, b, false, !p->tb, false, p->mm);
    if (d->want[1]) {
        if (p->fold) d->gin[1] = product(g, a, y, false, false, false, p->mm);
        else if (p->tb) d->gin[1] = product(g, y, a, true, p->ta, folded, p->mm);
        else d->gin[1] = product(g, a, y, !p->ta, false, folded && !p->ta, p->mm);
    }
    if (d->n_in > 2 && d->in[2] && d->want[2]) d->gin[2] = lm_sum_rows(g, y);
    return LM_OK;
}

/* ---- builders ------------------------------------------------------------------------------------------------------------- */
lm_value *lm_matmul_mm(lm_graph *g, lm_value *a, lm_value *b, lm_value *bias, bool ta, bool tb, lm_dtype mm) {
    const lm_matmul_p p = { .ta = ta, .tb = tb, .mm = mm };
    return lm_emit(g, &lm_op_matmul, &p, bias ? 3 : 2, (lm_value *[]){ a, b, bias });
}
lm_value *lm_matmul(lm_graph *g, lm_value *a, lm_value *b, bool ta, bool tb) { return lm_matmul_mm(g, a, b, NULL, ta, tb, LM_F32); }
lm_value *lm_linear(lm_graph *g, lm_value *x, lm_value *w, lm_value *bias) { return lm_matmul_mm(g, x, w, bias, false, true, LM_F32); }

/* ---- a call as the kernels' problem ----------------------------------------------------------------------------------------- */
void lm_gemm_of(const lm_call *c, lm_gemm *g) {
    const lm_matmul_p *p = c->p;
    const dims_t d = dims_of(c);
    *g = (lm_gemm){ .batch = d.batch, .M = d.M, .N = d.N, .K = d.K, .a = lm_mat_of(&c->in[0], !p->ta), .b = lm_mat_of(&c->in[1], p->tb),
                    .c = c->out[0].data, .c_rs = lm_row_stride(&c->out[0]), .c_bs = d.batched ? c->out[0].stride[0] : 0,
                    .acc = c->acc & 1, .round = p->mm == LM_BF16 };
    if (lm_has(c, 2)) { g->bias = c->in[2].data; g->bias_dtype = (lm_dtype)c->in[2].dtype; }
}

static bool plain_rows(const lm_tensor *t, bool batched) {
    if ((t->dtype != LM_F32 && t->dtype != LM_BF16) || t->layout != LM_PLAIN) return false;
    return batched ? lm_cols(t) <= 1 || t->stride[t->rank - 1] == 1 : lm_rows_fold(t);
}
/* What all float kernels can read. */
bool lm_gemm_accepts(const lm_call *c) {
    const dims_t d = dims_of(c);
    const lm_matmul_p *p = c->p;
    const lm_tensor *b = &c->in[1], *o = &c->out[0];
    if (o->dtype != LM_F32 || !plain_rows(o, d.batched) || !plain_rows(&c->in[0], d.batched)) return false;
    if (lm_has(c, 2) && (!plain_rows(&c->in[2], false))) return false;
    if (b->dtype == LM_QUANT)
        return (b->layout == LM_PLAIN || (b->layout == LM_PANEL16 && p->mm == LM_I8)) && b->quant && d.K % b->quant->block == 0 && b->quant->block <= LM_GEMM_KC;
    if (b->layout == LM_PANEL16) return b->dtype == LM_F32 && b->rank == 2;
    if (b->layout == LM_PANEL16X2) return b->dtype == LM_BF16 && b->rank == 2;
    return plain_rows(b, d.batched);
}
bool lm_gemm_accepts_f32(const lm_call *c) { return ((const lm_matmul_p *)c->p)->mm == LM_F32 && lm_gemm_accepts(c); }
bool lm_gemm_accepts_bf16(const lm_call *c) { return ((const lm_matmul_p *)c->p)->mm == LM_BF16 && lm_gemm_accepts(c); }

extern const lm_kernel lm_k_matmul_amx[], lm_k_matmul_dp[], lm_k_matmul_avx512[], lm_k_matmul_avx2[], lm_k_matmul_portable[];
LM_CUDA_DECLARE(lm_k_matmul); LM_CUDA_DECLARE(lm_k_matmul_half);
extern const lm_kernel lm_k_matmul_q8_vnni[], lm_k_matmul_q8_avx2[], lm_k_matmul_q8_plain[];
static const lm_kernel *const kernels[] = { LM_CUDA_ROWS(lm_k_matmul) LM_CUDA_ROWS(lm_k_matmul_half) lm_k_matmul_amx,
                                            lm_k_matmul_dp,
                                            lm_k_matmul_avx512,
                                            lm_k_matmul_avx2,
                                            lm_k_matmul_portable,
                                            lm_k_matmul_q8_vnni,
                                            lm_k_matmul_q8_avx2,
                                            lm_k_matmul_q8_plain,
                                            NULL };

/* ---- samples ------------------------------------------------------------------------------------------------------------------ */
#define P(...) &(const lm_matmul_p){ __VA_ARGS__ }
#define T2(r, c) { .rank = 2, .dim = { r, c } }
#define B2(r, c) { .rank = 2, .dim = { r, c }, .dtype = LM_BF16 }
#define T3(b, r, c) { .rank = 3, .dim = { b, r, c } }
#define V(n) { .rank = 1, .dim = { n } }
#define F32 .tol = 3e-6, .tol_norm = 1e-6
#define BF .tol = 2e-2, .tol_norm = 5e-3
static const lm_sample samples[] = {
    { "1x1x1", P(0), { T2(1, 1), T2(1, 1) }, F32 },
    { "nn 3x7x5", P(0), { T2(3, 7), T2(7, 5) }, F32 },
    { "nt 17x33x15 bias", P(.tb = true), { T2(17, 33), T2(15, 33), V(15) }, F32 },
    { "tn 65x31x49", P(.ta = true), { T2(31, 65), T2(31, 49) }, F32 },
    { "tt 9x40x50", P(.ta = true, .tb = true), { T2(40, 9), T2(50, 40) }, F32 },
    { "nt one row", P(.tb = true), { T2(1, 130), T2(150, 130), V(150) }, F32 },
    { "nt zero rows", P(.tb = true), { T2(0, 13), T2(15, 13) }, F32 },
    { "nt no reduction", P(.tb = true), { T2(3, 0), T2(5, 0), V(5) }, F32 },
    { "nt 131x1030x97 blocks of k", P(.tb = true), { T2(131, 1030), T2(97, 1030) }, .tol = 1e-5, .tol_norm = 2e-6 },
    { "nn 70x600x413 tiles", P(0), { T2(70, 600), T2(600, 413) }, .tol = 1e-5, .tol_norm = 2e-6 },
    { "nn 530x420x100 rows of tiles", P(0), { T2(530, 420), T2(420, 100) }, .tol = 1e-5, .tol_norm = 2e-6, .grad_tol = -1 },
    { "folded 3 dims", P(.tb = true), { T3(3, 5, 18), T2(34, 18), V(34) }, F32 },
    { "folded into k", P(.ta = true, .fold = true), { T3(3, 5, 18), T3(3, 5, 11) }, F32 },
    { "batched nn", P(0), { T3(3, 9, 20), T3(3, 20, 17) }, F32 },
    { "batched nt", P(.tb = true), { T3(2, 9, 20), T3(2, 18, 20) }, F32 },
    { "batched tn", P(.ta = true), { T3(2, 20, 19), T3(2, 20, 7) }, F32 },
    { "batched tt", P(.ta = true, .tb = true), { T3(2, 20, 10), T3(2, 33, 20) }, F32 },
    { "bf16 storage",
      P(.tb = true),
      { { .rank = 2, .dim = { 11, 37 }, .dtype = LM_BF16 }, { .rank = 2, .dim = { 29, 37 }, .dtype = LM_BF16 } },
      F32 },
    { "panels", P(.tb = true), { T2(5, 37), { .rank = 2, .dim = { 150, 37 }, .layout = LM_PANEL16 } }, F32 },
    { "panels crossed", P(0), { T2(19, 40), { .rank = 2, .dim = { 40, 37 }, .layout = LM_PANEL16 } }, F32 },
    { "bf16 panels in f32", P(.tb = true), { T2(5, 37), { .rank = 2, .dim = { 50, 37 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 } }, F32 },
    { "q8_0 dequantized",
      P(.tb = true),
      { T2(5, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q8_0" } },
      F32,
      .grad_tol = -1 },
    { "bf16 nt 1x70x50", P(.tb = true, .mm = LM_BF16), { T2(1, 70), T2(50, 70) }, BF },
    { "bf16 nt 33x100x47 bias", P(.tb = true, .mm = LM_BF16), { T2(33, 100), T2(47, 100), V(47) }, BF },
    { "bf16 nn 20x35x65", P(.mm = LM_BF16), { T2(20, 35), T2(35, 65) }, BF },
    { "bf16 tn 66x130x37", P(.ta = true, .mm = LM_BF16), { T2(130, 66), T2(130, 37) }, BF },
    { "bf16 tt 18x33x17", P(.ta = true, .tb = true, .mm = LM_BF16), { T2(33, 18), T2(17, 33) }, BF },
    { "bf16 batched", P(.mm = LM_BF16), { T3(2, 9, 20), T3(2, 20, 17) }, BF },
    { "bf16 folded into k", P(.ta = true, .fold = true, .mm = LM_BF16), { T3(3, 5, 18), T3(3, 5, 11) }, BF },
    { "bf16 nt 192x256x320 bias", P(.tb = true, .mm = LM_BF16), { T2(192, 256), T2(320, 256), V(320) }, BF, .grad_tol = -1 },
    { "bf16 nn 130x320x72", P(.mm = LM_BF16), { T2(130, 320), T2(320, 72) }, BF, .grad_tol = -1 },
    { "bf16 tn 128x200x96", P(.ta = true, .mm = LM_BF16), { T2(200, 128), T2(200, 96) }, BF, .grad_tol = -1 },
    { "nt 3x256x64", P(.tb = true), { T2(3, 256), T2(64, 256), V(64) }, F32 },
    { "bf16 nt 4x264x64", P(.tb = true, .mm = LM_BF16), { T2(4, 264), T2(64, 264) }, BF, .grad_tol = -1 },
    { "bf16 weights, one row", P(.tb = true, .mm = LM_BF16), { T2(1, 520), B2(53, 520), V(53) }, BF, .grad_tol = -1 },
    { "bf16 weights, 7 rows", P(.tb = true, .mm = LM_BF16), { T2(7, 2320), B2(40, 2320) }, BF, .grad_tol = -1 },
    { "bf16 weights, 16 rows", P(.tb = true, .mm = LM_BF16), { T2(16, 4608), B2(24, 4608), V(24) }, BF, .grad_tol = -1 },
    { "bf16 weights, 21 rows", P(.tb = true, .mm = LM_BF16), { T2(21, 264), B2(75, 264) }, BF, .grad_tol = -1 },
    { "bf16 weights, 30 rows", P(.tb = true, .mm = LM_BF16), { T2(30, 4608), B2(31, 4608), V(31) }, BF, .grad_tol = -1 },
    { "bf16 weights, 64 rows", P(.tb = true, .mm = LM_BF16), { T2(64, 2056), B2(135, 2056), V(135) }, BF, .grad_tol = -1 },
    { "bf16 weights, 17 rows, many columns", P(.tb = true, .mm = LM_BF16), { T2(17, 512), B2(12170, 512), V(12170) }, BF, .grad_tol = -1 },
    { "bf16 panels",
      P(.tb = true, .mm = LM_BF16),
      { T2(7, 70), { .rank = 2, .dim = { 150, 70 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 } },
      BF },
    { "bf16 panels, one row, blocks of k",
      P(.tb = true, .mm = LM_BF16),
      { T2(1, 1031), { .rank = 2, .dim = { 150, 1031 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 }, V(150) },
      BF },
    { "bf16 panels, three rows",
      P(.tb = true, .mm = LM_BF16),
      { T2(3, 45), { .rank = 2, .dim = { 129, 45 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 } },
      BF },
    { "bf16 panels, 13 rows, blocks of k",
      P(.tb = true, .mm = LM_BF16),
      { T2(13, 1031), { .rank = 2, .dim = { 150, 1031 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 }, V(150) },
      BF },
    { "bf16 panels crossed",
      P(.mm = LM_BF16),
      { T2(35, 70), { .rank = 2, .dim = { 70, 83 }, .dtype = LM_BF16, .layout = LM_PANEL16X2 } },
      BF },
    { "bf16 f32 panels", P(.tb = true, .mm = LM_BF16), { T2(7, 70), { .rank = 2, .dim = { 50, 70 }, .layout = LM_PANEL16 } }, BF },
    { "bf16 from bf16, 300x520x210",
      P(.tb = true, .mm = LM_BF16),
      { { .rank = 2, .dim = { 300, 520 }, .dtype = LM_BF16 }, { .rank = 2, .dim = { 210, 520 }, .dtype = LM_BF16 } },
      F32 },
    { "bf16 nt 290x2090x70 rows of tiles, parts of k", P(.tb = true, .mm = LM_BF16), { T2(290, 2090), T2(70, 2090), V(70) }, BF, .grad_tol = -1 },
    { "bf16 q8_0",
      P(.tb = true, .mm = LM_BF16),
      { T2(20, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q8_0" } },
      BF,
      .grad_tol = -1 },
    { "int8 q8_0",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 160), { .rank = 2, .dim = { 77, 160 }, .dtype = LM_QUANT, .quant = "Q8_0" } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 bias",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q8_0" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0, many rows and blocks",
      P(.tb = true, .mm = LM_I8),
      { T2(37, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q8_0" } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "Q8_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q8_0", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q8_0", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int4 q4_0",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q4_0" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int4 q4_0 panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "Q4_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int4 q4_0 panels, four rows",
      P(.tb = true, .mm = LM_I8),
      { T2(4, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q4_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int4 q4_0 panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q4_0", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q4_K" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k rows, two",
      P(.tb = true, .mm = LM_I8),
      { T2(2, 768), { .rank = 2, .dim = { 37, 768 }, .dtype = LM_QUANT, .quant = "Q4_K" } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q4_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q4_K", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k panels, eight rows",
      P(.tb = true, .mm = LM_I8),
      { T2(8, 768), { .rank = 2, .dim = { 33, 768 }, .dtype = LM_QUANT, .quant = "Q4_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q4_K", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q5_K" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k rows, two",
      P(.tb = true, .mm = LM_I8),
      { T2(2, 768), { .rank = 2, .dim = { 37, 768 }, .dtype = LM_QUANT, .quant = "Q5_K" } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q5_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q5_K", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k panels, eight rows",
      P(.tb = true, .mm = LM_I8),
      { T2(8, 768), { .rank = 2, .dim = { 33, 768 }, .dtype = LM_QUANT, .quant = "Q5_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_k panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q5_K", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q6_K" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k rows, two",
      P(.tb = true, .mm = LM_I8),
      { T2(2, 768), { .rank = 2, .dim = { 37, 768 }, .dtype = LM_QUANT, .quant = "Q6_K" } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q6_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 512), { .rank = 2, .dim = { 50, 512 }, .dtype = LM_QUANT, .quant = "Q6_K", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k panels, eight rows",
      P(.tb = true, .mm = LM_I8),
      { T2(8, 768), { .rank = 2, .dim = { 33, 768 }, .dtype = LM_QUANT, .quant = "Q6_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1280), { .rank = 2, .dim = { 77, 1280 }, .dtype = LM_QUANT, .quant = "Q6_K", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 panels, seven rows",
      P(.tb = true, .mm = LM_I8),
      { T2(7, 544), { .rank = 2, .dim = { 33, 544 }, .dtype = LM_QUANT, .quant = "Q8_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_0 panels, seven rows",
      P(.tb = true, .mm = LM_I8),
      { T2(7, 544), { .rank = 2, .dim = { 33, 544 }, .dtype = LM_QUANT, .quant = "Q4_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_1",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q4_1" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_1 panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "Q4_1", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_1 panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q4_1", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_1 panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q4_1", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_0",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q5_0" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_0 panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "Q5_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_0 panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q5_0", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_0 panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q5_0", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_1",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q5_1" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_1 panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "Q5_1", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_1 panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "Q5_1", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_1 panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q5_1", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 iq4_nl",
      P(.tb = true, .mm = LM_I8),
      { T2(11, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "IQ4_NL" }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 iq4_nl panels, one row",
      P(.tb = true, .mm = LM_I8),
      { T2(1, 544), { .rank = 2, .dim = { 77, 544 }, .dtype = LM_QUANT, .quant = "IQ4_NL", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 iq4_nl panels, three rows",
      P(.tb = true, .mm = LM_I8),
      { T2(3, 96), { .rank = 2, .dim = { 50, 96 }, .dtype = LM_QUANT, .quant = "IQ4_NL", .layout = LM_PANEL16 }, V(50) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 iq4_nl panels, 29 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(29, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "IQ4_NL", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_0 panels, nine rows",
      P(.tb = true, .mm = LM_I8),
      { T2(9, 1056), { .rank = 2, .dim = { 50, 1056 }, .dtype = LM_QUANT, .quant = "Q4_0", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q8_0 panels, 17 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(17, 1056), { .rank = 2, .dim = { 77, 1056 }, .dtype = LM_QUANT, .quant = "Q8_0", .layout = LM_PANEL16 }, V(77) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q5_1 panels, 12 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(12, 544), { .rank = 2, .dim = { 33, 544 }, .dtype = LM_QUANT, .quant = "Q5_1", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q4_k panels, 13 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(13, 1280), { .rank = 2, .dim = { 50, 1280 }, .dtype = LM_QUANT, .quant = "Q4_K", .layout = LM_PANEL16 } },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "int8 q6_k panels, 16 rows",
      P(.tb = true, .mm = LM_I8),
      { T2(16, 768), { .rank = 2, .dim = { 33, 768 }, .dtype = LM_QUANT, .quant = "Q6_K", .layout = LM_PANEL16 }, V(33) },
      .tol = 4e-2,
      .tol_norm = 1e-2,
      .grad_tol = -1 },
    { "q4_k dequantized",
      P(.tb = true),
      { T2(5, 1024), { .rank = 2, .dim = { 50, 1024 }, .dtype = LM_QUANT, .quant = "Q4_K" } },
      .tol = 1e-5,
      .tol_norm = 2e-6,
      .grad_tol = -1 },
    { NULL }
};

const lm_op lm_op_matmul = {
    .name = "matmul", .math = "C = op(A) op(B) [+ bias]", .n_in = 2, .n_opt = 1, .n_out = 1, .params_bytes = sizeof(lm_matmul_p), .acc_ok = 1,
    .mm_at = 1 + (int16_t)offsetof(lm_matmul_p, mm), .shape = shape, .ref = ref, .grad = grad, .cost = cost, .kernels = kernels, .samples = samples,
};
