/* xent_step_dp_avx512bf16.c — xent_step with vdpbf16ps, for machines without AMX.
 *
 * As xent_step_amx.c, but logits stay f32 rows: per 32 rows they become dz in place and are packed twice, as A of dx = dz W and as A of dW = dzᵀ x. */
#include "op/xent/xent_core.h"
#include "op/xent/xent_cols.h"
#include "op/xent_step/xent_step.h"

typedef struct { lm_gemm z, dx, dw; int64_t rows, row0, nv, nr; } step_t;
static size_t blocks(int64_t outer, int64_t k) { return (size_t)(lm_ceil_div(outer, 16) * lm_ceil_div(k, 32)) * 1024; }
static size_t z_bytes(const lm_call *c) { return (lm_xent_shared(c) + 63) / 64 * 64; }
static step_t bind(const lm_call *c) {
    step_t s = { .z = lm_xent_logits(c) };
    s.rows = lm_xent_chunk(c, &s.row0);
    const int64_t V = c->in[1].dim[0], d = c->in[0].dim[1], stride = lm_xent_stride(c), cap = lm_min64(lm_xent_rows(c), c->in[0].dim[0]);
    char *p = (char *)c->shared + z_bytes(c);
    s.nv = lm_ceil_div(V, 32); s.nr = lm_ceil_div(s.rows, 32);
    s.dx = (lm_gemm){ .batch = 1, .M = s.rows, .N = d, .K = V, .a = lm_mat_f32(c->shared, stride, true), .b = lm_mat_of(&c->in[1], false),
                      .c = (float *)c->out[2].data + s.row0 * c->out[2].stride[0], .c_rs = c->out[2].stride[0] };
    s.dw = (lm_gemm){ .batch = 1, .M = V, .N = d, .K = s.rows, .a = lm_mat_f32(c->shared, stride, false), .b = lm_mat_of(&c->in[0], false),
                      .c = c->out[3].data, .c_rs = c->out[3].stride[0], .acc = c->iter > 0 || (c->acc >> 3 & 1) };
    if (s.dw.b.p) s.dw.b.p = (const char *)s.dw.b.p + (size_t)(s.row0 * s.dw.b.ks) * lm_dtype_size(s.dw.b.dtype);
    s.z.apack = p; p += blocks(cap, d);
    s.dw.bpack = p; p += blocks(d, cap);
    s.dx.apack = p; p += blocks(cap, V);
    s.dw.apack = p;
    return s;
}
static size_t shared(const lm_call *c) {
    const int64_t V = c->in[1].dim[0], d = c->in[0].dim[1], cap = lm_min64(lm_xent_rows(c), c->in[0].dim[0]);
    return z_bytes(c) + blocks(cap, d) + blocks(d, cap) + blocks(cap, V) + blocks(V, cap);
}
static size_t bytes(const lm_call *c) {
    const step_t s = bind(c);
    size_t n = LM_DP_LOCAL_BYTES;
    const lm_gemm *g[3] = { &s.z, &s.dx, &s.dw };
    for (int i = 0; i < 3; i++) n = lm_bf16_scratch(g[i]) > n ? lm_bf16_scratch(g[i]) : n;
    return n;
}
/* 0: x as A of the logits; x as B of dW, 4 panels an item */
enum { X_P = 4 };
static int64_t x_tiles(const lm_call *c) { const step_t s = bind(c); return lm_bf16_packs(&s.z) + lm_ceil_div(lm_ceil_div(s.dw.N, 16), X_P); }
static lm_err x_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = bind(c);
    const int64_t n = lm_bf16_packs(&s.z);
    if (i < n) { lm_bf16_pack(&s.z, i, scratch); return LM_OK; }
    for (int64_t p = (i - n) * X_P; p < lm_min64((i - n + 1) * X_P, lm_ceil_div(s.dw.N, 16)); p++)
        for (int64_t k = 0; k < s.nr; k++)
            lm_bf16_block(&s.dw.b, 0, p * 16, lm_min64(16, s.dw.N - p * 16), k * 32, s.rows, false, 16,
                          (char *)s.dw.bpack + (p * s.nr + k) * 1024, scratch);
    return LM_OK;
}
static int64_t z_tiles(const lm_call *c) { const step_t s = bind(c); return lm_bf16_grid(&s.z).tiles; }
static lm_err z_run(const lm_call *c, int64_t i, void *scratch) { const step_t s = bind(c); lm_gemm_dp_tile(&s.z, i, scratch); return LM_OK; }
static int64_t g_tiles(const lm_call *c) { const step_t s = bind(c); return s.nr; }
static lm_err g_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = bind(c);
    const int64_t V = s.dw.M;
    lm_err err = LM_OK;
    for (int64_t r = i * 32; r < lm_min64(i * 32 + 32, s.rows); r++) {
        const lm_err e = lm_xent_row(c, &lm_xent_vec_avx512, s.row0 + r, (float *)c->shared + r * lm_xent_stride(c), true);
        if (e) err = e;
    }
    for (int64_t g = 2 * i; g < 2 * i + 2 && g * 16 < s.rows; g++)
        for (int64_t k = 0; k < s.nv; k++)
            lm_bf16_block(&s.dx.a, 0, g * 16, lm_min64(16, s.rows - g * 16), k * 32, V, true, 16,
                          (char *)s.dx.apack + (g * s.nv + k) * 1024, scratch);
    for (int64_t v = 0; v * 16 < V; v++)
        lm_bf16_block(&s.dw.a, 0, v * 16, lm_min64(16, V - v * 16), i * 32, s.rows, true, 16, (char *)s.dw.apack + (v * s.nr + i) * 1024,
                      scratch);
    return err;
}
static int64_t d_tiles(const lm_call *c) { const step_t s = bind(c); return lm_bf16_grid(&s.dx).tiles + lm_bf16_grid(&s.dw).tiles; }
static lm_err d_run(const lm_call *c, int64_t i, void *scratch) {
    const step_t s = bind(c);
    const int64_t n = lm_bf16_grid(&s.dx).tiles;
    if (i < n) lm_gemm_dp_tile(&s.dx, i, scratch); else lm_gemm_dp_tile(&s.dw, i - n, scratch);
    return LM_OK;
}
const lm_kernel lm_k_xent_step_dp[] = { { .name = "xent_step.bf16.avx512bf16",
                                          .needs = LM_CPU_AVX2 | LM_CPU_AVX512 | LM_CPU_AVX512_BF16,
                                          .order = "bf16.dp",
                                          .accepts = lm_xent_cols_bf16,
                                          .shared_bytes = shared,
                                          .thread_bytes = bytes,
                                          .n_phase = 4,
                                          .phase = { { x_tiles, x_run }, { z_tiles, z_run }, { g_tiles, g_run }, { d_tiles, d_run } },
                                          .repeat = lm_xent_repeat },
                                        { 0 } };
