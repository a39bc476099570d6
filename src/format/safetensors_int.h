/* safetensors_int.h — the parsed header, shared by the reader's files.
 * Lifetime: lm_st_header_clear.  Threads: values.  Errors: as in safetensors.h. */
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
bool lm_st_dtype(const char *s, lm_dtype *out, size_t *size);      /* exact spelling */
#endif
