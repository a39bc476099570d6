/* NumPy arrays. */
#include "format/npy.h"
#include <stdlib.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_npy a;
    if (lm_npy_parse(ctx, "fuzz.npy", data, size, &a)) return 0;
    if ((size_t)a.n * lm_dtype_size(a.dtype) != a.bytes) abort();
    if (lm_hash64(a.data, a.bytes, 0) == lm_hash64(a.data, a.bytes, 1) && a.bytes) abort();      /* reads every byte */
    return 0;
}
