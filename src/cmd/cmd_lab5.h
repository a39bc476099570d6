/* cmd_lab5.h — the ladder of a course's fifth lab (4-bit weights times 8-bit activations): one product, written six ways.
 *
 * y (M, N) = x (M, K) W (N, K)ᵀ, where W is Q4_0 (32 nibbles and a half-precision scale) and x is 8-bit codes with a scale for each 32. Every step adds the
 * same exact integers, block by block, times the same scales; they differ in how fast that goes.
 *
 * Lifetime: values.  Threads: a step with threads uses the context's pool.  Errors: none. */
#ifndef LM_CMD_LAB5_H
#define LM_CMD_LAB5_H
#include "base/base.h"
typedef struct {
    int64_t M, N, K; const uint8_t *w;                         /* rows of blocks of 18 bytes */
    const int8_t *x; const float *xd;                          /* (M, K), (M, K / 32) */
    float *y;                                                  /* (M, N) */
} lm_lab5;
enum { LM_LAB5_BLOCK = 32, LM_LAB5_BYTES = 18 };
typedef struct { const char *name, *what; bool threads; void (*run)(const lm_lab5 *p, int64_t n0, int64_t n1, uint64_t features); } lm_lab5_step;       /* outputs n0 … n1-1 */
extern const lm_lab5_step lm_lab5_steps[5];                    /* the sixth, everything together, is the program's own product */
void lm_lab5_quantize(const float *x, int64_t n, int8_t *q, float *d);      /* as the product's own first phase does it */
#endif
