/* rmsnorm_cuda.cu — one block per group of d columns (per row where w is as long as a row). A row is held in registers between the sum and the
 * scaling where it fits (four floats × V per thread), so memory is touched once: 8 bytes per element, the floor. Longer or unaligned rows are read twice. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rmsnorm/rmsnorm.h"
}

struct norm_args { const float *x, *w; float *y, *stat; int64_t d, groups, xs, ys; float eps, offset; };

template <int threads, int V> __global__ void __launch_bounds__(threads) norm_regs(norm_args a) {
    const int64_t row = blockIdx.x / a.groups, group = blockIdx.x % a.groups;
    const float4 *x = reinterpret_cast<const float4 *>(a.x + row * a.xs + group * a.d), *w = reinterpret_cast<const float4 *>(a.w);
    float4 *y = reinterpret_cast<float4 *>(a.y + row * a.ys + group * a.d), v[V];
    const int n = static_cast<int>(a.d / 4);
    float s = 0;
#pragma unroll
    for (int i = 0; i < V; i++) {
        const int k = threadIdx.x + i * threads;
        v[i] = k < n ? __ldcs(x + k) : make_float4(0, 0, 0, 0);
        s += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<threads>(s) / static_cast<float>(a.d) + a.eps);
#pragma unroll
    for (int i = 0; i < V; i++) {
        const int k = threadIdx.x + i * threads;
        if (k >= n) continue;
        const float4 g = w[k];
        y[k] = make_float4(v[i].x * r * (g.x + a.offset), v[i].y * r * (g.y + a.offset), v[i].z * r * (g.z + a.offset), v[i].w * r * (g.w + a.offset));
    }
    if (threadIdx.x == 0) a.stat[blockIdx.x] = r;
}
template <int threads> __global__ void __launch_bounds__(threads) norm_any(norm_args a) {
    const int64_t row = blockIdx.x / a.groups, group = blockIdx.x % a.groups;
    const float *x = a.x + row * a.xs + group * a.d;
    float *y = a.y + row * a.ys + group * a.d, s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += threads) s += x[k] * x[k];
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<threads>(s) / static_cast<float>(a.d) + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += threads) y[k] = x[k] * r * (a.w[k] + a.offset);
    if (threadIdx.x == 0) a.stat[blockIdx.x] = r;
}

static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c->p);
    const int64_t d = c->in[1].dim[0], groups = lm_cols(&c->in[0]) / d, blocks = lm_rows(&c->in[0]) * groups;
    const norm_args a = { static_cast<const float *>(c->in[0].data), static_cast<const float *>(c->in[1].data), static_cast<float *>(c->out[0].data),
                          static_cast<float *>(c->out[1].data), d, groups, lm_row_stride(&c->in[0]), lm_row_stride(&c->out[0]), p->eps, p->offset };
    if (!blocks) return LM_OK;
    if (blocks > INT32_MAX) return LM_E_RANGE;
    const uintptr_t bits = reinterpret_cast<uintptr_t>(a.x) | reinterpret_cast<uintptr_t>(a.y) | reinterpret_cast<uintptr_t>(a.w);
    const bool quads = bits % 16 == 0 && d % 4 == 0 && a.xs % 4 == 0 && a.ys % 4 == 0;
    const unsigned grid = static_cast<unsigned>(blocks); const cudaStream_t stream = LM_CUDA_STREAM(scratch);
    if (quads && d <= 32 * 4 * 2) norm_regs<32, 2><<<grid, 32, 0, stream>>>(a);
    else if (quads && d <= 128 * 4 * 2) norm_regs<128, 2><<<grid, 128, 0, stream>>>(a);
    else if (quads && d <= 256 * 4 * 4) norm_regs<256, 4><<<grid, 256, 0, stream>>>(a);
    else if (quads && d <= 512 * 4 * 8) norm_regs<512, 8><<<grid, 512, 0, stream>>>(a);
    else norm_any<256><<<grid, 256, 0, stream>>>(a);
    return lm_cuda_launched();
}

extern "C" {
extern const lm_kernel lm_k_rmsnorm_cuda[];
const lm_kernel lm_k_rmsnorm_cuda[] = { { "rmsnorm.f32.cuda", LM_DEV_CUDA, 0, "rmsnorm/cuda", lm_accepts_rows, NULL, NULL, 1, { { lm_cuda_one, run } }, NULL }, {} };
}
