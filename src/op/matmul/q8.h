/* q8.h — the integer product with Q8_0 weights: order id "q8.k32".
 *
 * Rows of A are quantized per 32 of k: d = max|x| / 127, codes rint(x * 127 / max|x|) (ties to even), 0 where the block is 0. For each
 * block of k, in order, acc = fma(d_a * d_w, sum, acc) where sum is the exact integer dot of the codes (".mad": product rounded before the
 * sum, where there is no FMA). Weights stay as GGUF has them, rows of {f16 d; int8 q[32]}; a work item turns 16 rows into [block][8 quads
 * of k][16 rows][4] in scratch, so that 16 outputs are 16 lanes and nothing is summed across lanes, and then runs all rows of A over them.
 *
 * Lifetime: per call.  Threads: tiles are independent.  Errors: none. */
#ifndef LM_Q8_H
#define LM_Q8_H
#include "op/matmul/gemm.h"
enum { LM_Q8_BYTES = 34, LM_Q8_P = 4 /* panels in a work item */, LM_Q8_MB = 256 /* rows of A */ };
typedef struct { int64_t M, N, K, nb; const char *w; int64_t w_row; uint8_t *q; float *d; float *c; int64_t c_rs; bool acc; lm_gemm g; } lm_q8;
bool lm_q8_accepts(const lm_call *c);
lm_q8 lm_q8_of(const lm_call *c);
size_t lm_q8_shared(const lm_call *c);                    /* codes + 128 (M,K), scales (M,K/32) */
size_t lm_q8_scratch(const lm_call *c);
int64_t lm_q8_row_tiles(const lm_call *c);                /* phase 0: quantize 16 rows */
lm_err lm_q8_row_run(const lm_call *c, int64_t i, void *scratch);
int64_t lm_q8_tiles(const lm_call *c);
/* Tile i: rows m0 … m1-1, columns n0 … n1-1. */
void lm_q8_tile(const lm_q8 *t, int64_t i, int64_t *m0, int64_t *m1, int64_t *n0, int64_t *n1);
float lm_q8_bias(const lm_q8 *t, int64_t n);
#endif
