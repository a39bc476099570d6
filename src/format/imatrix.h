/* imatrix.h — importance matrices as llama.cpp writes them: for each matrix the mean square of every input it was multiplied with.
 *
 * Two formats: GGUF (tensors NAME.in_sum2 and NAME.counts) and the older one (counts and names, little-endian). Names are GGUF's. An importance
 * must be finite and not negative; a matrix never used weighs all inputs alike.
 *
 * Lifetime: lm_imatrix_free.  Threads: reads from many.  Errors: LM_E_FORMAT naming the file and entry; LM_E_UNSUPPORTED (experts). */
#ifndef LM_IMATRIX_H
#define LM_IMATRIX_H
#include "base/base.h"
typedef struct lm_imatrix lm_imatrix;
lm_err lm_imatrix_open(lm_imatrix **out, lm_ctx *ctx, const char *path);
lm_err lm_imatrix_open_mem(lm_imatrix **out, lm_ctx *ctx, const char *name, const void *p, size_t n);
void lm_imatrix_free(lm_imatrix *m);                                       /* NULL is fine */
int lm_imatrix_count(const lm_imatrix *m);
const float *lm_imatrix_find(const lm_imatrix *m, const char *name, int64_t *n);   /* NULL: no entry */
#endif
