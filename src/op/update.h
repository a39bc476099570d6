/* update.h — what rows that write parameters share: walking a parameter beside plain tensors of its shape.
 *
 * All tensors of such a row are f32. If they share a layout the walk is over storage, flat. If the parameter alone is in 16-row panels
 * (PANEL16), the walk is over 16×16 squares, turned in a buffer, so that gradients and moments stay in plain order and a step gives the
 * same bits in both layouts. Include in *_simd.c only. */
#ifndef LM_UPDATE_H
#define LM_UPDATE_H
#include "op/elementwise.h"
static inline bool lm_upd_mixed(const lm_tensor *param, const lm_tensor *other) { return param->layout != other->layout; }
static inline bool lm_upd_ok(const lm_tensor *t) {
    return t->dtype == LM_F32 && (t->layout == LM_PLAIN ? lm_is_contig(t) : t->layout == LM_PANEL16 && t->rank == 2); }
/* param may be PANEL16; the others are all PLAIN, or all as param is. */
static inline bool lm_upd_accepts(const lm_tensor *param, int n, const lm_tensor *const *other) {
    if (!lm_upd_ok(param)) return false;
    for (int i = 0; i < n; i++) if (!lm_upd_ok(other[i]) || other[i]->layout != other[0]->layout) return false;
    return other[0]->layout == param->layout || other[0]->layout == LM_PLAIN; }
static inline int64_t lm_upd_flat(const lm_tensor *t) { return t->layout == LM_PANEL16 ? lm_round_up(t->dim[0], 16) * t->dim[1] : lm_numel(t); }
static inline int64_t lm_upd_tiles(const lm_tensor *param, const lm_tensor *other) {
    return lm_upd_mixed(param, other) ? lm_ceil_div(param->dim[0], 16) : lm_ceil_div(lm_upd_flat(param), LM_EW_TILE); }
/* The walk: BODY(p, i, n) updates n parameters at p whose plain neighbours start at element i. */
#define LM_UPD_WALK(param, other, tile, p, i, n, ...) do {                                                                               \
    const lm_tensor *t_ = (param); float *base_ = t_->data;                                                                             \
    if (!lm_upd_mixed(t_, (other))) {                                                                                                   \
        int64_t i = (tile) * LM_EW_TILE, n = lm_min64(LM_EW_TILE, lm_upd_flat(t_) - i); float *p = base_ + i; { __VA_ARGS__; }           \
    } else {                                                                                                                            \
        int64_t k_ = t_->dim[1], rows_ = lm_min64(16, t_->dim[0] - (tile) * 16); float sq_[16][16];                                      \
        base_ += (tile) * 16 * k_;                                                                                                      \
        for (int64_t j_ = 0; j_ < k_; j_ += 16) {                                                                                       \
            int64_t n = lm_min64(16, k_ - j_);                                                                                          \
            for (int64_t a_ = 0; a_ < n; a_++) for (int b_ = 0; b_ < 16; b_++) sq_[b_][a_] = base_[(j_ + a_) * 16 + b_];                 \
            for (int64_t b_ = 0; b_ < rows_; b_++) { float *p = sq_[b_]; int64_t i = ((tile) * 16 + b_) * k_ + j_; { __VA_ARGS__; } }     \
            for (int64_t a_ = 0; a_ < n; a_++) for (int b_ = 0; b_ < 16; b_++) base_[(j_ + a_) * 16 + b_] = sq_[b_][a_]; } } } while (0)
#endif
