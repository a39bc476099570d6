/* gemm.h — the matrix product shared by matmul and xent: one problem struct, tiles of C, one chain of additions per element.
 *
 * C(m,n) = [C(m,n) +] sum over k, in order, of A(m,k) B(k,n) [+ bias(n)]. Both operands are seen as (outer, reduction): A as (m,k), B as
 * (n,k), and a lm_mat says where element (o,k) lies: strided, in a panel layout, or in a quantized row. Order ids:
 *   "fma.k"     f32: one FMA per k, from 0 or C; bias added last. AVX-512 and AVX2 agree to the bit.
 *   "mad.k"     the same with a rounding between product and sum (no FMA in the instruction set).
 *   "bf16.*"    operands rounded to bf16 (nearest even) while packing; then fma or mad over k, or dp: one vdpbf16ps per pair of k, or
 *               amx: one tdpbf16ps per 32 of k; K is padded with zeros.
 *   "q8.k32"    A quantized to int8 per 32 of k (d = max|x|/127), integer dot per block, then acc += d_a * d_b * sum in block order.
 *   "q8.k256"   the same per 256 of k, for super-blocks (q8.h).
 * Nothing else enters: not M, N, the tile, the thread, the layout or the transposition; a GEMV gives the bits of a row of a GEMM.
 *
 * A tile of C is mb rows by nbp panels of 16 columns. For each block of kc the B panels [k][16] are packed into the thread's scratch (or
 * read in place from a PANEL16 weight), stay in L2 and are swept by micro-kernels that hold r rows x p panels of C in registers; A is packed a
 * group of rows at a time, right before it is used; few rows are read in place.
 *
 * Lifetime: everything is per call.  Threads: tiles are independent.  Errors: none; shapes were checked by the op. */
#ifndef LM_GEMM_H
#define LM_GEMM_H
#include "op/op.h"

typedef struct lm_mat {
    const void *p; lm_dtype dtype; lm_layout layout;
    const lm_tensor *t;                    /* LM_QUANT: the tensor, outer = its rows */
    bool row;                              /* outer index = row of the stored matrix (else its column) */
    int64_t os, ks, bs;                    /* PLAIN: element strides of outer, k, batch; one of os, ks is 1 */
    int64_t cols;                          /* panels: columns of the stored matrix */
} lm_mat;
typedef struct lm_gemm {
    int64_t batch, M, N, K;
    lm_mat a, b;
    float *c; int64_t c_rs, c_bs;
    const void *bias; lm_dtype bias_dtype;  /* F32 or BF16, N numbers, or NULL */
    void *apack, *bpack;                   /* A, or (bf16) B, already packed for all tiles in the kernel's own form, or NULL: every tile sees to it */
    bool acc, round;                       /* C +=; operands rounded to bf16 first */
    /* f32: the tile, from a caller that knows better (a multiple of 24, or all rows; at most LM_GEMM_NBP); 0: chosen */
    int64_t mb, nbp;
} lm_gemm;
typedef struct lm_gemm_grid { int64_t mb, nbp, n_m, n_n, tiles; } lm_gemm_grid;

/* How a stored matrix is seen: row = its rows are the outer index. */
lm_mat lm_mat_of(const lm_tensor *t, bool row);
/* A (M,K) view of an f32 buffer with a row stride; row as above. */
lm_mat lm_mat_f32(const float *p, int64_t stride, bool row);
enum { LM_GEMM_KC = 512, LM_GEMM_STRIP = 64, LM_GEMM_NBP = 24 };
void lm_gemm_of(const lm_call *c, lm_gemm *g);                 /* a call of the matmul op */
bool lm_gemm_accepts(const lm_call *c);                       /* what all float kernels can read; then by mm: */
bool lm_gemm_accepts_f32(const lm_call *c);
bool lm_gemm_accepts_bf16(const lm_call *c);
/* Tiles of C for the f32 kernels; depends on M, N, K, batch alone. */
lm_gemm_grid lm_gemm_f32_grid(const lm_gemm *g);
size_t lm_gemm_f32_scratch(const lm_gemm *g);                  /* per thread; enough for every smaller M */
bool lm_gemm_b_here(const lm_gemm *g);                         /* f32: B is read where it lies */
int64_t lm_gemm_kc(const lm_gemm *g);                          /* block of k */
typedef void lm_gemm_tile_fn(const lm_gemm *g, int64_t tile, void *scratch);
/* Up to LM_FEW_ROWS rows against bf16 panels, columns n0 … n1-1 (few_simd.c). bias: N - n0 of them rounded up to 16, or NULL; scratch: as
 * lm_gemm_f32_scratch, which is more than M rows of a block of k. */
enum { LM_FEW_ROWS = 16 };
typedef void lm_few_tile_fn(const lm_gemm *g, int64_t batch, int64_t n0, int64_t n1, const float *bias, float *scratch);
lm_few_tile_fn lm_few_tile_avx512, lm_few_tile_avx2, lm_few_tile_portable;
lm_gemm_tile_fn lm_gemm_f32_tile_avx512, lm_gemm_f32_tile_avx2, lm_gemm_f32_tile_portable;
/* A in the kernel's own form, to be an apack: returns its bytes, of at most M + 8 floats per k and 16 per row. */
typedef size_t lm_gemm_pack_a_fn(const lm_gemm *g, void *apack, void *scratch);
lm_gemm_pack_a_fn lm_gemm_f32_pack_a_avx512, lm_gemm_f32_pack_a_avx2, lm_gemm_f32_pack_a_portable;

/* ---- bf16: operands in blocks of 16 outer by 32 of k, 1 KiB each ------------------------------------------------------------------
 * A [group of 16 rows][block of k][16][32], B as PANEL16X2: [panel][block of k][16 pairs][16][2]; zeros fill up. Both are packed once, B
 * only if it is not stored so. Up to 16 rows: the tile packs its A, [block of k][M][32], and blocks of B. */
enum { LM_BF16_NBP = 48, LM_BF16_FEW = 16, LM_BF16_KC = 512 /* few rows, B to pack */ };
bool lm_bf16_b_here(const lm_gemm *g);
lm_gemm_grid lm_bf16_grid(const lm_gemm *g);
size_t lm_bf16_shared(const lm_gemm *g, bool b_too);           /* for A packed once, and B if it is not stored in panels */
size_t lm_bf16_scratch(const lm_gemm *g);
/* scratch of lm_gemm_dp_tile for more than 16 rows when B is packed by every tile (bpack NULL) */
enum { LM_DP_LOCAL_BYTES = 8192 + LM_BF16_NBP * LM_BF16_KC * 32 };
void lm_bf16_bind(lm_gemm *g, void *shared);                   /* apack, bpack */
int64_t lm_bf16_packs(const lm_gemm *g);
void lm_bf16_pack(const lm_gemm *g, int64_t i, void *scratch);  /* AVX512_BF16 */
lm_gemm_tile_fn lm_gemm_amx_tile, lm_gemm_dp_tile;
void lm_bf16_transpose(void *r);                               /* 16x16 of 32 bits, 64-byte aligned, in place */
/* One block: as A (rows of 32 k, `rows` of them) or as B; o < n outer and k < K are there, the rest is zero. tmp: 4 KiB. */
void lm_bf16_block(const lm_mat *m, int64_t batch, int64_t o, int64_t n, int64_t k, int64_t K, bool as_a, int rows, void *dst, float *tmp);
#endif
