/* elementwise.h — how kernels of *_simd.c walk memory: flat tiles for elementwise rows, row tiles for rows that reduce.
 *
 *   elementwise: elements 0..n in tiles of LM_EW_TILE, each cut at row ends where a tensor has a row stride (one segment when all are contiguous)
 *   rows:        about LM_EW_TILE elements of whole rows per tile
 *   columns:     LM_COL_TILE columns per tile, all rows in order: one accumulator per column, so sums over tokens have one order
 *
 * Tiles depend on the problem alone. Lanes beyond the end are loaded as zero and never stored. Include in *_simd.c only.
 * LM_ORDER(id) is the order id of a kernel row: sets with FMA share bits, the portable build has its own. */
#ifndef LM_ELEMENTWISE_H
#define LM_ELEMENTWISE_H
#include "op/lanes.h"
#include "op/rule.h"
enum { LM_EW_TILE = 8192, LM_COL_TILE = 64 };
#if defined(__FMA__)
#define LM_ORDER(id) id "/fma"
#else
#define LM_ORDER(id) id
#endif

static inline int64_t lm_ew_tiles(const lm_call *c) { return lm_ceil_div(lm_numel(&c->out[0]), LM_EW_TILE); }
/* The run length within which every tensor of the call is contiguous: all of it, or a row. Vectors that are broadcast are not asked. */
static inline int64_t lm_ew_seg(const lm_call *c, int n_in) {
    bool flat = true;
    for (int i = 0; i < n_in; i++) flat = flat && lm_is_contig(&c->in[i]);
    for (int i = 0; i < c->n_out; i++) flat = flat && lm_is_contig(&c->out[i]);
    return flat ? INT64_MAX / 2 : lm_cols(&c->out[0]);
}
static inline float *lm_ew_at(const lm_tensor *t, int64_t i, int64_t seg) { return (float *)t->data + i / seg * lm_row_stride(t) + i % seg; }
/* for (each segment of the tile) with i = first element, n = length */
#define LM_EW_FOR(c, tile, seg, i, n)                                                                                                 \
    for (int64_t i = (tile) * LM_EW_TILE, end_ = lm_min64(i + LM_EW_TILE, lm_numel(&(c)->out[0])), n;                                    \
         i < end_ && ((n = lm_min64(end_ - i, (seg) - i % (seg))), true); i += n)
/* Walk n contiguous elements VN at a time: the body says LM_LD(p + k) and LM_ST(p + k, v), which in the last, shorter step touch what is
 * left only. */
#define LM_LD(p) vn_loadn((p), m_)
#define LM_ST(p, v) vn_storen((p), (v), m_)
#define LM_V_WALK(n, k, ...) do {                                                                                                     \
    int64_t k = 0, n_ = (n);                                                                                                          \
    { enum { m_ = VN }; for (; k + VN <= n_; k += VN) { __VA_ARGS__; } }                                                              \
    if (k < n_) { int64_t m_ = n_ - k; __VA_ARGS__; } } while (0)
/* total = sum of an expression over k (0 where its loads are 0): element i goes to accumulator i mod 64 (the last, partial 64 fill them
 * from the front in sixteens: all whole sixteens to the first, the rest to the second), then the tree. */
#define LM_V_SUM(total, n, k, ...) do {                                                                                               \
    vn a_[64 / VN]; int64_t k = 0, n_ = (n);                                                                                          \
    _Pragma("GCC unroll 16") for (int q_ = 0; q_ < 64 / VN; q_++) a_[q_] = (vn){ 0 };                                                  \
    { enum { m_ = VN };                                                                                                               \
      while (k + 64 <= n_) { _Pragma("GCC unroll 16") for (int q_ = 0; q_ < 64 / VN; q_++, k += VN) a_[q_] += (__VA_ARGS__); }          \
      while (k + 16 <= n_) { _Pragma("GCC unroll 4") for (int q_ = 0; q_ < 16 / VN; q_++, k += VN) a_[q_] += (__VA_ARGS__); } }         \
    _Pragma("GCC unroll 4") for (int q_ = 0; q_ < 16 / VN; q_++)                                                                       \
        if (k < n_) { int64_t m_ = lm_min64(VN, n_ - k); a_[16 / VN + q_] += (__VA_ARGS__); k += m_; }                                 \
    total = vn_tree(a_); } while (0)
/* The kernel function of a unary or binary elementwise row. */
#define LM_EW_KERNEL1(fn, v, ...)                                                                                                      \
    static lm_err fn(const lm_call *c, int64_t tile, void *scratch) {                                                                   \
        (void)scratch; int64_t seg = lm_ew_seg(c, 1);                                                                                 \
        LM_EW_FOR(c, tile, seg, i, n) {                                                                                               \
            float *y_ = lm_ew_at(&c->out[0], i, seg); const float *x_ = lm_ew_at(&c->in[0], i, seg);                                   \
            LM_V_WALK(n, k, vn v = LM_LD(x_ + k); LM_ST(y_ + k, (__VA_ARGS__))); }                                                    \
        return LM_OK; }
#define LM_EW_KERNEL2(fn, v, w, ...)                                                                                                   \
    static lm_err fn(const lm_call *c, int64_t tile, void *scratch) {                                                                   \
        (void)scratch; int64_t seg = lm_ew_seg(c, 2);                                                                                 \
        LM_EW_FOR(c, tile, seg, i, n) {                                                                                               \
            float *y_ = lm_ew_at(&c->out[0], i, seg); const float *x_ = lm_ew_at(&c->in[0], i, seg), *z_ = lm_ew_at(&c->in[1], i, seg);   \
            LM_V_WALK(n, k, vn v = LM_LD(x_ + k); vn w = LM_LD(z_ + k); LM_ST(y_ + k, (__VA_ARGS__))); }                               \
        return LM_OK; }
/* The kernel function of a broadcasting binary row: OP is an operator. */
#define LM_BROADCAST_KERNEL(fn, OP)                                                                                                    \
    static lm_err fn(const lm_call *c, int64_t tile, void *scratch) {                                                                   \
        (void)scratch; lm_broadcast kind = lm_broadcast_of(&c->in[0], &c->in[1]);                                                       \
        int64_t seg = kind == LM_B_ROW ? lm_cols(&c->out[0]) : lm_ew_seg(c, kind == LM_B_SAME ? 2 : 1);                                 \
        LM_EW_FOR(c, tile, seg, i, n) {                                                                                               \
            float *y = lm_ew_at(&c->out[0], i, seg); const float *x = lm_ew_at(&c->in[0], i, seg), *b = c->in[1].data;                  \
            if (kind == LM_B_SCALAR) { vn s = vn_set(*b); LM_V_WALK(n, k, LM_ST(y + k, LM_LD(x + k) OP s)); continue; }              \
            b = kind == LM_B_ROW ? b + i % seg : lm_ew_at(&c->in[1], i, seg);                                                          \
            LM_V_WALK(n, k, vn v = LM_LD(x + k); vn w = LM_LD(b + k); LM_ST(y + k, v OP w)); }                                        \
        return LM_OK; }
/* The kernel list of a row with one kernel of one phase. */
#define LM_ONE_KERNEL(op, accept, tiles_fn, run_fn)                                                                                    \
    extern const lm_kernel LM_ISA_NAME(lm_k_##op)[];                                                                                    \
    const lm_kernel LM_ISA_NAME(lm_k_##op)[] = { { .name = #op ".f32." LM_ISA_STR, .needs = LM_ISA_NEEDS, .order = LM_ORDER(#op),           \
        .accepts = accept, .n_phase = 1, .phase = { { tiles_fn, run_fn } } }, { 0 } }

/* ---- rows ---- */
static inline int64_t lm_rows_per_tile(int64_t cols) { return lm_max64(1, LM_EW_TILE / lm_max64(cols, 1)); }
static inline int64_t lm_row_tiles(const lm_call *c) { return lm_ceil_div(lm_rows(&c->in[0]), lm_rows_per_tile(lm_cols(&c->in[0]))); }
#define LM_ROW_FOR(c, tile, r)                                                                                                        \
    for (int64_t per_ = lm_rows_per_tile(lm_cols(&(c)->in[0])), r = (tile) * per_, last_ = lm_min64(r + per_, lm_rows(&(c)->in[0])); r < last_; r++)
static inline float *lm_row(const lm_tensor *t, int64_t r) { return (float *)t->data + r * lm_row_stride(t); }
/* The largest of n elements, -inf for none. */
static inline float lm_v_maxof(const float *x, int64_t n) {
    vn a = vn_set(-INFINITY), b = a; int64_t k = 0;
    for (; k + 2 * VN <= n; k += 2 * VN) { a = vn_max(vn_load(x + k), a); b = vn_max(vn_load(x + k + VN), b); }
    for (; k < n; k += VN) a = vn_max(vn_loadf(x + k, lm_min64(VN, n - k), -INFINITY), a);
    return vn_hmax(vn_max(a, b)); }

/* ---- columns ---- */
static inline int64_t lm_col_tiles(const lm_call *c) { return lm_ceil_div(lm_numel(&c->out[0]), LM_COL_TILE); }
/* y[0, w) = (keep ? y : 0) + sum over the rows that the loop ROWS walks of an expression at column k. ROWS is a for statement without its
 * body's braces. */
#define LM_COL_SUM(y, w, keep, k, ROWS, ...) do {                                                                                      \
    if ((w) == LM_COL_TILE) {                                                                                                         \
        enum { m_ = VN }; vn a_[LM_COL_TILE / VN];                                                                                     \
        _Pragma("GCC unroll 16") for (int q_ = 0; q_ < LM_COL_TILE / VN; q_++) a_[q_] = (keep) ? vn_load((y) + q_ * VN) : (vn){ 0 };    \
        ROWS { _Pragma("GCC unroll 16") for (int q_ = 0; q_ < LM_COL_TILE / VN; q_++) { const int64_t k = q_ * VN; a_[q_] += (__VA_ARGS__); } } \
        _Pragma("GCC unroll 16") for (int q_ = 0; q_ < LM_COL_TILE / VN; q_++) vn_store((y) + q_ * VN, a_[q_]);                         \
    } else {                                                                                                                          \
        if (!(keep)) memset((y), 0, (size_t)(w) * 4);                                                                                 \
        ROWS LM_V_WALK(w, k, vn a_ = LM_LD((y) + k); a_ += (__VA_ARGS__); LM_ST((y) + k, a_)); } } while (0)
#endif
