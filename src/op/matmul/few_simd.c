/* few_simd.c — up to 16 rows against bf16 panels (decode): weights are widened in registers on their way from memory, never written out as f32.
 *
 * A line of a PANEL16X2 weight holds 16 outputs of two k: the even one in the low halves. A micro-kernel keeps R rows x P panels of C; per
 * pair of k and panel one load, a shift, a mask and 2 R FMAs, so with one row 512 bytes of weights take 48 vector operations in AVX-512:
 * memory is the limit, not arithmetic. Each output is the chain of gemm.h, "fma.k" or "mad.k", with operands that are bf16 already or
 * rounded here. */
#include "op/lanes.h"
#include "op/matmul/gemm.h"

#if defined(LM_ISA_IS_avx512)
#define KERNELS(X) X(1, 8) X(1, 4) X(1, 2) X(1, 1) X(2, 8) X(2, 4) X(2, 2) X(2, 1) X(3, 4) X(3, 2) X(3, 1) X(4, 4) X(4, 2) X(4, 1)
static const int8_t widest[] = { 0, 8, 8, 4, 4 };
#elif defined(LM_ISA_IS_avx2)
#define KERNELS(X) X(1, 4) X(1, 2) X(1, 1) X(2, 2) X(2, 1) X(3, 1) X(4, 1)
static const int8_t widest[] = { 0, 4, 2, 1, 1 };
#else
#define KERNELS(X) X(1, 2) X(1, 1) X(2, 1)
static const int8_t widest[] = { 0, 2, 1 };
#endif
enum { NV = 16 / VN, ROWS = LM_COUNT(widest) - 1, AHEAD = 16 /* lines */, KB = 512 };
typedef int32_t vniu __attribute__((vector_size(4 * VN), aligned(4), may_alias));
typedef struct {
    int64_t k; const float *a; int64_t a_ms;             /* A: rows of k numbers */
    const int32_t *b; int64_t b_ps;                      /* pairs of k, 16 outputs each; panels b_ps apart */
    float *c; int64_t c_ms; const float *bias; int n_last; bool load;
} few_args;
typedef void few_fn(const few_args *u);

LM_INL void few(const few_args *u, const int R, const int P) {
    vn acc[4][8 * NV];
    const int64_t ps = u->b_ps;
    float edge[16];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            const float *c = u->c + r * u->c_ms + p * 16;
            if (u->load && p == P - 1 && u->n_last < 16) { memset(edge, 0, sizeof edge); memcpy(edge, c, (size_t)u->n_last * 4); c = edge; }
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) acc[r][p * NV + v] = u->load ? vn_load(c + v * VN) : (vn){ 0 };
        }
    const float *a = u->a;
    const int32_t *b = u->b;
    for (int64_t k = u->k; k > 0; k -= 2, a += 2, b += 16) {
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) __builtin_prefetch(b + p * ps + AHEAD * 16);
        const bool both = k > 1;                         /* the last of an odd number: its partner is a pad */
#pragma GCC unroll 32
        for (int j = 0; j < P * NV; j++) {
            const vni w = *(const vniu *)(b + j / NV * ps + j % NV * VN);
            const vn lo = (vn)(w << 16), hi = (vn)(w & (int32_t)0xffff0000);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) acc[r][j] = vn_fma(vn_set(a[r * u->a_ms]), lo, acc[r][j]);
            if (both)
#pragma GCC unroll 4
                for (int r = 0; r < R; r++) acc[r][j] = vn_fma(vn_set(a[r * u->a_ms + 1]), hi, acc[r][j]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            float *c = u->c + r * u->c_ms + p * 16;
            const bool cut = p == P - 1 && u->n_last < 16;
#pragma GCC unroll 4
            for (int v = 0; v < NV; v++) {
                vn x = acc[r][p * NV + v];
                if (u->bias) x += vn_load(u->bias + p * 16 + v * VN);
                vn_store((cut ? edge : c) + v * VN, x);
            }
            if (cut) memcpy(c, edge, (size_t)u->n_last * 4);
        }
}
#define X(r, p) static void few_##r##x##p(const few_args *u) { few(u, r, p); }
KERNELS(X)
#undef X
static few_fn *const kernels[ROWS + 1][9] = {
#define X(r, p) [r][p] = few_##r##x##p,
    KERNELS(X)
#undef X
};

void LM_ISA_NAME(lm_few_tile)(const lm_gemm *g, int64_t batch, int64_t n0, int64_t n1, const float *bias, float *scratch) {
    const int64_t np = lm_ceil_div(n1 - n0, 16), panel = lm_round_up(g->b.cols, 32) / 2 * 16, each = lm_max64(1, lm_ceil_div(g->M, lm_max64(1, lm_ceil_div(g->M, ROWS))));
    for (int64_t k0 = 0; k0 < g->K || k0 == 0; k0 += KB) {
        const int64_t kc = lm_min64(KB, g->K - k0), ms = lm_round_up(kc, 16);
        for (int64_t m = 0; m < g->M; m++) {
            const int64_t at = batch * g->a.bs + m * g->a.os + k0;
            float *d = scratch + m * ms;
            if (g->a.dtype == LM_BF16) for (int64_t i = 0; i < kc; i++) d[i] = lm_bf16_to_f32(((const uint16_t *)g->a.p)[at + i]);
            else if (g->round) for (int64_t i = 0; i < kc; i++) d[i] = lm_bf16_to_f32(lm_f32_to_bf16(((const float *)g->a.p)[at + i]));
            else memcpy(d, (const float *)g->a.p + at, (size_t)kc * 4);
        }
        for (int64_t p = 0, w; p < np; p += w) {
            for (w = widest[each]; w > np - p; w /= 2) {}
            for (int64_t m = 0; m < g->M; m += each) {                 /* from the second on, panels come from the second-level cache */
                const few_args u = {
                    .k = kc, .a = scratch + m * ms, .a_ms = ms, .b = (const int32_t *)g->b.p + (n0 / 16 + p) * panel + k0 / 2 * 16, .b_ps = panel,
                    .c = g->c + batch * g->c_bs + m * g->c_rs + n0 + p * 16, .c_ms = g->c_rs, .bias = bias && k0 + kc >= g->K ? bias + p * 16 : NULL,
                    .n_last = p + w == np ? (int)(n1 - n0 - (np - 1) * 16) : 16, .load = k0 > 0 || g->acc,
                };
                kernels[lm_min64(each, g->M - m)][w](&u);
            }
        }
    }
}
