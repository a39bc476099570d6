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
    const size_t len = strcspn(name, ",");
    const bool stepwise = !strcmp(name + len, ",stepwise");
    if (!strncmp(name, "cuda:", 5)) n = strtol(name + 5, &end, 10);
    else if (len != 4 || strncmp(name, "cuda", 4)) return lm_fail(ctx, LM_E_CONFIG, "device \"%s\": cpu, cuda and cuda:N are known", name);
    if (end && (end == name + 5 || end != name + len || n < 0 || n > 1023)) return lm_fail(ctx, LM_E_CONFIG, "device \"%s\": wanted a number after cuda:", name);
    if (name[len] && !stepwise) return lm_fail(ctx, LM_E_CONFIG, "device \"%s\": only ,stepwise may follow: each step is waited for and named", name);
#ifdef LM_CUDA
    LM_TRY(lm_cuda_open(out, ctx, (int)n));
    (*out)->stepwise = stepwise;
    if (!((*out)->features & LM_CUDA_BLASLT)) lm_log(ctx, LM_LOG_WARN, "device", "%s: %s", (*out)->name, (*out)->libs);      /* right all the same, but slow */
    return LM_OK;
#else
    (void)out;
    return lm_fail(ctx, LM_E_UNSUPPORTED, "device %s: this program was built without CUDA (cmake -DLM_CUDA=ON, or `make cuda`)", name);
#endif
}
void lm_dev_close(lm_dev *d) { if (d) d->close(d); }
