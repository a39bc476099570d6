/* quant.h — quantized formats as rows: how a block of logical floats is stored, and how its codes are chosen.
 *
 * from_float rounds to nearest, to the bit as ggml's reference does; for formats with scales of scales it is the search without weights.
 *
 * A format row states its block (logical elements along the last dimension), its components (named byte arrays; a ggml block format has one)
 * and the conversions. Rows of a matrix are independent: row r of component c starts at r * comp_row_bytes(c, K). Everything that needs
 * logical values (embedding gather, sharding, checkpoints, the double reference) goes through to_float; fast kernels know the bytes.
 *
 * Lifetime: rows are static const.  Threads: pure.  Errors: K not a multiple of block is refused by lm_storage_bytes and the loaders. */
#ifndef LM_QUANT_H
#define LM_QUANT_H
#include "tensor/tensor.h"
enum { LM_QUANT_MAX_COMP = 4 };
struct lm_quant {
    const char *name;                                  /* "Q8_0" */
    int gguf_id;                                       /* ggml type id, -1 if none */
    int block;                                         /* logical elements per block */
    int n_comp;
    struct { const char *name; int block_bytes; } comp[LM_QUANT_MAX_COMP];
    double bits;                                       /* per logical element, all components */
    bool panels;                                       /* LM_PANEL16 exists (tensor.h), and integer products with it */
    int8_t head, tail;                                 /* panels: two-byte numbers at a block's front and end; whole groups of four bytes between */
    void (*to_float)(const lm_quant *q, const void *const *comp, int64_t n, float *dst);    /* n elements from block 0 of each */
    void (*from_float)(const lm_quant *q, const float *src, int64_t n, void *const *comp);  /* NULL: read only */
    /* Codes and scales of least squared error, weighted by weight[n] (NULL: all alike); slower. NULL: from_float is all there is. */
    void (*search)(const lm_quant *q, const float *src, const float *weight, int64_t n, void *const *comp);
};
extern const lm_quant *const lm_quants[];              /* NULL-terminated, generated from src/quant/<name>.c files */
const lm_quant *lm_quant_by_name(const char *name);
const lm_quant *lm_quant_by_gguf(int id);
/* Pointer to component c of row r of a PLAIN quantized (N, K) tensor: components lie one after another, 64-byte aligned. */
const void *lm_quant_row(const lm_tensor *t, int c, int64_t r);
void lm_quant_row_get(const lm_tensor *t, int64_t r, float *dst);          /* K floats */
void lm_quant_row_put(const lm_tensor *t, int64_t r, const float *src);
/* Blocks of the n floats x (n a multiple of 16 blocks) as `out` (4n bytes at most): repeated, they fill t's storage, in its layout. Returns their bytes.
 * For one-component formats that can be written. */
size_t lm_quant_piece(const lm_tensor *t, const float *x, int64_t n, void *out);
void lm_quant_row_move(const lm_tensor *t, int64_t r, const void *blocks);         /* a row of a one-component format, as a file has it */
#endif
