/* rule.h — what the rules of ops share: checks with sentences for shape(), the double view for ref(), and the row form of a tensor.
 *
 * A shape rule reads as a list of wants; the first that fails sets a sentence "op: input i …: got …, wanted …".
 * "Rows" means all dimensions but the last folded into one with a single stride, which contiguous tensors and views made by split have.
 *
 * Lifetime: nothing is kept.  Threads: pure but for the sentence on the context.  Errors: LM_E_SHAPE. */
#ifndef LM_RULE_H
#define LM_RULE_H
#include "op/op.h"
enum { LM_ANY_FLOAT = -1 };                                                  /* for lm_want: any unquantized float */
lm_err lm_want(lm_ctx *ctx, const lm_call *c, int i, int dtype, int rank_lo, int rank_hi);
lm_err lm_want_dims(lm_ctx *ctx, const lm_call *c, int i, int rank, const int64_t *dim);
lm_err lm_want_like(lm_ctx *ctx, const lm_call *c, int i, int j);             /* input i has the dims and dtype of input j */
lm_err lm_want_cols(lm_ctx *ctx, const lm_call *c, int i, int j);             /* input i is a float vector as long as input j's last dimension */
#define LM_DIMS(...) (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]){__VA_ARGS__}
lm_type lm_type_like(const lm_tensor *t);                                    /* same dtype and dims, not quantized */
/* a whole rule: every input is a float like input 0, so is every output */
lm_err lm_shape_like_first(lm_ctx *ctx, const lm_call *c, lm_type *out);

static inline double *lm_f64(const lm_tensor *t) { return (double *)t->data; }
static inline bool lm_rows_fold(const lm_tensor *t) {
    if (t->rank && t->dim[t->rank - 1] > 1 && t->stride[t->rank - 1] != 1) return false;
    for (int i = 0; i + 2 < t->rank; i++) if (t->dim[i] > 1 && t->stride[i] != t->stride[i + 1] * t->dim[i + 1]) return false;
    return true;
}
static inline int64_t lm_row_stride(const lm_tensor *t) { return t->rank > 1 ? t->stride[t->rank - 2] : lm_cols(t); }
/* accepts(): all floats F32 PLAIN as rows with a stride, all integers I32 or I64 contiguous. */
bool lm_accepts_rows(const lm_call *c);
bool lm_accepts_flat(const lm_call *c);                                      /* the same, contiguous; ints I32 or I64 */
bool lm_is_f32_vec(const lm_tensor *t);                                      /* contiguous PLAIN F32 */

/* add and mul: b is as a is, a row vector of a's columns, or one number. Told by ranks first, for a's rows may be few at run time. */
typedef enum { LM_B_SAME, LM_B_ROW, LM_B_SCALAR } lm_broadcast;
static inline lm_broadcast lm_broadcast_of(const lm_tensor *a, const lm_tensor *b) {
    if (b->rank > 1 || (a->rank == 1 && b->dim[0] != 1)) return LM_B_SAME;
    return b->dim[0] == 1 && (a->rank == 1 || lm_cols(a) != 1) ? LM_B_SCALAR : LM_B_ROW;
}
lm_err lm_broadcast_shape(lm_ctx *ctx, const lm_call *c, lm_type *out);
lm_value *lm_broadcast_fold(lm_graph *g, lm_value *grad, const lm_value *a, const lm_value *b);   /* sum grad (like a) down to b's type */

/* Kernels of a *_simd.c and, in builds with CUDA, of a *_cuda.cu (op/cuda.cuh). LM_CUDA_ROWS(base): the latter alone, for a list written out.
 * With F16 in the name the *_cuda.cu beside is compiled a second time for f16 (op/cuda.cuh, cmake/cuda.cmake, which looks for the name here). */
#ifdef LM_CUDA
#define LM_SIMD_CUDA_KERNELS(base) extern const lm_kernel base##_cuda[], base##_avx512[], base##_avx2[], base##_portable[]; \
    static const lm_kernel *const base[] = { base##_cuda, base##_avx512, base##_avx2, base##_portable, NULL }
#define LM_CUDA_DECLARE(base) extern const lm_kernel base##_cuda[]
#define LM_CUDA_ROWS(base) base##_cuda,
#define LM_SIMD_CUDA_F16_KERNELS(base) extern const lm_kernel base##_cuda[], base##_cuda_f16[], base##_avx512[], base##_avx2[], base##_portable[]; \
    static const lm_kernel *const base[] = { base##_cuda, base##_cuda_f16, base##_avx512, base##_avx2, base##_portable, NULL }
#define LM_CUDA_F16_DECLARE(base) extern const lm_kernel base##_cuda[], base##_cuda_f16[]
#define LM_CUDA_F16_ROWS(base) base##_cuda, base##_cuda_f16,
#else
#define LM_SIMD_CUDA_F16_KERNELS(base) LM_SIMD_KERNELS(base)
#define LM_CUDA_F16_DECLARE(base) LM_CUDA_DECLARE(base)
#define LM_CUDA_F16_ROWS(base)
#define LM_SIMD_CUDA_KERNELS(base) LM_SIMD_KERNELS(base)
#define LM_CUDA_DECLARE(base) extern const lm_kernel base##_none[]
#define LM_CUDA_ROWS(base)
#endif

/* ---- samples: odd sizes for rows whose inputs are alike; T repeats the argument for each input ---- */
#define LM_TIMES1(...) { { __VA_ARGS__ } }
#define LM_TIMES2(...) { { __VA_ARGS__ }, { __VA_ARGS__ } }
#define LM_TIMES3(...) { { __VA_ARGS__ }, { __VA_ARGS__ }, { __VA_ARGS__ } }
#define LM_SAMPLES_ALIKE(tag, P, T, tol_)                                                                                              \
    { .name = "one" tag, .params = P, .in = T(.rank = 1, .dim = { 1 }), .tol = tol_ }, { .name = "3x7" tag, .params = P, .in = T(.rank = 2, .dim = { 3, 7 }), .tol = tol_ },  \
    { .name = "vector of 15" tag, .params = P, .in = T(.rank = 1, .dim = { 15 }), .tol = tol_ }, { .name = "2x17" tag, .params = P, .in = T(.rank = 2, .dim = { 2, 17 }), .tol = tol_ }, \
    { .name = "2x3x32" tag, .params = P, .in = T(.rank = 3, .dim = { 2, 3, 32 }), .tol = tol_ }, { .name = "over a tile" tag, .params = P, .in = T(.rank = 2, .dim = { 9, 1031 }), .tol = tol_ }, \
    { .name = "several tiles" tag, .params = P, .in = T(.rank = 2, .dim = { 130, 257 }), .tol = tol_ }
#endif
