/* q8.h — the integer product with weights in ggml's blocks. Two families of formats, by the stretch of k over which A has one scale:
 *
 *   32   Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL: order id "q8.k32". For each block of k, in order, acc = fma(d_a * d_w, sum, acc); then, with minima,
 *        acc = fma(minimum, d_a * sum of A's codes, acc).
 *   256  Q4_K, Q5_K, Q6_K: "q8.k256". For each super-block, in order: t = 0; for its groups (of 32, Q6_K: of 16), in order, t = fma(d_w * scale, sum, t);
 *        then, with minima, t = fma(-dmin_w, sum of minimum * (sum of A's codes of the group), t); acc = fma(d_a, t, acc).
 *
 * Every sum is an exact integer. ".mad": products rounded before they are added, where there is no FMA. A is quantized by rows: d = max|x| / 127 of its
 * stretch, codes rint(x * 127 / max|x|) (ties to even), 0 where all are 0; NaN where one is not finite.
 *
 * Weights are rows of blocks as GGUF has them, or panels of sixteen rows (tensor.h). Either way a work item deals with 16 outputs as 16 lanes, so that
 * nothing is summed across lanes: for many rows of A it turns a piece of k into codes [quads of k][16 rows][4] in scratch first; for a few rows it
 * multiplies panels as they lie, each byte of them read once.
 *
 * A's codes lie in strips of six rows, [strip][block][6][32 or 256], or as one strip where there are at most eight, so that a strip is walked with one
 * pointer. The instructions want one unsigned
 * side: codes are taken as they are stored (signed ones + 128), and a sum starts at what that adds: what comes out is the exact dot.
 *
 * Lifetime: per call.  Threads: tiles are independent.  Errors: none. */
#ifndef LM_Q8_H
#define LM_Q8_H
#include "op/matmul/gemm.h"
#include "op/matmul/matmul.h"
/* unit 32 first */
typedef enum { LM_W_Q8_0, LM_W_Q4_0, LM_W_Q4_1, LM_W_Q5_0, LM_W_Q5_1, LM_W_IQ4_NL, LM_W_Q4_K, LM_W_Q5_K, LM_W_Q6_K } lm_q8_kind;
enum { LM_Q8_P = 4 /* panels in a work item of many rows */, LM_Q8_ROWS = 6, LM_Q8_FEW = 8, LM_Q8_MID = 64 /* rows: up to so many, items by bytes */,
       LM_Q8_MB = 258 /* rows of A */, LM_Q8_K = 512 /* k in a piece */, LM_Q8_STARTS = 16 };
typedef struct {
    int64_t M, N, K, nb; const char *w; lm_q8_kind kind; bool panels;
    int64_t unit, block; int head, halves;                 /* numbers and bytes of a block; two-byte numbers at its front, in all */
    int64_t strip; int8_t *q; float *d;                    /* A in strips of so many rows: codes, scales */
    /* unit 32: what a sum starts at; with minima, which start at 0, the sum of A's codes. 256, sixteen to a block: Q6_K the same, by 16 of k; else the
     * sums of A's codes by 32 of k, as pairs of 16 bits in four numbers: (0, 2), (1, 3), (4, 6), (5, 7) */
    int32_t *start;
    const void *a; int64_t a_rs; lm_dtype a_dtype; const void *bias; lm_dtype bias_dtype;
    float *c; int64_t c_rs; bool acc;
    int64_t own;                                           /* bytes of the member's scratch that A's codes take, at its front */
    int64_t per, items;                                    /* rows up to LM_Q8_MID: columns of a work item; work items */
} lm_q8;
/* What all tiles of a call share, at the front of the memory that A's codes are in. last: items up to each weight's last. */
typedef struct { int n; int64_t last[LM_MATMUL_EACH]; lm_q8 t[LM_MATMUL_EACH]; } lm_q8_work;
static inline bool lm_q8_mins(lm_q8_kind k) { return k == LM_W_Q4_1 || k == LM_W_Q5_1; }      /* of those with unit 32 */
bool lm_q8_accepts(const lm_call *c);                     /* unit 32 */
bool lm_qk_accepts(const lm_call *c);                     /* unit 256 */
/* A's codes: up to LM_Q8_FEW rows are quantized by each member of the team for itself, into the front of its scratch (lm_phase.begin), which takes less
 * time than to wait for another; more rows by the tiles of phase 0, into the call's. rows: quantizes rows [m0, m1). */
typedef void lm_q8_rows(const lm_q8_work *w, int64_t m0, int64_t m1);
lm_q8_rows lm_q8_rows_plain;
size_t lm_q8_shared(const lm_call *c);
size_t lm_q8_own(const lm_call *c);                       /* bytes at the front of a member's scratch */
int64_t lm_q8_row_tiles(const lm_call *c);                /* phase 0 */
void lm_q8_row_tile(const lm_call *c, int64_t i, lm_q8_rows *rows);
void lm_q8_begin(const lm_call *c, void *scratch, lm_q8_rows *rows);
void lm_q8_start(lm_q8_kind k, const int32_t *sum, int32_t *start);     /* sum: of A's codes, by 16 */
int64_t lm_q8_tiles(const lm_call *c);
int lm_q8_reads(const lm_call *c, int64_t t0, int64_t t1, lm_span *out);
/* Tile i: which product, its rows m0 … m1-1, columns n0 … n1-1. */
const lm_q8 *lm_q8_tile(const lm_call *c, int64_t i, const void *scratch, int64_t *m0, int64_t *m1, int64_t *n0, int64_t *n1);
float lm_q8_bias(const lm_q8 *t, int64_t n);
/* Blocks of n rows of weights from row n0 on, as a panel; the rest of the sixteen is zero. For a piece of k, LM_Q8_TURNED bytes at most. */
enum { LM_Q8_TURNED = 8704 };
void lm_q8_turn(const lm_q8 *t, int64_t n0, int64_t n, int64_t b0, int64_t blocks, char *out);
/* Row m, block b of A: where its scale is, and, times `unit`, its codes; times 1 or LM_Q8_STARTS, its start. */
static inline int64_t lm_q8_at(const lm_q8 *t, int64_t m, int64_t b) { return (m / t->strip * t->nb + b) * t->strip + m % t->strip; }
static inline int64_t lm_q8_starts(const lm_q8 *t) { return t->unit == 32 ? 1 : LM_Q8_STARTS; }
static inline void lm_q8_start_all(const lm_q8 *t, int n, const int32_t *sum, int64_t to) {
    for (int i = 0; i < n; i++) lm_q8_start(t[i].kind, sum, t[i].start + to * lm_q8_starts(t));
}
/* Panels: block b of the sixteen rows from n0 on; rows: block b of row n. */
static inline const char *lm_q8_panel(const lm_q8 *t, int64_t n0, int64_t b) { return t->w + (n0 / 16 * t->nb + b) * 16 * t->block; }
static inline const char *lm_q8_row(const lm_q8 *t, int64_t n, int64_t b) { return t->w + (n * t->nb + b) * t->block; }
#endif
