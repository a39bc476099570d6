/* amx.h — the AMX micro-kernels that matmul and xent share; only files *_amx.c include this.
 *
 * A micro-kernel holds I x J tiles (16x16) of C. Blocks of A and B are 1 KiB (gemm.h); every step may have its own distance, in bytes:
 * a_k, b_k from one block of k to the next, a_o, b_o from one group of 16 outer to the next. C: c_r bytes from row to row of a tile, c_i
 * and c_j floats from tile to tile. Tiles 0-3 C, 4-5 A, 6-7 B.
 *
 * Four products take 64 cycles at best and read 64 lines, which L1 gives in 32 cycles, L2 in 80-90, L3 in 500 (Sapphire Rapids: 2.75 TFLOP/s,
 * 2.0, 0.3-0.45 a core). So a step may ask for what is late: the next block of A into L1; a few rows of the C that comes next (stores to
 * lines that are not there fill the store buffer); a few lines of the B that comes next into L2.
 *
 * Lifetime: a configuration lives from lm_amx_begin to lm_amx_end on the calling thread.  Threads: state per thread.  Errors: none. */
#ifndef LM_AMX_H
#define LM_AMX_H
#include <immintrin.h>
#include <string.h>
#include "op/matmul/gemm.h"
typedef struct {
    int64_t nk;
    const char *a; int64_t a_k, a_o;
    const char *b; int64_t b_k, b_o;
    float *c; int64_t c_r, c_i, c_j;
    bool load;                                      /* start from C */
    bool ahead;                                     /* fetch the next step's A to L1 */
    const char *next_c; int64_t next_r;             /* the C to come, or NULL: 32 rows next_r bytes apart are fetched during this block */
    const char *next_b; int64_t next_lines;         /* the B to come: so many lines of either panel (b_o apart) per step, to L2 */
} lm_amx;
/* Tiles 0 … n_few-1 have `rows` rows, the others 16; all 64 bytes wide. */
static inline void lm_amx_begin(int rows, int n_few) {
    struct { uint8_t palette, start, zero[14]; uint16_t bytes[16]; uint8_t rows[16]; } c __attribute__((aligned(64)));
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int i = 0; i < 8; i++) { c.bytes[i] = 64; c.rows[i] = (uint8_t)(i < n_few ? rows : 16); }
    _tile_loadconfig(&c);
}
static inline void lm_amx_end(void) { _tile_release(); }
#define LM_AMX_W(p) __builtin_prefetch(p, 1, 3)
static inline __attribute__((always_inline)) void lm_amx_micro(const lm_amx *u, const int I, const int J) {
    const char *a = u->a, *b = u->b;
    float *c = u->c;
    const int64_t ci = u->c_i, cj = u->c_j, cr = u->c_r, ao = u->a_o, bo = u->b_o, ak = u->a_k, bk = u->b_k;
    const char *nc = u->next_c, *nb = u->next_b;
    const bool ahead = u->ahead;
    const int64_t rows = nc ? (31 + u->nk) / lm_max64(u->nk, 1) : 0, lines = u->next_lines, nr = u->next_r;
    if (u->load) {
        _tile_loadd(0, c, cr); if (J > 1) _tile_loadd(1, c + cj, cr);
        if (I > 1) { _tile_loadd(2, c + ci, cr); if (J > 1) _tile_loadd(3, c + ci + cj, cr); }
    } else { _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3); }
    for (int64_t k = u->nk; k > 0; k--, a += ak, b += bk) {
        _tile_loadd(4, a, 64); _tile_loadd(6, b, 64); if (J > 1) _tile_loadd(7, b + bo, 64);
        for (int64_t i = rows; i > 0; i--, nc += nr) { LM_AMX_W(nc); LM_AMX_W(nc + 64); LM_AMX_W(nc + 124); }
        _tile_dpbf16ps(0, 4, 6); if (J > 1) _tile_dpbf16ps(1, 4, 7);
        for (int64_t i = lines; i > 0; i--, nb += 64) { _mm_prefetch(nb, _MM_HINT_T1); _mm_prefetch(nb + bo, _MM_HINT_T1); }
        if (ahead)
            for (int i = 0; i < 1024; i += 64) { _mm_prefetch(a + ak + i, _MM_HINT_T0); if (I > 1) _mm_prefetch(a + ao + ak + i, _MM_HINT_T0); }
        if (I > 1) { _tile_loadd(5, a + ao, 64); _tile_dpbf16ps(2, 5, 6); if (J > 1) _tile_dpbf16ps(3, 5, 7); }
    }
    _tile_stored(0, c, cr); if (J > 1) _tile_stored(1, c + cj, cr);
    if (I > 1) { _tile_stored(2, c + ci, cr); if (J > 1) _tile_stored(3, c + ci + cj, cr); }
}
static inline void lm_amx_block(const lm_amx *u, int i, int j) {
    if (i > 1) { if (j > 1) lm_amx_micro(u, 2, 2); else lm_amx_micro(u, 2, 1); }
    else if (j > 1) lm_amx_micro(u, 1, 2); else lm_amx_micro(u, 1, 1);
}
static inline void lm_amx_copy(float *d, int64_t ds, const float *s, int64_t ss, int64_t rows, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) memcpy(d + r * ds, s + r * ss, (size_t)cols * 4);
}
/* Up to 32x32 of a row-major C with stride cs, rows and cols as they come; edge: 4 KiB. */
static inline void lm_amx_into(lm_amx *u, float *c, int64_t cs, int64_t rows, int64_t cols, float *edge) {
    const bool whole = (rows == 16 || rows == 32) && (cols == 16 || cols == 32);
    const int64_t s = whole ? cs : 32;
    u->c = whole ? c : edge; u->c_r = s * 4; u->c_i = 16 * s; u->c_j = 16;
    if (!whole && u->load) lm_amx_copy(edge, 32, c, cs, rows, cols);
    lm_amx_block(u, rows > 16 ? 2 : 1, cols > 16 ? 2 : 1);
    if (!whole) lm_amx_copy(c, cs, edge, 32, rows, cols);
}
#endif
