/* q8.h — the integer product with weights of 8 or 4 bits in blocks of 32 (Q8_0, Q4_0): order id "q8.k32".
 *
 * Rows of A are quantized per 32 of k: d = max|x| / 127, codes rint(x * 127 / max|x|) (ties to even), 0 where the block is 0. For each
 * block of k, in order, acc = fma(d_a * d_w, sum, acc) where sum is the exact integer dot of the codes (".mad": product rounded before the
 * sum, where there is no FMA). Weights are rows of blocks as GGUF has them, or panels of sixteen rows (tensor.h). Either way a work item deals
 * with 16 outputs as 16 lanes, so that nothing is summed across lanes: for many rows of A it turns a stretch of blocks into codes [block][8 quads
 * of k][16 rows][4] in scratch first; for a few rows it multiplies panels as they lie, each byte of them read once.
 *
 * A's codes lie in strips of six rows, [strip][block][6][32], so that a strip is walked with one pointer. vpdpbusd wants one unsigned side: weights are
 * taken + 128, nibbles as they are, and a sum starts at -128 or -8 times the sum of A's codes: what comes out is the exact dot.
 *
 * Lifetime: per call.  Threads: tiles are independent.  Errors: none. */
#ifndef LM_Q8_H
#define LM_Q8_H
#include "op/matmul/gemm.h"
enum { LM_Q8_P = 4 /* panels in a work item */, LM_Q8_ROWS = 6, LM_Q8_MB = 258 /* rows of A */, LM_Q8_KB = 16 /* blocks in a stretch */ };
typedef struct {
    int64_t M, N, K, nb; const char *w; bool nibbles, panels;   /* 4-bit codes, less 8; else 8-bit ones */
    int64_t block;                                         /* bytes of one */
    int8_t *q; float *d; int32_t *start;                   /* A in strips: codes, scales, what sums start at */
    float *c; int64_t c_rs; bool acc; lm_gemm g;
} lm_q8;
bool lm_q8_accepts(const lm_call *c);
lm_q8 lm_q8_of(const lm_call *c);
size_t lm_q8_shared(const lm_call *c);
size_t lm_q8_scratch(const lm_call *c);
int64_t lm_q8_row_tiles(const lm_call *c);                /* phase 0: quantize strips */
lm_err lm_q8_row_run(const lm_call *c, int64_t i, void *scratch);
int64_t lm_q8_tiles(const lm_call *c);
/* Tile i: rows m0 … m1-1, columns n0 … n1-1. */
void lm_q8_tile(const lm_q8 *t, int64_t i, int64_t *m0, int64_t *m1, int64_t *n0, int64_t *n1);
float lm_q8_bias(const lm_q8 *t, int64_t n);
/* Row m, block b of A: where its scale and start are, and, times 32, its codes. */
static inline int64_t lm_q8_at(const lm_q8 *t, int64_t m, int64_t b) { return (m / LM_Q8_ROWS * t->nb + b) * LM_Q8_ROWS + m % LM_Q8_ROWS; }
/* Panels: block b of the sixteen rows from n0 on; rows: block b of row n. */
static inline const char *lm_q8_panel(const lm_q8 *t, int64_t n0, int64_t b) { return t->w + (n0 / 16 * t->nb + b) * 16 * t->block; }
static inline const char *lm_q8_row(const lm_q8 *t, int64_t n, int64_t b) { return t->w + (n * t->nb + b) * t->block; }
#endif
