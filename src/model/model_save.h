/* model_save.h — parameters on their way out: rows from any storage, converted by all threads, in pieces; for the model_save*.c files.
 *
 * Lifetime: lm_saver lives in its caller.  Threads: one saver at a time (it uses the pool inside).  Errors: as model.h. */
#ifndef LM_MODEL_SAVE_H
#define LM_MODEL_SAVE_H
#include "model/model_int.h"
typedef struct {
    const char *name; lm_tensor t; lm_role role; bool head;
    int64_t rows, cols;                  /* as written; rank 1: one row */
    bool transpose, plus_one; int perm_heads;      /* as in model_weights.h: the file wants (columns, rows), 1 + weight, interleaved pairs */
    int layer;                           /* of GGUF names; -1: none */
    lm_dtype dtype; const lm_quant *quant;   /* what is written */
    const char *as;                      /* under which name */
    bool search; const float *weight;    /* quant: the codes of least error, weighted (NULL: all alike), instead of the nearest ones */
    double *error;                       /* not NULL: Σe², Σx², Σw·e², Σw of what a reader gets back */
} lm_save_item;
typedef struct { lm_ctx *ctx; lm_arena *a; lm_save_item *v; int n, cap; const lm_store *store; const lm_param_source *from; } lm_saver;
/* Every parameter of the model, found with its shape in the store, or (store NULL) to be fetched from the source when it is written. */
lm_err lm_saver_open(lm_saver *s, lm_ctx *ctx, const lm_cfg *c, const lm_store *store, const lm_param_source *from);
void lm_saver_close(lm_saver *s);
/* The item's bytes, in order, through write(). */
lm_err lm_saver_write(lm_saver *s, const lm_save_item *v, lm_err (*write)(void *to, const void *p, size_t n), void *to);
/* GGUF: names, orientation and pairs of all items (vectors F32); is the item a matrix that may be quantized? */
lm_err lm_saver_gguf(lm_saver *s, const lm_cfg *c);
bool lm_saver_gguf_matrix(const lm_save_item *v);
lm_err lm_saver_gguf_head(lm_saver *s, const lm_cfg *c, lm_gguf_writer *w, int file_type, bool quantized);     /* file_type -1: none */
/* Declares all items; then writes them, calling after (may be NULL) behind each. */
lm_err lm_saver_gguf_tensors(lm_saver *s, const lm_cfg *c, lm_gguf_writer *w, lm_err (*after)(void *ud, int i), void *ud);
lm_err lm_saver_dtype(lm_ctx *ctx, lm_dtype dtype);      /* F32, BF16 and F16 are written */
#endif
