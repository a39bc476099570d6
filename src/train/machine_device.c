/* machine_device.c — a device in numbers: a copy of 2 GB (read and written), products of 8192³ in bf16 and 4096³ in f32 by the vendor's library; a
 * rate is 0 where that library is not there. See machine.h. */
#include "device/device.h"
#include "tensor/tensor.h"
#include "train/machine.h"

enum { N = 8192, N32 = 4096, COPY = 1 << 30 };
static lm_err fastest(lm_dev *d, void *p, const lm_dev_gemm *g, double *seconds) {
    for (int i = 0; i < 12; i++) {
        double s;
        LM_TRY(d->mark(d, 0));
        LM_TRY(g ? lm_dev_matmul(d, g) : d->move(d, p, (char *)p + COPY, COPY));
        LM_TRY(d->mark(d, 1)); LM_TRY(d->sync(d)); LM_TRY(d->between(d, 0, 1, &s));
        if (i > 1 && (s < *seconds || *seconds <= 0)) *seconds = s;
    }
    return LM_OK;
}
static lm_dev_gemm square(char *p, int64_t n, bool bf16) {
    const size_t bytes = (size_t)(n * n) * (bf16 ? 2 : 4);
    return (lm_dev_gemm){ .M = n, .N = n, .K = n, .batch = 1, .lda = n, .ldb = n, .ldc = n, .a = p, .b = p + bytes, .c = p + 2 * bytes,
                          .ab_bf16 = bf16, .c_bf16 = bf16, .tb = true };
}
lm_err lm_machine_of_device(lm_dev *d, lm_machine *m) {
    void *p;
    double copy = 0, half = 0, full = 0;
    LM_TRY(d->alloc(d, (size_t)2 * COPY, &p));
    uint16_t *noise = lm_alloc(d->ctx, LM_MEM_SCRATCH, (size_t)N * N * 2);              /* numbers as models have them: zeros multiply faster */
    lm_err err = noise ? LM_OK : LM_E_NOMEM;
    const lm_rng r = lm_rng_of(1, "ceiling");
    for (int64_t i = 0; noise && i < (int64_t)N * N; i++)
        noise[i] = lm_f32_to_bf16(i < 1 << 20 ? lm_rng_normal(r, (uint64_t)i) : lm_bf16_to_f32(noise[i - (1 << 20) + i % 7]));
    const lm_dev_gemm bf16 = square(p, N, true), f32 = square(p, N32, false);
    for (int i = 0; i < 2 && !err; i++) err = d->put(d, (char *)p + (size_t)i * N * N * 2, noise, (size_t)N * N * 2);
    if (!err && d->features & LM_CUDA_BLASLT) err = fastest(d, p, &bf16, &half);
    if (!err && d->features & LM_CUDA_BLASLT) err = fastest(d, p, &f32, &full);         /* pairs of bf16: some are not numbers, which costs nothing */
    if (!err) err = fastest(d, p, NULL, &copy);
    d->free(d, p); lm_free(d->ctx, noise);
    const double rate = copy > 0 ? 2.0 * COPY / copy : 0;
    *m = (lm_machine){ .threads = d->units, .mm_bf16 = half > 0 ? 2.0 * N * N * N / half : 0, .mm_f32 = full > 0 ? 2.0 * N32 * N32 * N32 / full : 0,
                       .read_1 = rate, .read_n = rate, .cache_n = rate, .mid_n = rate };
    return err;
}
