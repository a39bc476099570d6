/* safetensors.h — Hugging Face's tensor file, and folders of them, read and written.
 *
 *   u64 header length | JSON header, space-padded | data
 *
 * The reader believes nothing: the header is at most 100 MB and 1 M tensors, dtypes are known, shape × size equals the byte range in
 * overflow-checked arithmetic, ranges lie in the file and tile the data section without overlap, hole or remainder, names and metadata keys are
 * unique. The header has its own strict one-pass JSON scanner (a fuzzer holds it against jansson), because a header of 10^5 tensors should cost
 * milliseconds. A folder is model.safetensors, or model.safetensors.index.json with its shards: every tensor must be in the shard the index names,
 * every shard tensor in the index, and no name leaves the folder. As with transformers, model.safetensors wins when both are there.
 *
 * A third kind of folder is written by several processes at once, none of which holds the whole: shard-00001-of-0000N.safetensors … Each is a
 * safetensors file whose tensors are slices, rows [FIRST, FIRST + its own) of a tensor of TOTAL rows, as its __metadata__ says:
 *     "format": "loam-slices-1", "slice:NAME": "FIRST TOTAL XXH3-128 of the slice's bytes"
 * Opened, such a folder shows whole tensors, and lm_st_read finds the rows that are asked for. Slices of one name must agree about type and shape
 * and give each row once. A name with '/' belongs to something other than the model ("optimizer/…"): lm_st_open leaves it out.
 *
 * Lifetime: tensors, names and mapped data live until lm_st_close.
 * Threads:  lookups and lm_st_read from many threads; open, map and close from one.
 * Errors:  LM_E_FORMAT naming file and tensor; LM_E_UNSUPPORTED for an unknown dtype or rank > 8; LM_E_NOTFOUND; LM_E_MISMATCH for index
 *           against shards. */
#ifndef LM_SAFETENSORS_H
#define LM_SAFETENSORS_H
#include "base/file.h"
#include "tensor/tensor.h"
enum { LM_ST_MAX_HEADER = 100 * 1000 * 1000, LM_ST_MAX_TENSORS = 1000 * 1000, LM_ST_MAX_RANK = 8, LM_ST_MAX_SHARDS = 10000 };
typedef struct {
    const char *name;               /* NUL-terminated, valid UTF-8 */
    lm_dtype dtype;
    int rank;
    const int64_t *dim;             /* rank of them, outermost first */
    int64_t offset, bytes;          /* in its shard's file, absolute */
    int shard;
    int slice, n_slice;             /* n_slice > 0: in pieces; offset and shard mean nothing */
} lm_st_tensor;
typedef struct lm_st lm_st;
lm_err lm_st_open(lm_st **out, lm_ctx *ctx, const char *path);      /* a .safetensors file, an index.json, or a folder */
lm_err lm_st_open_mem(lm_st **out, lm_ctx *ctx, const char *name, const void *p, size_t n);   /* borrows p */
void lm_st_close(lm_st *st);                                        /* NULL is fine */
const char *lm_st_path(const lm_st *st);
int lm_st_count(const lm_st *st);
const lm_st_tensor *lm_st_at(const lm_st *st, int i);               /* sorted by name; NULL out of range */
const lm_st_tensor *lm_st_find(const lm_st *st, const char *name);  /* hashed; NULL if absent */
lm_err lm_st_need(lm_st *st, const char *name, const lm_st_tensor **out);   /* LM_E_NOTFOUND with the nearest name */
lm_err lm_st_read(lm_st *st, const lm_st_tensor *t, void *dst, int64_t from, int64_t bytes);  /* bytes [from, from+bytes) of the tensor */
bool lm_st_where(const lm_st *st, const lm_st_tensor *t, lm_file **file, int64_t *offset);      /* false: not in one piece of a file */
lm_err lm_st_map(lm_st *st, const lm_st_tensor *t, const void **p); /* into the memory map; aligned only as the file is; NULL: in pieces */
int lm_st_shards(const lm_st *st);
const char *lm_st_shard_path(const lm_st *st, int shard);
/* __metadata__ of a single file, or of the first shard (index order). */
int lm_st_meta_count(const lm_st *st);
void lm_st_meta_at(const lm_st *st, int i, const char **key, const char **value);
const char *lm_st_meta(const lm_st *st, const char *key);           /* NULL if absent */

/* ---- folders of slices ---- */
enum { LM_ST_SHARD_NAME = 64 };
void lm_st_shard_name(char out[LM_ST_SHARD_NAME], int i, int n);    /* i of n, from 0 */
bool lm_st_is_sliced(lm_ctx *ctx, const char *folder);              /* is there a file of such a name, and no model.safetensors? */
lm_err lm_st_open_slices(lm_st **out, lm_ctx *ctx, const char *folder);     /* every tensor, also those with '/' in their names */
/* Do the slices in this file have the hashes that it states? LM_E_FORMAT naming tensor and rows. */
lm_err lm_st_check(lm_st *st, int shard);

/* Writer: declare every tensor, then give the data in the order declared, in pieces of any size. Declare wide dtypes first where readers want
 * aligned maps: tensors follow each other without padding, the data section starts at a multiple of 64.
 * max_shard_bytes 0: path is a file. Else path is a folder: one model.safetensors if all fits, or model-00001-of-0000N.safetensors (whole
 * tensors, greedy) with the index written last. A folder that already holds a model is refused. Files appear by rename when complete. */
typedef struct lm_st_writer lm_st_writer;
lm_err lm_st_writer_new(lm_st_writer **out, lm_ctx *ctx, const char *path, int64_t max_shard_bytes);
lm_err lm_st_writer_meta(lm_st_writer *w, const char *key, const char *value);
lm_err lm_st_writer_add(lm_st_writer *w, const char *name, lm_dtype dtype, int rank, const int64_t *dim);
/* A slice of `rows` rows (dim[0] is the tensor's own, of all rows; rank 0 is one row), whose bytes have this hash. */
lm_err lm_st_writer_slice(lm_st_writer *w, const char *name, lm_dtype dtype, int rank, const int64_t *dim, int64_t first, int64_t rows, lm_hash128_t hash);
/* Hash and size of the file, taken while it is written and there after commit; path is a file. */
lm_err lm_st_writer_sum(lm_st_writer *w, lm_hash128_t *hash, int64_t *bytes);
lm_err lm_st_writer_write(lm_st_writer *w, const void *p, size_t n);        /* the next n bytes of data */
lm_err lm_st_writer_commit(lm_st_writer *w);                                /* frees w either way */
void lm_st_writer_abort(lm_st_writer *w);                                   /* NULL is fine */
#endif
