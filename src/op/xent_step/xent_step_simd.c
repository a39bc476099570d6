/* xent_step_simd.c — loss, dx and dW on the f32 core of matmul, for plain weights. Per chunk of rows:
 *
 *   0  x is packed twice: for the logits, and for dW (its rows are the reduction there).
 *   1  logits zᵀ = W xᵀ in blocks of v, each with the statistics of its rows.
 *   2  lse and loss of every row.
 *   3  work items are rows of dW: dz in place of their logits, dW += dzᵀ x while they are in L2, then dz once more in place, as the left operand of dx in the form that the
 *      micro-kernels read: packed by every item of dx it would cost more than all else that is no multiplication.
 *   4  dx = dz W: work items are columns of dx, each over all blocks in order.
 * Bytes of a chunk: z once out and twice in; W twice; dW in and out. */
#include "op/simd.h"
#include "op/xent/xent_cols.h"
#include "op/xent_step/xent_step.h"
enum { DX_P = 12 /* panels of 16 columns in an item of dx */ };
#define PACK LM_ISA_NAME(lm_gemm_f32_pack_a)
#define TILE LM_ISA_NAME(lm_gemm_f32_tile)

static int64_t rows_of(const lm_call *c, int64_t *row0) {
    const int64_t rows = lm_xent_cols_rows(c);
    *row0 = c->iter * rows;
    return lm_max64(0, lm_min64(rows, c->in[0].dim[0] - *row0));
}
static lm_xent_cols now(const lm_call *c) { int64_t r0, rows = rows_of(c, &r0); return lm_xent_cols_of(c, r0, rows, true, NULL); }
static int64_t repeat(const lm_call *c) { return lm_max64(1, lm_ceil_div(c->in[0].dim[0], lm_xent_cols_rows(c))); }
static size_t shared(const lm_call *c) { size_t n; lm_xent_cols_of(c, 0, lm_min64(lm_xent_cols_rows(c), c->in[0].dim[0]), true, &n); return n; }

/* dW (+)= dzᵀ x: over the rows of the chunk; n rows of dW from v0 on. Few enough rows per item that a small vocabulary has items for many threads. */
static int64_t dw_rows(const lm_xent_cols *t) { return t->V >= 16 * LM_XENT_BLOCK ? LM_XENT_BLOCK : 96; }
static lm_gemm dw_of(const lm_xent_cols *t, int64_t v0, int64_t n) {
    const lm_call *c = t->c;
    return (lm_gemm){ .batch = 1,
                      .M = n,
                      .N = t->d,
                      .K = t->N,
                      .a = lm_mat_f32(t->z + v0 * t->zs, t->zs, true),
                      .b = { .p = t->xt, .dtype = LM_F32, .layout = LM_PANEL16, .row = true, .cols = t->N },
                      .c = (float *)c->out[3].data + v0 * c->out[3].stride[0],
                      .c_rs = c->out[3].stride[0],
                      .acc = c->iter > 0 || (c->acc >> 3 & 1),
                      .round = t->p->mm == LM_BF16,
                      .mb = n,
                      .nbp = LM_GEMM_NBP };
}
/* dx = dz W over the block of v that an item of dW left packed; columns n0 … n0 + n - 1 of dx. */
static lm_gemm dx_of(const lm_xent_cols *t, int64_t v0, int64_t rows, int64_t n0, int64_t n) {
    const lm_call *c = t->c;
    lm_gemm g = { .batch = 1,
                  .M = t->N,
                  .N = n,
                  .K = rows,
                  .a = lm_mat_f32(t->z + v0 * t->zs, t->zs, false),
                  .b = lm_mat_of(&c->in[1], false),
                  .c = (float *)c->out[2].data + t->row0 * c->out[2].stride[0] + n0,
                  .c_rs = c->out[2].stride[0],
                  .round = t->p->mm == LM_BF16,
                  .acc = v0 > 0,
                  .mb = t->N,
                  .nbp = LM_GEMM_NBP };
    if (g.b.p) g.b.p = (const char *)g.b.p + (size_t)(v0 * g.b.ks + n0) * lm_dtype_size(g.b.dtype);
    return g;
}
/* Floats of dz packed for dx; at most those of n rows of logits, but for the last block, which has room behind it. */
static int64_t room(const lm_xent_cols *t, int64_t n) { return (t->N + 8) * n + 16 * t->N; }
static int64_t x_tiles(const lm_call *c) { const lm_xent_cols t = now(c); return lm_xent_cols_packs(&t); }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) {
    (void)scratch;
    const lm_xent_cols t = now(c);
    lm_xent_cols_pack(&t, i);
    return LM_OK;
}
static int64_t z_tiles(const lm_call *c) { const lm_xent_cols t = now(c); return lm_xent_cols_items(&t); }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_cols t = now(c);
    LM_ISA_NAME(lm_xent_cols_logits)(&t, i, scratch);
    return LM_OK;
}
static int64_t row_tiles(const lm_call *c) { const lm_xent_cols t = now(c); return t.Np / 16; }
static lm_err row_run(const lm_call *c, int64_t i, void *scratch) { (void)scratch; const lm_xent_cols t = now(c); return lm_xent_cols_end(&t, i); }
static int64_t dw_tiles(const lm_call *c) { const lm_xent_cols t = now(c); return lm_ceil_div(t.V, dw_rows(&t)); }
static lm_err dw_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_cols t = now(c);
    const int64_t v0 = i * dw_rows(&t), n = lm_min64(dw_rows(&t), t.V - v0);
    LM_ISA_NAME(lm_xent_cols_grad)(&t, v0, n);
    const lm_gemm g = dw_of(&t, v0, n);
    const int64_t tiles = lm_gemm_f32_grid(&g).tiles;
    for (int64_t q = 0; q < tiles; q++) TILE(&g, q, scratch);
    const lm_gemm x = dx_of(&t, v0, n, 0, 0);
    memcpy(t.z + v0 * t.zs, scratch, PACK(&x, scratch, (float *)scratch + room(&t, n)));
    return LM_OK;
}
static int64_t dx_tiles(const lm_call *c) { const lm_xent_cols t = now(c); return t.N ? lm_ceil_div(t.d, DX_P * 16) : 0; }
static lm_err dx_run(const lm_call *c, int64_t i, void *scratch) {
    const lm_xent_cols t = now(c);
    const int64_t n0 = i * DX_P * 16;
    for (int64_t v0 = 0; v0 < t.V; v0 += dw_rows(&t)) {
        lm_gemm g = dx_of(&t, v0, lm_min64(dw_rows(&t), t.V - v0), n0, lm_min64(DX_P * 16, t.d - n0));
        g.apack = t.z + v0 * t.zs;
        TILE(&g, 0, scratch);
    }
    return LM_OK;
}
static size_t bytes(const lm_call *c) {
    const lm_xent_cols t = lm_xent_cols_of(c, 0, lm_min64(lm_xent_cols_rows(c), c->in[0].dim[0]), true, NULL);
    const int64_t rows = dw_rows(&t);
    const lm_gemm x = dx_of(&t, 0, rows, 0, t.d), w = dw_of(&t, 0, rows);
    const size_t n[4] = { lm_xent_cols_scratch(&t), lm_gemm_f32_scratch(&x), lm_gemm_f32_scratch(&w), (size_t)room(&t, rows) * 4 + 32768 };
    size_t most = 0;
    for (int i = 0; i < 4; i++) most = n[i] > most ? n[i] : most;
    return most;
}
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define ORDER "fma.k"
#else
#define ORDER "mad.k"
#endif
#define ROW(mm, order_, accepts_) { .name = "xent_step." mm "." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = order_, .accepts = accepts_, .shared_bytes = shared, .thread_bytes = bytes, \
    .n_phase = 5, .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { row_tiles, row_run }, { dw_tiles, dw_run }, { dx_tiles, dx_run } }, .repeat = repeat }
const lm_kernel LM_ISA_NAME(lm_k_xent_step)[] = { ROW("f32", ORDER, lm_xent_cols_f32), ROW("bf16", "bf16." ORDER, lm_xent_cols_bf16), { 0 } };
