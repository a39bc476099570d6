/* own.cuh — matrix products by kernels that take any mix of f32 and lm_h16: one for any rows and strides, which adds over k in order, and one for
 * one to four rows against W (N,K). For *_cuda.cu files. */
#ifndef LM_MATMUL_OWN_CUH
#define LM_MATMUL_OWN_CUH
#include "op/matmul/matmul.cuh"
/* ---- anything ---- */
enum { TILE = 64, KT = 16 };
struct any_args { lm_cuda_gemm g; int64_t am, ak, bn, bk; };               /* element steps along m, n and k */
__device__ __forceinline__ float one(const lm_cm &m, int64_t at, bool round) {
    const float f = m.bf16 ? lm_of16(static_cast<const lm_h16 *>(m.p)[at]) : static_cast<const float *>(m.p)[at];
    return round ? __bfloat162float(__float2bfloat16_rn(f)) : f;
}
static __global__ void __launch_bounds__(256) any_kernel(const any_args x) {
    const lm_cuda_gemm &g = x.g;
    __shared__ float sa[KT][TILE + 4], sb[KT][TILE + 4];
    const int64_t m0 = static_cast<int64_t>(blockIdx.y) * TILE, n0 = static_cast<int64_t>(blockIdx.x) * TILE, s = blockIdx.z, oa = s * g.a.bs, ob = s * g.b.bs;
    const int tm = threadIdx.x / 16 * 4, tn = threadIdx.x % 16 * 4;
    float acc[4][4] = {};
    for (int64_t k0 = 0; k0 < g.K; k0 += KT) {
        for (int e = threadIdx.x; e < TILE * KT; e += 256) {              /* neighbours in memory go to neighbouring threads */
            const int ma = x.ak == 1 ? e / KT : e % TILE, ka = x.ak == 1 ? e % KT : e / TILE, nb = x.bk == 1 ? e / KT : e % TILE, kb = x.bk == 1 ? e % KT : e / TILE;
            sa[ka][ma] = m0 + ma < g.M && k0 + ka < g.K ? one(g.a, oa + (m0 + ma) * x.am + (k0 + ka) * x.ak, g.round) : 0.0f;
            sb[kb][nb] = n0 + nb < g.N && k0 + kb < g.K ? one(g.b, ob + (n0 + nb) * x.bn + (k0 + kb) * x.bk, g.round) : 0.0f;
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < KT; k++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) acc[i][j] = fmaf(sa[k][tm + i], sb[k][tn + j], acc[i][j]);
        __syncthreads();
    }
    const lm_cv c = { g.c, g.ldc, g.c_bf16 }, bias = { const_cast<void *>(g.bias), 0, g.bias_bf16 };
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t m = m0 + tm + i, n = n0 + tn + j;
            if (m >= g.M || n >= g.N) continue;
            const int64_t at = s * g.sc + m * g.ldc + n;
            float v = acc[i][j];
            if (g.bias) v += lm_ld1(bias, n);
            if (g.acc) v += lm_ld1(c, at);
            lm_st1(c, at, v);
        }
}
static lm_err any(const lm_cuda_gemm *g, cudaStream_t s) {
    const any_args x = { *g, g->ta ? 1 : g->a.ld, g->ta ? g->a.ld : 1, g->tb ? g->b.ld : 1, g->tb ? 1 : g->b.ld };
    if (lm_ceil_div(g->M, TILE) > 65535 || g->batch > 65535) return LM_E_RANGE;
    any_kernel<<<dim3(LM_CUDA_GRID(g->N, TILE), LM_CUDA_GRID(g->M, TILE), static_cast<unsigned>(g->batch)), 256, 0, s>>>(x);
    return lm_cuda_launched();
}

/* ---- one to four rows against W (N,K): decode ---- */
enum { FEW = 4 };
/* The weights' dtype is known when this is compiled and four loads of them are in flight before the first is used: a branch between would
 * make each wait for the last. */
template <int M, bool half> __global__ void __launch_bounds__(128) few_kernel(const lm_cuda_gemm g) {
    constexpr int U = half ? 4 : 2, W = half ? 1 : 2;
    const int64_t n = static_cast<int64_t>(blockIdx.x) * 4 + threadIdx.x / 32; const int lane = threadIdx.x % 32;
    if (n >= g.N) return;
    const lm_cv a = { const_cast<void *>(g.a.p), g.a.ld, g.a.bf16 };
    const uint4 *b = reinterpret_cast<const uint4 *>(half ? static_cast<const char *>(g.b.p) + n * g.b.ld * 2 : static_cast<const char *>(g.b.p) + n * g.b.ld * 4);
    float acc[M] = {};
    for (int64_t k0 = lane * 8; k0 < g.K; k0 += 256 * U) {
        uint4 raw[U][W];
#pragma unroll
        for (int u = 0; u < U; u++)
#pragma unroll
            for (int q = 0; q < W; q++) raw[u][q] = k0 + 256 * u < g.K ? __ldcs(b + (k0 + 256 * u) / 8 * W + q) : make_uint4(0, 0, 0, 0);
#pragma unroll
        for (int u = 0; u < U; u++) {
            const int64_t k = k0 + 256 * u;
            if (k >= g.K) break;
            float w[8], x[8];
            if (half) lm_unpack8(raw[u][0], w);
            else {
                const uint32_t bits[8] = { raw[u][0].x, raw[u][0].y, raw[u][0].z, raw[u][0].w, raw[u][W - 1].x, raw[u][W - 1].y, raw[u][W - 1].z, raw[u][W - 1].w };
#pragma unroll
                for (int e = 0; e < 8; e++) w[e] = g.round ? __bfloat162float(__float2bfloat16_rn(__uint_as_float(bits[e]))) : __uint_as_float(bits[e]);
            }
#pragma unroll
            for (int m = 0; m < M; m++) {
                lm_ld8(a, m * a.rs + k, x);
                if (g.round && !a.bf16) for (int e = 0; e < 8; e++) x[e] = __bfloat162float(__float2bfloat16_rn(x[e]));
#pragma unroll
                for (int e = 0; e < 8; e++) acc[m] = fmaf(x[e], w[e], acc[m]);
            }
        }
    }
    const lm_cv c = { g.c, g.ldc, g.c_bf16 }, bias = { const_cast<void *>(g.bias), 0, g.bias_bf16 };
#pragma unroll
    for (int m = 0; m < M; m++) {
        float v = lm_cuda_warp_sum(acc[m]);
        if (lane) continue;
        if (g.bias) v += lm_ld1(bias, n);
        if (g.acc) v += lm_ld1(c, m * g.ldc + n);
        lm_st1(c, m * g.ldc + n, v);
    }
}
static bool few_ok(const lm_cuda_gemm *g) {
    const lm_cv v[2] = { { const_cast<void *>(g->a.p), g->a.ld, g->a.bf16 }, { const_cast<void *>(g->b.p), g->b.ld, g->b.bf16 } };
    return g->M <= FEW && g->batch == 1 && g->tb && !g->ta && lm_cuda_vec8(v, 2, g->K);
}
template <bool half> static lm_err few(const lm_cuda_gemm *g, cudaStream_t s) {
    const unsigned grid = LM_CUDA_GRID(g->N, 4);
    switch (g->M) {
    case 1: few_kernel<1, half><<<grid, 128, 0, s>>>(*g); break;
    case 2: few_kernel<2, half><<<grid, 128, 0, s>>>(*g); break;
    case 3: few_kernel<3, half><<<grid, 128, 0, s>>>(*g); break;
    default: few_kernel<4, half><<<grid, 128, 0, s>>>(*g);
    }
    return lm_cuda_launched();
}
#endif
