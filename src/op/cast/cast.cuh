/* cast.cuh — conversion between f32, bf16 and f16 on a CUDA device, rounded once to nearest even: for *_cuda.cu files. */
#ifndef LM_CAST_CUH
#define LM_CAST_CUH
#include <cuda_fp16.h>
#include "op/cuda.cuh"
static inline bool lm_cast_cuda_ok(const lm_tensor *t) { return (t->dtype == LM_F32 || t->dtype == LM_BF16 || t->dtype == LM_F16) && t->layout == LM_PLAIN && lm_rows_fold(t); }
static __global__ void __launch_bounds__(256) lm_cast_kernel(const void *x, int xd, int64_t xs, void *y, int yd, int64_t ys, int64_t cols, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= n) return;
    const int64_t r = i / cols, k = i - r * cols, a = r * xs + k, b = r * ys + k;
    const float f = xd == LM_F32 ? static_cast<const float *>(x)[a] : xd == LM_BF16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(x)[a]) : __half2float(static_cast<const __half *>(x)[a]);
    if (yd == LM_F32) static_cast<float *>(y)[b] = f;
    else if (yd == LM_BF16) static_cast<__nv_bfloat16 *>(y)[b] = __float2bfloat16_rn(f);
    else static_cast<__half *>(y)[b] = __float2half_rn(f);
}
static __global__ void __launch_bounds__(256) lm_cast_wide(const lm_cv x, const lm_cv y, int64_t cols, int64_t n) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * 8;
    if (i >= n) return;
    const int64_t r = i / cols, k = i - r * cols;
    float f[8];
    lm_ld8(x, r * x.rs + k, f); lm_st8(y, r * y.rs + k, f);
}
static inline lm_err lm_cast_cuda(const lm_tensor *x, const lm_tensor *y, cudaStream_t s) {
    const int64_t n = lm_numel(x), cols = lm_cols(x);
    if (!n) return LM_OK;
    const lm_cv v[2] = { lm_cv_of(x), lm_cv_of(y) };
    if (x->dtype != LM_F16 && y->dtype != LM_F16 && lm_cuda_vec8(v, 2, cols)) lm_cast_wide<<<LM_CUDA_GRID(n, 256 * 8), 256, 0, s>>>(v[0], v[1], cols, n);
    else lm_cast_kernel<<<LM_CUDA_GRID(n, 256), 256, 0, s>>>(x->data, x->dtype, lm_row_stride(x), y->data, y->dtype, lm_row_stride(y), cols, n);
    return lm_cuda_launched();
}
#endif
