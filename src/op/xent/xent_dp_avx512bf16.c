/* xent_dp_avx512bf16.c — xent with vdpbf16ps, for machines without AMX: the order is matmul's "bf16.dp". */
#include "op/xent/xent_core.h"

static size_t z_bytes(const lm_call *c) { return (lm_xent_shared(c) + 63) / 64 * 64; }
static lm_gemm logits(const lm_call *c) {
    lm_gemm g = lm_xent_logits(c);
    g.apack = (char *)c->shared + z_bytes(c);
    return g;
}
static size_t shared(const lm_call *c) {
    const int64_t rows = lm_min64(lm_xent_rows(c), c->in[0].dim[0]);
    return z_bytes(c) + (size_t)(lm_ceil_div(rows, 16) * lm_ceil_div(c->in[0].dim[1], 32)) * 1024;
}
static size_t bytes(const lm_call *c) {
    const lm_gemm g = lm_xent_logits(c);
    const size_t n = lm_bf16_scratch(&g);
    return n > LM_DP_LOCAL_BYTES ? n : LM_DP_LOCAL_BYTES;
}
static int64_t x_tiles(const lm_call *c) { const lm_gemm g = logits(c); return lm_bf16_packs(&g); }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) { const lm_gemm g = logits(c); lm_bf16_pack(&g, i, scratch); return LM_OK; }
static int64_t z_tiles(const lm_call *c) { const lm_gemm g = logits(c); return lm_bf16_grid(&g).tiles; }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) { const lm_gemm g = logits(c); lm_gemm_dp_tile(&g, i, scratch); return LM_OK; }
static int64_t row_tiles(const lm_call *c) { int64_t r0; return lm_xent_chunk(c, &r0); }
static lm_err row_run(const lm_call *c, int64_t i, void *scratch) {
    (void)scratch;
    int64_t r0; lm_xent_chunk(c, &r0);
    return lm_xent_row(c, &lm_xent_vec_avx512, r0 + i, (float *)c->shared + i * lm_xent_stride(c), false);
}
const lm_kernel lm_k_xent_dp[] = { { .name = "xent.bf16.avx512bf16",
                                     .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16,
                                     .order = "bf16.dp",
                                     .accepts = lm_xent_accepts_bf16,
                                     .shared_bytes = shared,
                                     .thread_bytes = bytes,
                                     .n_phase = 3,
                                     .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { row_tiles, row_run } },
                                     .repeat = lm_xent_repeat },
                                   { 0 } };
