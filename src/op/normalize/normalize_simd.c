/* normalize_simd.c — block sums as sumsq has them, one factor, one pass. Shared scratch: the factor, then the block sums. */
#include "op/blocksum.h"
#include "op/normalize/normalize.h"
static size_t shared_bytes(const lm_call *c) { return (size_t)(lm_sum_blocks(c) + 1) * sizeof(double); }
static lm_err squares(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; int64_t total = lm_numel(&c->in[0]); double *part = (double *)c->shared + 1;
    for (int64_t b = tile * LM_SUM_PER_TILE, e = lm_min64(b + LM_SUM_PER_TILE, lm_sum_blocks(c)); b < e; b++) {
        const float *x = (const float *)c->in[0].data + b * LM_SUM_BLOCK; float s;
        LM_V_SUM(s, lm_min64(LM_SUM_BLOCK, total - b * LM_SUM_BLOCK), k, __extension__({ vn v = LM_LD(x + k); v * v; }));
        part[b] = (double)s;
    }
    return LM_OK;
}
static lm_err factor(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile; (void)scratch; double *part = c->shared, s = 0;
    for (int64_t b = 0, n = lm_sum_blocks(c); b < n; b++) s += part[b + 1];
    part[0] = 1 / (sqrt(s) + (double)((const lm_normalize_p *)c->p)->eps);
    return LM_OK;
}
static lm_err apply(const lm_call *c, int64_t tile, void *scratch) {
    (void)scratch; const float f = (float)*(const double *)c->shared; int64_t i = tile * LM_EW_TILE;
    const float *x = (const float *)c->in[0].data + i; float *y = (float *)c->out[0].data + i;
    LM_V_WALK(lm_min64(LM_EW_TILE, lm_numel(&c->in[0]) - i), k, LM_ST(y + k, LM_LD(x + k) * f));
    return LM_OK;
}
extern const lm_kernel LM_ISA_NAME(lm_k_normalize)[];
const lm_kernel LM_ISA_NAME(lm_k_normalize)[] = {
    { .name = "normalize.f32." LM_ISA_STR,
      .needs = LM_ISA_NEEDS,
      .order = LM_ORDER("normalize"),
      .accepts = lm_accepts_flat,
      .shared_bytes = shared_bytes,
      .n_phase = 3,
      .phase = { { lm_sum_tiles, squares }, { lm_sum_one, factor }, { lm_ew_tiles, apply } } },
    { 0 }
};
