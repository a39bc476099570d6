/* safetensors_int.h — the parsed header and the open file, shared by the reader's files.
 * Lifetime: lm_st_header_clear, lm_st_close.  Threads: values.  Errors: as in safetensors.h. */
#ifndef LM_SAFETENSORS_INT_H
#define LM_SAFETENSORS_INT_H
#include "format/safetensors.h"
typedef struct {
    lm_st_tensor *t; int n, cap;    /* in the order of the data */
    int64_t *dim; size_t n_dim, cap_dim;
    char *text;                     /* all strings, unescaped */
    const char **meta; int n_meta, cap_meta;     /* key, value, key, value… */
} lm_st_header;
/* text[n]: the JSON header alone; data_at: where the data section starts in the file; data_bytes: its size. h is zeroed by the caller and must
 * be cleared after an error too. */
lm_err lm_st_header_parse(lm_ctx *ctx, const char *name, const char *text, size_t n, int64_t data_at, int64_t data_bytes, lm_st_header *h);
void lm_st_header_clear(lm_ctx *ctx, lm_st_header *h);
#define LM_ST_SLICES "loam-slices-1"                               /* "format" of shards that hold slices, and what their entries are named after */
#define LM_ST_SLICE_KEY "slice:"
typedef struct { char *path; lm_file *f; const uint8_t *map; size_t map_n; lm_st_header h; } lm_st_shard;
/* Bytes [at, at + bytes) of a tensor, at `offset` of a shard's file. */
typedef struct { int64_t at, bytes, offset; lm_hash128_t hash; int shard, tensor; } lm_st_slice;
struct lm_st {
    lm_ctx *ctx; char *path;
    lm_st_shard *sh; int n_sh;
    lm_st_tensor *t; int n;                 /* sorted by name */
    uint32_t *slot; size_t n_slot;          /* index + 1; 0 = empty */
    lm_st_slice *slice; int n_slice;        /* by tensor, then by place; tensors' own where n_slice of them is not 0 */
    int64_t *dim;                           /* shapes of tensors in slices */
};
lm_err lm_st_start(lm_st **out, lm_ctx *ctx, const char *path, int n_shards);
lm_err lm_st_shard_open(lm_st *st, lm_st_shard *s);                /* s->path is set */
lm_err lm_st_index(lm_st *st);                                     /* st->t is filled: sorted, unique, hashed */
/* Is it a folder of slices? Then it is opened, all of it or (model) what has no '/' in its name; else *out is NULL. */
lm_err lm_st_open_sliced(lm_st **out, lm_ctx *ctx, const char *folder, bool model);
lm_err lm_st_read_slices(lm_st *st, const lm_st_tensor *t, void *dst, int64_t from, int64_t bytes);
bool lm_st_dtype(const char *s, lm_dtype *out, size_t *size);      /* exact spelling */
#endif
