/* blocksum.cuh — sum and sumsq on a CUDA device: blocks of LM_CUDA_SUM_BLOCK numbers in f32 by one tree each, block sums added in double in
 * a fixed order. For *_cuda.cu files. */
#ifndef LM_BLOCKSUM_CUH
#define LM_BLOCKSUM_CUH
#include "op/cuda.cuh"
enum { LM_CUDA_SUM_BLOCK = 16384 };
static inline int64_t lm_cuda_sum_blocks(const lm_call *c) { return lm_ceil_div(lm_numel(&c->in[0]), LM_CUDA_SUM_BLOCK); }
static inline size_t lm_cuda_sum_shared(const lm_call *c) { return static_cast<size_t>(lm_cuda_sum_blocks(c) + 1) * sizeof(double); }
template <class F> static __device__ __forceinline__ void lm_sum_block(const lm_cv &x, int64_t n, int wide, double *part, int64_t block, const F &f) {
    const int64_t base = block * LM_CUDA_SUM_BLOCK, end = base + LM_CUDA_SUM_BLOCK < n ? base + LM_CUDA_SUM_BLOCK : n;
    enum { FLIGHT = 4 };                                                   /* loads of a thread in flight; the order of the sum is the same */
    float s = 0;
    int64_t from = base + threadIdx.x * 8;
    for (; wide && from + (FLIGHT - 1) * 256 * 8 + 8 <= end; from += FLIGHT * 256 * 8) {
        lm_raw8 u[FLIGHT];
#pragma unroll
        for (int q = 0; q < FLIGHT; q++) u[q] = lm_ldraw(x, from + q * 256 * 8);
#pragma unroll
        for (int q = 0; q < FLIGHT; q++) {
            float v[8];
            lm_unraw(x, u[q], v);
#pragma unroll
            for (int e = 0; e < 8; e++) s += f(v[e]);
        }
    }
    for (int64_t k = from; k < end; k += 256 * 8) {
        float v[8];
        if (wide && k + 8 <= end) lm_ld8(x, k, v);
        else for (int e = 0; e < 8; e++) v[e] = k + e < end ? lm_ld1(x, k + e) : 0.0f;
#pragma unroll
        for (int e = 0; e < 8; e++) s += f(v[e]);
    }
    s = lm_cuda_block_sum<256>(s);
    if (threadIdx.x == 0) part[block] = static_cast<double>(s);
}
template <class F> __global__ void __launch_bounds__(256) lm_sum_parts(const lm_cv x, int64_t n, int wide, double *part, const F f) { lm_sum_block(x, n, wide, part, blockIdx.x, f); }
/* The sum of n doubles: thread t takes those t mod 256, threads are added by a tree. Every thread gets it. */
static __device__ inline double lm_cuda_sum_doubles(const double *part, int64_t n) {
    __shared__ double t[256];
    double s = 0;
    for (int64_t k = threadIdx.x; k < n; k += 256) s += part[k];
    t[threadIdx.x] = s;
    __syncthreads();
    for (int h = 128; h; h /= 2) { if (threadIdx.x < h) t[threadIdx.x] += t[threadIdx.x + h]; __syncthreads(); }
    return t[0];
}
static __global__ void __launch_bounds__(256) lm_sum_end(const double *part, int64_t n, float *y, int acc) {
    const double s = lm_cuda_sum_doubles(part, n);
    if (threadIdx.x == 0) *y = static_cast<float>((acc ? static_cast<double>(*y) : 0.0) + s);
}
template <class F> static lm_err lm_cuda_sum_begin(const lm_call *c, void *scratch, const F f, double *part) {
    const int64_t n = lm_numel(&c->in[0]); const lm_cv x = lm_cv_of(&c->in[0]);
    if (n) lm_sum_parts<F><<<LM_CUDA_GRID(n, LM_CUDA_SUM_BLOCK), 256, 0, LM_CUDA_STREAM(scratch)>>>(x, n, reinterpret_cast<uintptr_t>(x.p) % 16 == 0, part, f);
    return lm_cuda_launched();
}
template <class F> static lm_err lm_cuda_sum_run(const lm_call *c, void *scratch, const F f) {
    double *part = static_cast<double *>(c->shared);
    LM_TRY(lm_cuda_sum_begin(c, scratch, f, part));
    lm_sum_end<<<1, 256, 0, LM_CUDA_STREAM(scratch)>>>(part, lm_cuda_sum_blocks(c), static_cast<float *>(c->out[0].data), static_cast<int>(c->acc & 1));
    return lm_cuda_launched();
}
/* Several sums by two launches. */
struct lm_sum_table { lm_cv x[LM_MANY]; int64_t n[LM_MANY]; double *part[LM_MANY]; float *y[LM_MANY]; unsigned end[LM_MANY]; unsigned long long wide, acc; int count; };
template <class F> __global__ void __launch_bounds__(256) lm_sum_parts_many(const __grid_constant__ lm_sum_table t, const F f) {
    unsigned block;
    const int k = lm_cuda_among(t.end, t.count, &block);
    lm_sum_block(t.x[k], t.n[k], static_cast<int>(t.wide >> k & 1), t.part[k], block, f);
}
static __global__ void __launch_bounds__(256) lm_sum_end_many(const __grid_constant__ lm_sum_table t) {
    const int i = blockIdx.x;
    const double s = lm_cuda_sum_doubles(t.part[i], t.end[i] - (i ? t.end[i - 1] : 0u));
    if (threadIdx.x == 0) *t.y[i] = static_cast<float>((t.acc >> i & 1 ? static_cast<double>(*t.y[i]) : 0.0) + s);
}
template <class F> static lm_err lm_cuda_sum_many(const lm_call *const *c, int n, void *scratch, const F f) {
    lm_sum_table t = {};
    int64_t blocks = 0;
    t.count = n;
    for (int i = 0; i < n; i++) {
        t.x[i] = lm_cv_of(&c[i]->in[0]); t.n[i] = lm_numel(&c[i]->in[0]); t.part[i] = static_cast<double *>(c[i]->shared); t.y[i] = static_cast<float *>(c[i]->out[0].data);
        blocks += lm_cuda_sum_blocks(c[i]);
        if (blocks > INT32_MAX) return LM_E_RANGE;
        t.end[i] = static_cast<unsigned>(blocks);
        if (reinterpret_cast<uintptr_t>(t.x[i].p) % 16 == 0) t.wide |= 1ull << i;
        if (c[i]->acc & 1) t.acc |= 1ull << i;
    }
    if (blocks) lm_sum_parts_many<F><<<static_cast<unsigned>(blocks), 256, 0, LM_CUDA_STREAM(scratch)>>>(t, f);
    lm_sum_end_many<<<static_cast<unsigned>(n), 256, 0, LM_CUDA_STREAM(scratch)>>>(t);
    return lm_cuda_launched();
}
static inline bool lm_cuda_sum_accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 0) && lm_is_contig(&c->in[0]) && lm_is_contig(&c->out[0]); }
#endif
