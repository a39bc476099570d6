/* cuda.cuh — for *_cuda.cu files: how a kernel row runs on a CUDA device, and what such rows share.
 *
 * A row of LM_DEV_CUDA has tensors in device memory and one phase of one tile. run() enqueues on the stream given as `scratch` (a
 * cudaStream_t) and returns; nothing waits. Launch shapes depend on the problem alone, sums have a fixed tree and no float atomics: bits
 * depend on neither timing nor the number of rows. Activations may be stored as f32 or bf16; arithmetic is f32. Which one a tensor is, is
 * told to the kernel (lm_cv), so that one kernel serves every mix: beside a 16-byte access a uniform branch costs nothing. With LM_F16_ROWS
 * a file's 16-bit floats are IEEE half instead (lm_h16): rows that have LM_*_F16_* in their list are compiled both ways (cmake/cuda.cmake), so
 * that half costs the others no branch and no register; the second row takes calls that have a tensor in f16, of f16 and f32 alone. Memory-bound
 * kernels take eight numbers at a time where all rows allow it, else one (lm_cuda_vec8). Files are compiled only with LM_CUDA; a row lists
 * them by LM_SIMD_CUDA_KERNELS or LM_CUDA_ROWS, which without it are the rest.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE when a launch is refused. */
#ifndef LM_OP_CUDA_H
#define LM_OP_CUDA_H
#include <cuda_bf16.h>
#include <cuda_runtime.h>
extern "C" {
#include "op/rule.h"
}
static inline int64_t lm_cuda_one(const lm_call *c) { (void)c; return 1; }
static inline lm_err lm_cuda_launched(void) { return cudaGetLastError() == cudaSuccess ? LM_OK : LM_E_DEVICE; }
/* ---- the 16-bit float of this file, and the names that go with it ---------------------------------------------------------------------------- */
#ifdef LM_F16_ROWS
#include <cuda_fp16.h>
typedef __half lm_h16;
static constexpr lm_dtype LM_H16 = LM_F16;
__device__ __forceinline__ float lm_of16(lm_h16 x) { return __half2float(x); }
__device__ __forceinline__ lm_h16 lm_to16(float x) { return __float2half_rn(x); }
#define LM_CUDA_ROW(op) lm_k_##op##_cuda_f16
#define LM_CUDA_ROW_NAME(op) #op ".cuda.f16"
#else
typedef __nv_bfloat16 lm_h16;
static constexpr lm_dtype LM_H16 = LM_BF16;
__device__ __forceinline__ float lm_of16(lm_h16 x) { return __bfloat162float(x); }
__device__ __forceinline__ lm_h16 lm_to16(float x) { return __float2bfloat16_rn(x); }
#define LM_CUDA_ROW(op) lm_k_##op##_cuda
#define LM_CUDA_ROW_NAME(op) #op ".cuda"
#endif
#define LM_CUDA_STREAM(scratch) static_cast<cudaStream_t>(scratch)
#define LM_CUDA_GRID(n, per) static_cast<unsigned>(lm_ceil_div((n), (per)))
/* The kernel list of a row with one CUDA kernel; ALONE: lm_kernel.alone, for f16 not shown yet. */
#define LM_CUDA_LIST(op, order_id, accept, run_fn, shared, many_fn, alone)                                                                \
    extern "C" { extern const lm_kernel LM_CUDA_ROW(op)[];                                                                                \
    const lm_kernel LM_CUDA_ROW(op)[] = { { LM_CUDA_ROW_NAME(op), LM_DEV_CUDA, LM_CUDA_SM80, order_id, accept, shared, NULL, 1, { { lm_cuda_one, run_fn } }, NULL, many_fn, 0, alone }, {} }; }
#define LM_CUDA_ONE(op, order_id, accept, run_fn) LM_CUDA_LIST(op, order_id, accept, run_fn, NULL, NULL, false)
#define LM_CUDA_ONE_SHARED(op, order_id, accept, run_fn, shared) LM_CUDA_LIST(op, order_id, accept, run_fn, shared, NULL, false)
#define LM_CUDA_MANY(op, order_id, accept, run_fn, shared, many_fn) LM_CUDA_LIST(op, order_id, accept, run_fn, shared, many_fn, false)
#define LM_CUDA_ALONE(op, order_id, accept, run_fn, shared, many_fn) LM_CUDA_LIST(op, order_id, accept, run_fn, shared, many_fn, LM_H16 == LM_BF16)

/* Kernels that take several calls (lm_kernel.run_many) give each a stretch of blocks; end[i]: the first block behind call i's. Which call has this
 * block, and the block's number in it. */
__device__ __forceinline__ int lm_cuda_among(const unsigned *end, int n, unsigned *block) {
    int lo = 0, hi = n - 1;
    while (lo < hi) { const int mid = (lo + hi) / 2; if (blockIdx.x < end[mid]) hi = mid; else lo = mid + 1; }
    *block = blockIdx.x - (lo ? end[lo - 1] : 0u);
    return lo;
}
/* ---- what a kernel sees of a tensor: rows with a stride, f32 or bf16 ----------------------------------------------------------------------- */
typedef struct { void *p; int64_t rs; int bf16; } lm_cv;                 /* bf16: else f32. In a file of half, of that */
static inline lm_cv lm_cv_of(const lm_tensor *t) { lm_cv v = { t->data, lm_row_stride(t), t->dtype == LM_H16 }; return v; }
static inline bool lm_cuda_float(const lm_tensor *t) { return (t->dtype == LM_F32 || t->dtype == LM_H16) && t->layout == LM_PLAIN && lm_rows_fold(t); }
/* Is this call one for this file? A row of half takes none that the other has. */
static inline bool lm_cuda_ours(const lm_call *c) {
    bool ours = LM_H16 == LM_BF16;
    for (int i = 0; i < c->n_in; i++) ours |= lm_has(c, i) && c->in[i].dtype == LM_H16;
    for (int i = 0; i < c->n_out; i++) ours |= c->out[i].rank && c->out[i].dtype == LM_H16;
    return ours;
}
/* All floats are rows of f32, or of lm_h16 where the bit of `in` or `out` is set; integers contiguous I32 or I64. */
static inline bool lm_cuda_accepts(const lm_call *c, uint32_t in, uint32_t out) {
    if (!lm_cuda_ours(c)) return false;
    for (int i = 0; i < c->n_in; i++) {
        const lm_tensor *t = &c->in[i];
        if (!lm_has(c, i)) continue;
        if (t->dtype == LM_I32 || t->dtype == LM_I64) { if (!lm_is_contig(t)) return false; continue; }
        if (!lm_cuda_float(t) || (t->dtype == LM_H16 && !(in >> i & 1))) return false;
    }
    for (int i = 0; i < c->n_out; i++) if (c->out[i].rank && (!lm_cuda_float(&c->out[i]) || (c->out[i].dtype == LM_H16 && !(out >> i & 1)))) return false;
    return true;
}
static inline bool lm_cuda_accepts_any(const lm_call *c) { return lm_cuda_accepts(c, ~0u, ~0u); }       /* any mix of f32 and lm_h16 rows */
static inline bool lm_cuda_accepts_f32(const lm_call *c) { return lm_cuda_accepts(c, 0, 0); }
/* Can all these be taken eight at a time along rows of `cols`? */
static inline bool lm_cuda_vec8(const lm_cv *v, int n, int64_t cols) {
    for (int i = 0; i < n; i++) if (v[i].p && (reinterpret_cast<uintptr_t>(v[i].p) % 16 || v[i].rs % 8)) return false;
    return cols % 8 == 0;
}
__device__ __forceinline__ float lm_ld1(const lm_cv &v, int64_t at) {
    return v.bf16 ? lm_of16(static_cast<const lm_h16 *>(v.p)[at]) : static_cast<const float *>(v.p)[at];
}
__device__ __forceinline__ void lm_st1(const lm_cv &v, int64_t at, float x) {
    if (v.bf16) static_cast<lm_h16 *>(v.p)[at] = lm_to16(x); else static_cast<float *>(v.p)[at] = x;
}
__device__ __forceinline__ void lm_unpack8(uint4 u, float *f) {
    const uint32_t w[4] = { u.x, u.y, u.z, u.w };
#ifdef LM_F16_ROWS
#pragma unroll
    for (int i = 0; i < 4; i++) { const float2 p = __half22float2(*reinterpret_cast<const __half2 *>(&w[i])); f[2 * i] = p.x; f[2 * i + 1] = p.y; }
#else
#pragma unroll
    for (int i = 0; i < 4; i++) { f[2 * i] = __uint_as_float(w[i] << 16); f[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u); }
#endif
}
__device__ __forceinline__ uint32_t lm_pack2(float lo, float hi) {
#ifdef LM_F16_ROWS
    const __half2 h = __floats2half2_rn(lo, hi);
#else
    const __nv_bfloat162 h = __floats2bfloat162_rn(lo, hi);
#endif
    return *reinterpret_cast<const uint32_t *>(&h);
}
__device__ __forceinline__ void lm_ld8(const lm_cv &v, int64_t at, float *f) {
    if (v.bf16) { lm_unpack8(*reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(v.p) + at), f); return; }
    const float4 *p = reinterpret_cast<const float4 *>(static_cast<const float *>(v.p) + at), a = p[0], b = p[1];
    f[0] = a.x; f[1] = a.y; f[2] = a.z; f[3] = a.w; f[4] = b.x; f[5] = b.y; f[6] = b.z; f[7] = b.w;
}
__device__ __forceinline__ void lm_st8(const lm_cv &v, int64_t at, const float *f) {
    if (v.bf16) {
        *reinterpret_cast<uint4 *>(static_cast<lm_h16 *>(v.p) + at) = make_uint4(lm_pack2(f[0], f[1]), lm_pack2(f[2], f[3]), lm_pack2(f[4], f[5]), lm_pack2(f[6], f[7]));
        return;
    }
    float4 *p = reinterpret_cast<float4 *>(static_cast<float *>(v.p) + at);
    p[0] = make_float4(f[0], f[1], f[2], f[3]); p[1] = make_float4(f[4], f[5], f[6], f[7]);
}
/* Eight numbers as they lie in memory: many such loads can be in flight, since nothing is done with them before they are unpacked. */
typedef struct { uint4 a, b; } lm_raw8;
__device__ __forceinline__ lm_raw8 lm_ldraw(const lm_cv &v, int64_t at) {
    lm_raw8 r;
    if (v.bf16) { r.a = *reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(v.p) + at); r.b = r.a; }
    else { const uint4 *p = reinterpret_cast<const uint4 *>(static_cast<const float *>(v.p) + at); r.a = p[0]; r.b = p[1]; }
    return r;
}
__device__ __forceinline__ void lm_unraw(const lm_cv &v, const lm_raw8 &r, float *f) {
    if (v.bf16) { lm_unpack8(r.a, f); return; }
    f[0] = __uint_as_float(r.a.x); f[1] = __uint_as_float(r.a.y); f[2] = __uint_as_float(r.a.z); f[3] = __uint_as_float(r.a.w);
    f[4] = __uint_as_float(r.b.x); f[5] = __uint_as_float(r.b.y); f[6] = __uint_as_float(r.b.z); f[7] = __uint_as_float(r.b.w);
}
template <int V> __device__ __forceinline__ void lm_ldv(const lm_cv &v, int64_t at, float *f) { if (V == 8) lm_ld8(v, at, f); else f[0] = lm_ld1(v, at); }
template <int V> __device__ __forceinline__ void lm_stv(const lm_cv &v, int64_t at, const float *f) { if (V == 8) lm_st8(v, at, f); else lm_st1(v, at, f[0]); }

/* ---- sums over a block: lanes by halves, then warps by halves; every thread gets the total --------------------------------------------------- */
__device__ __forceinline__ float lm_cuda_warp_sum(float v) {
#pragma unroll
    for (int h = 16; h; h /= 2) v += __shfl_xor_sync(0xffffffffu, v, h);
    return v;
}
__device__ __forceinline__ float lm_cuda_warp_max(float v) {
#pragma unroll
    for (int h = 16; h; h /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, h));
    return v;
}
template <int threads> __device__ __forceinline__ float lm_cuda_block_sum(float v) {
    __shared__ float part[threads / 32];
    v = lm_cuda_warp_sum(v);
    if (threads == 32) return v;
    __syncthreads();                           /* the last use of part is over */
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[threadIdx.x % (threads / 32)];
#pragma unroll
    for (int h = threads / 64; h; h /= 2) v += __shfl_xor_sync(0xffffffffu, v, h);
    return v;
}
/* Two at once. */
template <int threads> __device__ __forceinline__ float2 lm_cuda_block_sum2(float2 v) {
    __shared__ float2 part[threads / 32];
#pragma unroll
    for (int h = 16; h; h /= 2) { v.x += __shfl_xor_sync(0xffffffffu, v.x, h); v.y += __shfl_xor_sync(0xffffffffu, v.y, h); }
    if (threads == 32) return v;
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[threadIdx.x % (threads / 32)];
#pragma unroll
    for (int h = threads / 64; h; h /= 2) { v.x += __shfl_xor_sync(0xffffffffu, v.x, h); v.y += __shfl_xor_sync(0xffffffffu, v.y, h); }
    return v;
}
template <int threads> __device__ __forceinline__ float lm_cuda_block_max(float v) {
    __shared__ float part[threads / 32];
    v = lm_cuda_warp_max(v);
    if (threads == 32) return v;
    __syncthreads();
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
    __syncthreads();
    v = part[threadIdx.x % (threads / 32)];
#pragma unroll
    for (int h = threads / 64; h; h /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, h));
    return v;
}

/* ---- elementwise rows: F(const float *in, float *out) of one element ---- */
template <int NI, int NO> struct lm_ew_args { lm_cv v[NI + NO]; int64_t n, cols; unsigned per; int flat; };      /* per: threads of a row; 0: their number takes 64 bits */
template <int V, int NI, int NO, class F> __global__ void __launch_bounds__(256) lm_ew_kernel(const lm_ew_args<NI, NO> a, const F f) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    if (i >= a.n) return;
    const int64_t r = a.flat ? 0 : a.per ? (blockIdx.x * 256 + threadIdx.x) / a.per : i / a.cols, col = i - r * a.cols;
    float x[NI][V], y[NO][V];
#pragma unroll
    for (int k = 0; k < NI; k++) lm_ldv<V>(a.v[k], r * a.v[k].rs + col, x[k]);
#pragma unroll
    for (int e = 0; e < V; e++) {
        float in[NI], out[NO];
#pragma unroll
        for (int k = 0; k < NI; k++) in[k] = x[k][e];
        f(in, out);
#pragma unroll
        for (int k = 0; k < NO; k++) y[k][e] = out[k];
    }
#pragma unroll
    for (int k = 0; k < NO; k++) lm_stv<V>(a.v[NI + k], r * a.v[NI + k].rs + col, y[k]);
}
template <int NI, int NO, class F> static lm_err lm_ew_run(const lm_call *c, void *scratch, const F f) {
    lm_ew_args<NI, NO> a;
    a.n = lm_numel(&c->out[0]); a.cols = lm_cols(&c->out[0]); a.flat = 1;
    if (!a.n) return LM_OK;
    for (int i = 0; i < NI + NO; i++) {
        const lm_tensor *t = i < NI ? &c->in[i] : &c->out[i - NI];
        a.v[i] = lm_cv_of(t);
        a.flat = a.flat && lm_is_contig(t);
    }
    bool wide = lm_cuda_vec8(a.v, NI + NO, a.flat ? a.n : a.cols);
    if (a.flat) { wide = a.n % 8 == 0; for (int i = 0; i < NI + NO; i++) wide = wide && reinterpret_cast<uintptr_t>(a.v[i].p) % 16 == 0; }
    const int64_t each = a.cols / (wide ? 8 : 1);
    a.per = a.n <= INT32_MAX ? static_cast<unsigned>(each) : 0;
    if (wide) lm_ew_kernel<8, NI, NO, F><<<LM_CUDA_GRID(a.n, 256 * 8), 256, 0, LM_CUDA_STREAM(scratch)>>>(a, f);
    else lm_ew_kernel<1, NI, NO, F><<<LM_CUDA_GRID(a.n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(a, f);
    return lm_cuda_launched();
}
/* By the special function units, for what is rounded to bf16 next: two units in the last place, no denormals, 0 for 2^-inf. Division and exponential in
 * full are twenty instructions more. */
constexpr float LM_LOG2E = 1.4426950408889634f;
__device__ __forceinline__ float lm_exp2(float x) { float y; asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); return y; }
__device__ __forceinline__ float lm_cuda_sigmoid_quick(float x) {
    float s;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + lm_exp2(-LM_LOG2E * x)));
    return s;
}
__device__ __forceinline__ float lm_cuda_sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

/* ---- sums over rows, one per column: y_j = [y_j +] sum_r f(r, j). Rows are cut into LM_COLSUM_SPLIT fixed parts whose sums are added in
 * order. ------------ */
enum { LM_COLSUM_SPLIT = 128, LM_COLSUM_W = 256 };
static inline size_t lm_colsum_bytes(int64_t d) { return static_cast<size_t>(d) * LM_COLSUM_SPLIT * 4; }
template <class F, int U> __global__ void __launch_bounds__(256) lm_colsum_parts(const F f, int64_t rows, int64_t d, float *part) {
    /* a warp has 32 × 8 columns of one row at a time; eight warps take rows in turn */
    const int64_t j = static_cast<int64_t>(blockIdx.x) * LM_COLSUM_W + threadIdx.x % 32 * 8, per = (rows + LM_COLSUM_SPLIT - 1) / LM_COLSUM_SPLIT, r0 = blockIdx.y * per;
    const int64_t r1 = r0 + per < rows ? r0 + per : rows; const int w = threadIdx.x / 32;
    float s[8] = {};
#pragma unroll U
    for (int64_t r = r0 + w; r < r1; r += 8) if (j < d) f(r, j, d, s);
    __shared__ float t[8][LM_COLSUM_W];
#pragma unroll
    for (int e = 0; e < 8; e++) t[w][threadIdx.x % 32 * 8 + e] = s[e];
    __syncthreads();
    float y = 0;
#pragma unroll
    for (int k = 0; k < 8; k++) y += t[k][threadIdx.x];
    const int64_t at = static_cast<int64_t>(blockIdx.x) * LM_COLSUM_W + threadIdx.x;
    if (at < d) part[blockIdx.y * d + at] = y;
}
static __global__ void __launch_bounds__(256) lm_colsum_end(const float *part, int64_t d, float *y, int acc) {
    const int64_t j = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (j >= d) return;
    float s = 0;
#pragma unroll 16
    for (int k = 0; k < LM_COLSUM_SPLIT; k++) s += part[k * d + j];
    y[j] = acc ? y[j] + s : s;
}
/* into output o of the call; U rows of a warp in flight */
template <class F, int U = 4> static lm_err lm_colsum(const lm_call *c, void *scratch, const F f, int64_t rows, int64_t d, int o = 0) {
    if (!d) return LM_OK;
    float *part = static_cast<float *>(c->shared);
    const dim3 grid(LM_CUDA_GRID(d, LM_COLSUM_W), LM_COLSUM_SPLIT);
    lm_colsum_parts<F, U><<<grid, 256, 0, LM_CUDA_STREAM(scratch)>>>(f, rows, d, part);
    if (!c->out[o].rank) return lm_cuda_launched();            /* f does more than the sum, which nobody wants */
    lm_colsum_end<<<LM_CUDA_GRID(d, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(part, d, static_cast<float *>(c->out[o].data), static_cast<int>(c->acc >> o & 1));
    return lm_cuda_launched();
}
/* Eight neighbours from column j where the row has them, else those there are. */
__device__ __forceinline__ void lm_ld_to(const lm_cv &v, int64_t r, int64_t j, int64_t d, int wide, float *f) {
    if (wide) { lm_ld8(v, r * v.rs + j, f); return; }
#pragma unroll
    for (int e = 0; e < 8; e++) f[e] = j + e < d ? lm_ld1(v, r * v.rs + j + e) : 0.0f;
}
#endif
