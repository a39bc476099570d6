/* xent_step_simd.c — three products per chunk: logits, dx and dW, with the softmax between, all on the f32 core of matmul. */
#include "op/simd.h"
#include "op/xent/xent_core.h"
#include "op/xent_step/xent_step.h"
#define XV LM_ISA_NAME(lm_xent_vec)
#define TILE LM_ISA_NAME(lm_gemm_f32_tile)

/* dx = dz W: the reduction runs over the vocabulary. */
static lm_gemm dx_of(const lm_call *c) {
    int64_t r0, rows = lm_xent_chunk(c, &r0);
    return (lm_gemm){ .batch = 1, .M = rows, .N = c->in[0].dim[1], .K = c->in[1].dim[0], .a = lm_mat_f32(c->shared, lm_xent_stride(c), true), .b = lm_mat_of(&c->in[1], false),
                      .c = (float *)c->out[2].data + r0 * c->out[2].stride[0], .c_rs = c->out[2].stride[0], .round = ((const lm_xent_p *)c->p)->mm == LM_BF16 };
}
/* dW (+)= dz^T x: over the tokens of the chunk. */
static lm_gemm dw_of(const lm_call *c) {
    int64_t r0, rows = lm_xent_chunk(c, &r0);
    lm_gemm g = { .batch = 1, .M = c->in[1].dim[0], .N = c->in[0].dim[1], .K = rows, .a = lm_mat_f32(c->shared, lm_xent_stride(c), false), .b = lm_mat_of(&c->in[0], false),
                  .c = c->out[3].data, .c_rs = c->out[3].stride[0], .acc = c->iter > 0 || (c->acc >> 3 & 1), .round = ((const lm_xent_p *)c->p)->mm == LM_BF16 };
    if (g.b.p) g.b.p = (const char *)g.b.p + (size_t)(r0 * g.b.ks) * lm_dtype_size(g.b.dtype);
    return g;
}
static int64_t logit_tiles(const lm_call *c) { lm_gemm g = lm_xent_logits(c); return lm_gemm_f32_grid(&g).tiles; }
static lm_err logit_run(const lm_call *c, int64_t tile, void *scratch) { lm_gemm g = lm_xent_logits(c); TILE(&g, tile, scratch); return LM_OK; }
static int64_t row_tiles(const lm_call *c) { int64_t r0; return lm_xent_chunk(c, &r0); }
static lm_err row_run(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch;
    int64_t r0; lm_xent_chunk(c, &r0);
    return lm_xent_row(c, &XV, r0 + tile, (float *)c->shared + tile * lm_xent_stride(c), true);
}
static int64_t grad_tiles(const lm_call *c) {
    lm_gemm x = dx_of(c), w = dw_of(c);
    return lm_gemm_f32_grid(&x).tiles + lm_gemm_f32_grid(&w).tiles;
}
static lm_err grad_run(const lm_call *c, int64_t tile, void *scratch) {
    lm_gemm x = dx_of(c), w = dw_of(c);
    const int64_t n = lm_gemm_f32_grid(&x).tiles;
    if (tile < n) TILE(&x, tile, scratch); else TILE(&w, tile - n, scratch);
    return LM_OK;
}
static size_t bytes(const lm_call *c) {
    const lm_gemm g[3] = { lm_xent_logits(c), dx_of(c), dw_of(c) };
    size_t most = 0;
    for (int i = 0; i < 3; i++) { const size_t b = lm_gemm_f32_scratch(&g[i]); most = b > most ? b : most; }
    return most;
}
#if defined(LM_ISA_IS_avx512) || defined(LM_ISA_IS_avx2)
#define ORDER "fma.k"
#else
#define ORDER "mad.k"
#endif
#define ROW(mm, order_, accepts_) { .name = "xent_step." mm "." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = order_, .accepts = accepts_, .shared_bytes = lm_xent_shared, \
    .thread_bytes = bytes, .n_phase = 3, .phase = { { logit_tiles, logit_run }, { row_tiles, row_run }, { grad_tiles, grad_run } }, .repeat = lm_xent_repeat }
const lm_kernel LM_ISA_NAME(lm_k_xent_step)[] = { ROW("f32", ORDER, lm_xent_accepts_f32), ROW("bf16", "bf16." ORDER, lm_xent_accepts_bf16), { 0 } };
