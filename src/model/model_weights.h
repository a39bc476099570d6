/* model_weights.h — a weights directory from the inside: one entry per parameter, saying where its bytes are; for the model_weights*.c files.
 *
 * A source file (Hugging Face, GGUF, llama2.c) fills cfg and finds each parameter's bytes; renaming, dtypes, layouts and the threads of
 * loading are common.
 *
 * Lifetime: entries live in the arena.  Threads: read() is called from many.  Errors: as model.h. */
#ifndef LM_MODEL_WEIGHTS_H
#define LM_MODEL_WEIGHTS_H
#include "base/file.h"
#include "model/model_int.h"
typedef struct {
    const char *name, *src;              /* Hugging Face's; the file's own */
    lm_type type; lm_role role; bool head;   /* what the model wants */
    lm_dtype dtype; const lm_quant *quant;   /* what the file has */
    bool transpose;                      /* the file has (columns, rows) */
    bool plus_one;                       /* the file has 1 + weight */
    int perm_heads;                      /* > 0: rows of each of so many heads come as interleaved pairs */
    const void *at; int64_t offset;      /* the source's */
    int64_t rows, cols; size_t row_bytes;    /* as in the file */
} lm_weight;
typedef struct {
    const char *kind;
    lm_err (*find)(lm_weights *w, lm_weight *e);                      /* fill src, dtype, quant, at, offset and check the shape */
    lm_err (*done)(lm_weights *w);                                    /* all parameters are found: anything else in the file? */
    lm_err (*read)(lm_weights *w, const lm_weight *e, void *dst, int64_t from, int64_t bytes);
    lm_err (*map)(lm_weights *w, const lm_weight *e, const void **p);   /* all bytes of it, read only, until close; NULL: they do not lie together */
    bool (*where)(lm_weights *w, const lm_weight *e, lm_file **file, int64_t *offset);      /* false: not as it is in a file; NULL: never is */
    void (*close)(lm_weights *w);
} lm_weights_source;
struct lm_weights {
    lm_ctx *ctx; lm_arena *a; const char *path; lm_cfg cfg; const lm_weights_source *source; void *file;
    lm_weight *e; int n, cap;
};
/* Each opens its file, reads the configuration into w->cfg and sets w->source, w->file (close frees it, also after an error). */
lm_err lm_weights_open_hf(lm_weights *w);
lm_err lm_weights_open_gguf(lm_weights *w);
lm_err lm_weights_open_llama2c(lm_weights *w);
/* The shape in the file against the one wanted; transpose swaps. */
lm_err lm_weights_shape(lm_weights *w, const lm_weight *e, int rank, const int64_t *dim);
/* Row r (of n in a head group) of the file is row .. of the model. */
static inline int64_t lm_weights_row(const lm_weight *e, int64_t r) {
    if (!e->perm_heads) return r;
    const int64_t d = e->rows / e->perm_heads, i = r % d;
    return r - i + i / 2 + i % 2 * (d / 2);
}
#endif
