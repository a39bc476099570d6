/* gguf.h — llama.cpp's model file, versions 2 and 3, read from memory and written as a stream.
 *
 *   "GGUF" u32 version | u64 n_tensors | u64 n_keys | keys… | tensor infos… | pad to alignment | data
 *
 * The reader treats every number as hostile: counts are compared with the bytes that are left before anything is allocated, so work and
 * memory are bounded by the file's size; alignment is a power of two up to 1 MiB; ranges lie in the file and do not overlap; keys and
 * names are unique; arrays of arrays, unknown types and retired tensor types are refused. Metadata is reached only through getters that
 * check the type. A split model (name-00001-of-0000N.gguf) is opened by its first file: all parts must be beside it and say the same, its
 * metadata is the first part's. Shapes here are in paper order, outermost first: the reverse of the order in the file.
 *
 * Lifetime: all pointers live until lm_gguf_close; lm_gguf_open_mem borrows its memory.
 * Threads:  reads from many threads.
 * Errors:   LM_E_FORMAT naming file and key or tensor; LM_E_UNSUPPORTED (version, type); LM_E_CONFIG (missing or mistyped key); LM_E_RANGE. */
#ifndef LM_GGUF_H
#define LM_GGUF_H
#include "base/file.h"
#include "tensor/tensor.h"
enum { LM_GGUF_MAX_ALIGN = 1 << 20, LM_GGUF_MAX_NAME = 65535, LM_GGUF_MAX_DIMS = 4, LM_GGUF_MAX_PARTS = 10000 };
typedef enum { LM_GGUF_U8, LM_GGUF_I8, LM_GGUF_U16, LM_GGUF_I16, LM_GGUF_U32, LM_GGUF_I32, LM_GGUF_F32, LM_GGUF_BOOL, LM_GGUF_STR, LM_GGUF_ARR,
    LM_GGUF_U64, LM_GGUF_I64, LM_GGUF_F64, LM_N_GGUF } lm_gguf_type;
const char *lm_gguf_type_name(int type);                    /* "u32"; "?" if unknown */

/* A tensor type of ggml: `block` elements along the last dimension take `bytes`. dtype is LM_QUANT for the block types. */
typedef struct { int id; const char *name; int block, bytes; lm_dtype dtype; } lm_ggml_type;
const lm_ggml_type *lm_ggml_by_id(int id);                  /* NULL: unknown or retired */
const lm_ggml_type *lm_ggml_by_name(const char *name);      /* exact; NULL if unknown */
const lm_ggml_type *lm_ggml_at(int i);                      /* walks the table; NULL at its end */

typedef struct {
    const char *name;
    const lm_ggml_type *type;
    int rank;
    int64_t dim[LM_GGUF_MAX_DIMS];      /* outermost first; unused are 1 */
    int64_t offset, bytes;              /* absolute in its file */
    int part;                           /* of a split model; 0 otherwise */
} lm_gguf_tensor;
typedef struct lm_gguf lm_gguf;
lm_err lm_gguf_open(lm_gguf **out, lm_ctx *ctx, const char *path);
lm_err lm_gguf_open_mem(lm_gguf **out, lm_ctx *ctx, const char *name, const void *p, size_t n);
void lm_gguf_close(lm_gguf *g);                             /* NULL is fine */
const char *lm_gguf_path(const lm_gguf *g);
int lm_gguf_version(const lm_gguf *g);
int64_t lm_gguf_alignment(const lm_gguf *g);

int lm_gguf_parts(const lm_gguf *g);                        /* files: 1 unless split */
int lm_gguf_count(const lm_gguf *g);                        /* tensors, in file order */
const lm_gguf_tensor *lm_gguf_at(const lm_gguf *g, int i);
const lm_gguf_tensor *lm_gguf_find(const lm_gguf *g, const char *name);
lm_err lm_gguf_need(lm_gguf *g, const char *name, const lm_gguf_tensor **out);
lm_err lm_gguf_read(lm_gguf *g, const lm_gguf_tensor *t, void *dst, int64_t from, int64_t bytes);
lm_err lm_gguf_map(lm_gguf *g, const lm_gguf_tensor *t, const void **p);
bool lm_gguf_where(const lm_gguf *g, const lm_gguf_tensor *t, lm_file **file, int64_t *offset);      /* false: not in a file */

/* Metadata. Getters: with need, absence is an error; else *out = def. Integers of any width are accepted where they fit min..max; numbers also. */
int lm_gguf_n_keys(const lm_gguf *g);
const char *lm_gguf_key(const lm_gguf *g, int i, lm_gguf_type *type, lm_gguf_type *item, int64_t *n);   /* item, n: of arrays; may be NULL */
bool lm_gguf_has(const lm_gguf *g, const char *key);
lm_err lm_gguf_int(lm_gguf *g, const char *key, bool need, int64_t def, int64_t min, int64_t max, int64_t *out);
lm_err lm_gguf_num(lm_gguf *g, const char *key, bool need, double def, double *out);
lm_err lm_gguf_bool(lm_gguf *g, const char *key, bool need, bool def, bool *out);
/* n may be NULL; then NUL inside is refused */
lm_err lm_gguf_str(lm_gguf *g, const char *key, bool need, const char *def, const char **out, size_t *n);
/* Arrays: the getter checks the item type once; n = 0 when an optional one is absent. */
typedef struct { const uint8_t *p; lm_gguf_type item; int64_t n; } lm_gguf_nums;
typedef struct { const uint8_t *base; const uint64_t *at; int64_t n; } lm_gguf_strs;
lm_err lm_gguf_arr_int(lm_gguf *g, const char *key, bool need, lm_gguf_nums *out);     /* any integer type or bool */
lm_err lm_gguf_arr_num(lm_gguf *g, const char *key, bool need, lm_gguf_nums *out);     /* integers and floats */
lm_err lm_gguf_arr_str(lm_gguf *g, const char *key, bool need, lm_gguf_strs *out);
int64_t lm_gguf_nums_int(const lm_gguf_nums *a, int64_t i);     /* 0 out of range; u64 over 2^63-1 is clamped */
double lm_gguf_nums_num(const lm_gguf_nums *a, int64_t i);      /* 0 out of range */
const char *lm_gguf_strs_at(const lm_gguf_strs *a, int64_t i, size_t *n);   /* not NUL-terminated; NULL out of range */

/* Writer (version 3): metadata and tensors are declared, then data is given in the order declared, in pieces of any size; padding is added. */
typedef struct lm_gguf_writer lm_gguf_writer;
/* 0 = 32; others are written as general.alignment */
lm_err lm_gguf_writer_new(lm_gguf_writer **out, lm_ctx *ctx, const char *path, int64_t alignment);
lm_err lm_gguf_put_u32(lm_gguf_writer *w, const char *key, uint32_t v);
lm_err lm_gguf_put_i32(lm_gguf_writer *w, const char *key, int32_t v);
lm_err lm_gguf_put_u64(lm_gguf_writer *w, const char *key, uint64_t v);
lm_err lm_gguf_put_f32(lm_gguf_writer *w, const char *key, float v);
lm_err lm_gguf_put_bool(lm_gguf_writer *w, const char *key, bool v);
lm_err lm_gguf_put_str(lm_gguf_writer *w, const char *key, const char *s, size_t n);
lm_err lm_gguf_put_scalar(lm_gguf_writer *w, const char *key, lm_gguf_type type, const void *v);     /* any but STR and ARR */
lm_err lm_gguf_put_arr(lm_gguf_writer *w, const char *key, lm_gguf_type item, const void *v, int64_t n);   /* contiguous items */
lm_err lm_gguf_put_arr_str(lm_gguf_writer *w, const char *key, const char *const *s, const size_t *len, int64_t n);   /* len NULL: NUL-terminated */
lm_err lm_gguf_writer_add(lm_gguf_writer *w, const char *name, const lm_ggml_type *type, int rank, const int64_t *dim);
lm_err lm_gguf_writer_write(lm_gguf_writer *w, const void *p, size_t n);
lm_err lm_gguf_writer_commit(lm_gguf_writer *w);                /* frees w either way */
void lm_gguf_writer_abort(lm_gguf_writer *w);                   /* NULL is fine */
/* A number, or an array of numbers, of a written file that was not known when its metadata were: same key, type and count, new value. */
lm_err lm_gguf_patch(lm_ctx *ctx, const char *path, const char *key, lm_gguf_type item, const void *v, int64_t n);
#endif
