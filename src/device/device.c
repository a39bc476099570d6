/* device.c — devices by name. */
#include <stdlib.h>
#include <string.h>
#include "device/device.h"
#ifdef LM_CUDA
lm_err lm_cuda_open(lm_dev **out, lm_ctx *ctx, int ordinal);      /* dev_cuda.cu */
int lm_cuda_count(void);
int lm_dev_count(void) { return lm_cuda_count(); }
bool lm_dev_built(void) { return true; }
#else
bool lm_dev_built(void) { return false; }
int lm_dev_count(void) { return 0; }
lm_err lm_dev_matmul(lm_dev *d, const lm_dev_gemm *g) { (void)g; return lm_fail(d->ctx, LM_E_UNSUPPORTED, "this program was built without CUDA"); }
#endif
lm_err lm_dev_open(lm_dev **out, lm_ctx *ctx, const char *name) {
    char *end = NULL;
    long n = 0;
    if (!strncmp(name, "cuda:", 5)) n = strtol(name + 5, &end, 10);
    else if (strcmp(name, "cuda")) return lm_fail(ctx, LM_E_CONFIG, "device \"%s\": cpu, cuda and cuda:N are known", name);
    if (end && (end == name + 5 || *end || n < 0 || n > 1023)) return lm_fail(ctx, LM_E_CONFIG, "device \"%s\": wanted a number after cuda:", name);
#ifdef LM_CUDA
    return lm_cuda_open(out, ctx, (int)n);
#else
    (void)out;
    return lm_fail(ctx, LM_E_UNSUPPORTED, "device %s: this program was built without CUDA (cmake -DLM_CUDA=ON, or `make cuda`)", name);
#endif
}
void lm_dev_close(lm_dev *d) { if (d) d->close(d); }
