/* blocksum.h — the kernel of sum and sumsq: blocks of 4096 elements (f32, or bf16 widened) summed in f32 by sixteen lanes, block sums kept as doubles
 * and added in order.
 * Include in *_simd.c only. */
#ifndef LM_BLOCKSUM_H
#define LM_BLOCKSUM_H
#include "op/elementwise.h"
enum { LM_SUM_BLOCK = 4096, LM_SUM_PER_TILE = 4 };
static inline int64_t lm_sum_blocks(const lm_call *c) { return lm_ceil_div(lm_numel(&c->in[0]), LM_SUM_BLOCK); }
static inline int64_t lm_sum_tiles(const lm_call *c) { return lm_ceil_div(lm_sum_blocks(c), LM_SUM_PER_TILE); }
static inline size_t lm_sum_shared(const lm_call *c) { return (size_t)lm_sum_blocks(c) * sizeof(double); }
static inline bool lm_sum_accepts(const lm_call *c) {
    const lm_tensor *x = &c->in[0];
    return lm_accepts_flat(c) || (x->dtype == LM_BF16 && x->layout == LM_PLAIN && lm_is_contig(x) && lm_is_f32_vec(&c->out[0])); }
static inline const float *lm_sum_block(const lm_call *c, int64_t b, int64_t n, float *wide) {
    if (c->in[0].dtype == LM_F32) return (const float *)c->in[0].data + b * LM_SUM_BLOCK;
    lm_convert(wide, LM_F32, (const uint16_t *)c->in[0].data + b * LM_SUM_BLOCK, LM_BF16, n);
    return wide; }
static inline int64_t lm_sum_one(const lm_call *c) { (void)c; return 1; }
static inline lm_err lm_sum_end(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch; const double *part = c->shared; float *y = c->out[0].data;
    double s = c->acc & 1 ? (double)*y : 0;
    for (int64_t b = 0, n = lm_sum_blocks(c); b < n; b++) s += part[b];
    *y = (float)s;
    return LM_OK; }
#define LM_BLOCKSUM_KERNEL(op, v, ...)                                                                                                \
    static lm_err run(const lm_call *c, int64_t tile, void *scratch) {                                                                \
        (void)scratch; int64_t total = lm_numel(&c->in[0]); double *part = c->shared; float wide[LM_SUM_BLOCK];                       \
        for (int64_t b = tile * LM_SUM_PER_TILE, e = lm_min64(b + LM_SUM_PER_TILE, lm_sum_blocks(c)); b < e; b++) {                   \
            const int64_t n = lm_min64(LM_SUM_BLOCK, total - b * LM_SUM_BLOCK); const float *x = lm_sum_block(c, b, n, wide); float s;    \
            LM_V_SUM(s, n, k, __extension__({ vn v = LM_LD(x + k); (__VA_ARGS__); }));                                                \
            part[b] = (double)s; }                                                                                                    \
        return LM_OK; }                                                                                                               \
    extern const lm_kernel LM_ISA_NAME(lm_k_##op)[];                                                                                  \
    const lm_kernel LM_ISA_NAME(lm_k_##op)[] = { { .name = #op ".f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = LM_ORDER(#op), .accepts = lm_sum_accepts, \
        .shared_bytes = lm_sum_shared, .n_phase = 2, .phase = { { lm_sum_tiles, run }, { lm_sum_one, lm_sum_end } } }, { 0 } }
#endif
