/* quant_fp8.h — numbers as e4m3 with f32 scales by tile: as they lie and transposed, what matmul_fp8 multiplies.
 *
 * x (R, C), C a multiple of 128, is rounded to bf16 first. Outputs, where the params ask for them (else absent); R' is R rounded up to 128:
 *   0 q  (R, C) e4m3     1 s  (C/128, R') f32    x ≈ q s, one scale for 128 of a row
 *   2 qt (C, R') e4m3    3 st (R'/128, C) f32    xᵀ ≈ qt st, one scale for 128 of a column; rows that are not there are zeros
 * With `blocks` 128×128 have one scale, s is (R/128, C/128), st its transpose, qt the bytes of q; R is then a multiple of 128.
 * With `square` qt's scales alone are such, st (C/128, R'/128): e4m3 keeps three bits over a range of 2^15 below the largest number of a tile, and a
 * product with one scale for 128 of its columns is faster than one with a scale for each.
 * A scale is max|x| / 448, so nothing saturates; what is at most 2^-10 of a scale becomes zero. Numbers that are not finite give NaN.
 * Input 1 is a state, I64[12], that every such node adds to (output 4): at 4·group how many numbers there were, how many were not finite,
 * how many became zero, and the bits of the largest |x| as f32. Numbers that are not finite count by what they make: NaN in q.
 *
 * Lifetime, Threads: as op.h.  Errors: LM_E_SHAPE. */
#ifndef LM_QUANT_FP8_H
#define LM_QUANT_FP8_H
#include <assert.h>
#include "op/op.h"
enum { LM_FP8_TILE = 128, LM_FP8_ELEMENTS = 0, LM_FP8_ODD, LM_FP8_FLUSHED, LM_FP8_AMAX, LM_FP8_COUNTS };
enum { LM_FP8_ACTIVATION, LM_FP8_GRADIENT, LM_FP8_WEIGHT, LM_FP8_GROUPS };
enum { LM_FP8_ALL_COUNTS = 12 };                       /* counts of every group: LM_FP8_COUNTS × LM_FP8_GROUPS */
static_assert(LM_FP8_ALL_COUNTS == (int)LM_FP8_COUNTS * (int)LM_FP8_GROUPS, "counts of every group");
#define LM_FP8_TINY 1e-30f                      /* a tile's largest, at least */
extern const lm_op lm_op_quant_fp8;
typedef struct { bool rows, cols, blocks, square; int group; } lm_quant_fp8_p;
lm_value *lm_quant_fp8(lm_graph *g, lm_value *x, lm_value *counts, const lm_quant_fp8_p *p);      /* output 0, or NULL after an error */
/* For rows that make such tensors from what they compute: shapes of outputs first … first + 3 for (rows, cols) numbers, and truth and counts from
 * doubles, rounded as kernels round. */
lm_err lm_fp8_shape(lm_ctx *ctx, const char *op, int64_t rows, int64_t cols, const lm_quant_fp8_p *p, lm_type *out);
void lm_fp8_ref(const lm_quant_fp8_p *p, const double *x, int64_t rows, int64_t cols, const lm_tensor *out, int64_t *counts);
/* One tile of 128×128 of f32 numbers (row r, column c of x at x[r * ld + c], n rows of it there), on the processor; counts atomically. */
void lm_fp8_tile(const lm_quant_fp8_p *p, const float *x, int64_t ld, int64_t r0, int64_t c0, int64_t n, const lm_tensor *out, int64_t *counts);
#endif
