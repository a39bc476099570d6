/* copy_cuda.cu — rows moved as words of the element's size; adding is f32. Memory bound. */
#include "op/cuda.cuh"
template <class T> __global__ void __launch_bounds__(256) rows(const T *x, T *y, int64_t d0, int64_t d1, int64_t d2, int64_t cols, int64_t s0, int64_t s1, int64_t s2, int64_t n) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= n) return;
    int64_t r = i / cols; const int64_t col = i - r * cols, k2 = r % d2; r /= d2;
    const int64_t k1 = r % d1, k0 = r / d1;
    (void)d0;
    y[i] = x[k0 * s0 + k1 * s1 + k2 * s2 + col];
}
static __global__ void __launch_bounds__(256) add(const lm_cv x, float *y, int64_t n, int64_t cols) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i < n) y[i] += lm_ld1(x, i / cols * x.rs + i % cols);
}
static bool accepts(const lm_call *c) {
    const lm_tensor *x = &c->in[0];
    if (c->acc) return lm_cuda_ours(c) && lm_cuda_float(x) && lm_is_f32_vec(&c->out[0]);
    return LM_H16 == LM_BF16 && x->layout == LM_PLAIN && x->dtype != LM_QUANT && (lm_cols(x) <= 1 || x->stride[x->rank - 1] == 1) && c->out[0].layout == LM_PLAIN && c->out[0].dtype == x->dtype && lm_is_contig(&c->out[0]);
}
template <class T> static lm_err move(const lm_call *c, cudaStream_t s) {
    const lm_tensor *x = &c->in[0];
    int64_t dim[3] = { 1, 1, 1 }, st[3] = { 0, 0, 0 };
    for (int i = x->rank - 2, k = 2; i >= 0; i--, k--) { dim[k] = x->dim[i]; st[k] = x->stride[i]; }
    const int64_t n = lm_numel(x);
    rows<T><<<LM_CUDA_GRID(n, 256), 256, 0, s>>>(static_cast<const T *>(x->data), static_cast<T *>(c->out[0].data), dim[0], dim[1], dim[2], lm_cols(x), st[0], st[1], st[2], n);
    return lm_cuda_launched();
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_tensor *x = &c->in[0]; const int64_t n = lm_numel(x); const cudaStream_t s = LM_CUDA_STREAM(scratch); const size_t size = lm_dtype_size(static_cast<lm_dtype>(x->dtype));
    if (!n) return LM_OK;
    if (c->acc & 1) { add<<<LM_CUDA_GRID(n, 256), 256, 0, s>>>(lm_cv_of(x), static_cast<float *>(c->out[0].data), n, lm_cols(x)); return lm_cuda_launched(); }
    if (lm_is_contig(x)) return cudaMemcpyAsync(c->out[0].data, x->data, static_cast<size_t>(n) * size, cudaMemcpyDeviceToDevice, s) == cudaSuccess ? LM_OK : LM_E_DEVICE;
    switch (size) {
    case 1: return move<uint8_t>(c, s);
    case 2: return move<uint16_t>(c, s);
    case 4: return move<uint32_t>(c, s);
    default: return move<uint64_t>(c, s);
    }
}
LM_CUDA_ALONE(copy, "copy", accepts, run, NULL, NULL)
