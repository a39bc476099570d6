/* llama2c.h — checkpoints and tokenizers of Karpathy's llama2.c: the smallest real transformer files there are (stories260K…).
 *
 *   legacy: 7 × i32 (dim, hidden, layers, heads, kv heads, ±vocab, seq len) | f32 weights, RoPE tables among them; a negative vocab = own output matrix
 *   v1:     "24ka" i32 1 | the same 7 × i32 | u8 shared output matrix | zeros to byte 256 | f32 weights, norms first
 *
 * The reader gives each part's place and shape (layers stacked, outermost); it converts nothing. The size of the file must be exactly what
 * the header needs. tokenizer.bin: i32 longest piece | for each token: f32 score, i32 length, bytes.
 *
 * Lifetime: lm_l2c and lm_l2c_tok borrow the memory that was parsed (lm_l2c_tok's table is freed by lm_l2c_tok_free).
 * Threads:  values.
 * Errors:   LM_E_FORMAT naming the field; LM_E_UNSUPPORTED for version 2 (int8) and up. */
#ifndef LM_LLAMA2C_H
#define LM_LLAMA2C_H
#include "base/base.h"
typedef enum { LM_L2C_TOK_EMB, LM_L2C_ATTN_NORM, LM_L2C_WQ, LM_L2C_WK, LM_L2C_WV, LM_L2C_WO, LM_L2C_FFN_NORM, LM_L2C_W1, LM_L2C_W2, LM_L2C_W3,
    LM_L2C_NORM, LM_L2C_OUTPUT, LM_N_L2C } lm_l2c_part_id;
typedef struct {
    const char *name;                   /* llama2.c's own: "attention.wq" */
    bool per_layer;                     /* then dim[0] = layers */
    int rank; int64_t dim[3];
    size_t offset, bytes;               /* in the file; f32; bytes 0 and rank 0: OUTPUT of a tied model */
} lm_l2c_part;
typedef struct {
    int version;                        /* 0 (legacy) or 1 */
    int dim, hidden, n_layer, n_head, n_kv_head, vocab, seq_len;
    bool tied;
    lm_l2c_part part[LM_N_L2C];
    const uint8_t *base;                /* part k: base + part[k].offset, not aligned in general */
} lm_l2c;
lm_err lm_l2c_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_l2c *out);

typedef struct { float score; int n; const char *s; } lm_l2c_piece;     /* s is not NUL-terminated */
typedef struct { lm_l2c_piece *v; int n, longest; } lm_l2c_tok;
/* vocab > 0: exactly so many pieces; 0: as many as the file has. */
lm_err lm_l2c_tok_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, int vocab, lm_l2c_tok *out);
void lm_l2c_tok_free(lm_ctx *ctx, lm_l2c_tok *t);
#endif
