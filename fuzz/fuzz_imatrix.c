/* Importance matrices, both formats: every entry found by its name, every number finite and not negative. */
#include "format/imatrix.h"
#include <math.h>
#include <stdlib.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_ctx *ctx;
    if (!ctx && lm_ctx_new(&ctx, &(lm_ctx_opts){ .n_threads = 1 })) return 0;
    lm_imatrix *m;
    if (lm_imatrix_open_mem(&m, ctx, "fuzz.imatrix", data, size)) return 0;
    int64_t n = 0;
    if (lm_imatrix_count(m) < 1) abort();
    const float *p = lm_imatrix_find(m, "a.weight", &n);
    for (int64_t i = 0; p && i < n; i++) if (!isfinite(p[i]) || p[i] < 0) abort();
    lm_imatrix_free(m);
    return 0;
}
