/* npy.h — NumPy's .npy arrays, C order, little-endian: how tests and scripts exchange tensors.
 *
 *   "\x93NUMPY" major minor | u16 or u32 length | "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }" + spaces + "\n" | data
 *
 * Versions 1 to 3 are read; the dict is parsed strictly (the three keys once each, in any order), the data must be exactly what the shape needs.
 * Fortran order, big-endian and structured or object arrays are refused: np.ascontiguousarray and astype repair them.
 *
 * Lifetime: lm_npy_parse borrows the memory; lm_npy_load owns it until lm_npy_free.
 * Threads:  values.
 * Errors:   LM_E_FORMAT, LM_E_UNSUPPORTED. */
#ifndef LM_NPY_H
#define LM_NPY_H
#include "tensor/tensor.h"
enum { LM_NPY_MAX_RANK = 8, LM_NPY_MAX_HEADER = 64 << 10 };
typedef struct {
    lm_dtype dtype;
    int rank;
    int64_t dim[LM_NPY_MAX_RANK], n;    /* n: elements */
    const void *data; size_t bytes;     /* from lm_npy_load: aligned to 16 or better */
    void *own;
} lm_npy;
lm_err lm_npy_parse(lm_ctx *ctx, const char *name, const void *p, size_t n, lm_npy *out);
lm_err lm_npy_load(lm_ctx *ctx, const char *path, lm_npy *out);
void lm_npy_free(lm_ctx *ctx, lm_npy *a);
/* LM_E_UNSUPPORTED for bf16, f8 */
lm_err lm_npy_save(lm_ctx *ctx, const char *path, lm_dtype dtype, int rank, const int64_t *dim, const void *data);
#endif
