/* xent_cuda.cu — a product and a pass over the logits per chunk of rows. */
#include "op/cast/cast.cuh"
#include "op/xent/xent.cuh"
enum { ROW = 1024 };                                                       /* threads that have a row */

static __device__ __forceinline__ void lm_xent_join(float &m, float &s, float m2, float s2) {
    const float top = fmaxf(m, m2);
    if (top == -INFINITY) { s += s2; return; }
    s = s * expf(m - top) + s2 * expf(m2 - top);
    m = top;
}
static __global__ void __launch_bounds__(ROW) lm_xent_rows_kernel(const lm_xent_args a) {
    const int64_t r = blockIdx.x; const float *z = a.z + r * a.zs;
    __shared__ float sm[ROW / 32], ss[ROW / 32], sz[ROW / 32], all[3];
    float m = -INFINITY, s = 0, plain = 0;
    const int64_t whole = a.V / 4 * 4;
#pragma unroll 4
    for (int64_t k = threadIdx.x * 4; k < whole; k += ROW * 4) {
        const float4 v = *reinterpret_cast<const float4 *>(z + k);
        const float top = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
        if (top > m) { s = m == -INFINITY ? 0.0f : s * expf(m - top); m = top; }
        s += m == -INFINITY ? 0.0f : expf(v.x - m) + expf(v.y - m) + expf(v.z - m) + expf(v.w - m);
        plain += (v.x + v.y) + (v.z + v.w);
    }
    if (whole + threadIdx.x < a.V) { const float v = z[whole + threadIdx.x]; lm_xent_join(m, s, v, 1.0f); plain += v; }
#pragma unroll
    for (int h = 16; h; h /= 2) { const float m2 = __shfl_xor_sync(0xffffffffu, m, h), s2 = __shfl_xor_sync(0xffffffffu, s, h); lm_xent_join(m, s, m2, s2); plain += __shfl_xor_sync(0xffffffffu, plain, h); }
    if (threadIdx.x % 32 == 0) { sm[threadIdx.x / 32] = m; ss[threadIdx.x / 32] = s; sz[threadIdx.x / 32] = plain; }
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < ROW / 32; w++) { lm_xent_join(m, s, sm[w], ss[w]); plain += sz[w]; }
        const float lse = m == -INFINITY ? m : m + logf(s), w = a.weight ? a.weight[r] : 1.0f;
        const int32_t t = a.target[r];
        a.lse[r] = lse;
        float loss = 0;
        if (t >= a.V) { loss = NAN; if (a.fault) *a.fault = LM_E_RANGE; }
        else if (t >= 0) loss = w * ((1.0f - a.ls) * (lse - z[t]) + a.ls * (lse - plain / static_cast<float>(a.V)) + a.zl * lse * lse);
        a.loss[r] = loss;
        all[0] = lse; all[1] = t < 0 || t >= a.V ? 0.0f : w * (1.0f + 2.0f * a.zl * lse); all[2] = t < 0 || t >= a.V ? 0.0f : w;
    }
    __syncthreads();
    if (!a.grad) return;
    const float lse = all[0], slope = all[1], w = all[2], even = w * a.ls / static_cast<float>(a.V), hit = w * (1.0f - a.ls); const int32_t t = a.target[r];
    const lm_cv dz = { a.dz, 0, a.dz_bf16 };
#pragma unroll 4
    for (int64_t k = threadIdx.x * 4; k < whole; k += ROW * 4) {
        const float4 v = *reinterpret_cast<const float4 *>(z + k);
        float g[4] = { expf(v.x - lse) * slope - even, expf(v.y - lse) * slope - even, expf(v.z - lse) * slope - even, expf(v.w - lse) * slope - even };
        if (t >= k && t < k + 4) {
#pragma unroll
            for (int e = 0; e < 4; e++) if (t == k + e) g[e] -= hit;
        }
        if (dz.bf16) *reinterpret_cast<uint2 *>(static_cast<__nv_bfloat16 *>(dz.p) + r * a.dzs + k) = make_uint2(lm_pack2(g[0], g[1]), lm_pack2(g[2], g[3]));
        else *reinterpret_cast<float4 *>(static_cast<float *>(dz.p) + r * a.dzs + k) = make_float4(g[0], g[1], g[2], g[3]);
    }
    if (whole + threadIdx.x < a.V) {
        const int64_t k = whole + threadIdx.x;
        lm_st1(dz, r * a.dzs + k, expf(z[k] - lse) * slope - even - (t == k ? hit : 0.0f));
    }
    for (int64_t k = a.V + threadIdx.x; k < a.pad; k += ROW) lm_st1(dz, r * a.dzs + k, 0.0f);
}
lm_err lm_xent_cuda_w(const lm_call *c, const lm_xent_p *p, char **room, lm_cm *w, cudaStream_t s) {
    *w = lm_xent_operand(&c->in[1], 0);
    if (!lm_xent_w_bytes(c, p)) return LM_OK;
    lm_tensor y = lm_tensor_of(*room, LM_BF16, 2, c->in[1].dim);
    y.stride[0] = lm_round_up(c->in[1].dim[1], 8);
    w->p = y.data; w->ld = y.stride[0]; w->bf16 = true;
    *room += lm_xent_w_bytes(c, p);
    const int64_t more = lm_xent_cuda_stride(c) - c->in[1].dim[0];
    if (more && cudaMemsetAsync(static_cast<char *>(y.data) + c->in[1].dim[0] * y.stride[0] * 2, 0, static_cast<size_t>(more * y.stride[0]) * 2, s) != cudaSuccess) return LM_E_DEVICE;
    return lm_cast_cuda(&c->in[1], &y, s);
}
lm_err lm_xent_cuda_chunk(const lm_xent_args *a, int64_t rows, cudaStream_t s) {
    lm_xent_rows_kernel<<<static_cast<unsigned>(rows), ROW, 0, s>>>(*a);
    return lm_cuda_launched();
}
static const lm_xent_p *params(const lm_call *c) { return static_cast<const lm_xent_p *>(c->p); }
static size_t shared(const lm_call *c) {
    const int64_t rows = lm_min64(lm_xent_cuda_rows(c, params(c)), lm_max64(1, c->in[0].dim[0]));
    const lm_cm w = { NULL, c->in[1].dim[1], 0, params(c)->mm == LM_BF16 || c->in[1].dtype == LM_BF16 };
    const lm_cuda_gemm g = lm_xent_cuda_logits(c, params(c), 0, rows, w, NULL);
    return lm_xent_w_bytes(c, params(c)) + lm_xent_up(static_cast<size_t>(rows * lm_xent_cuda_stride(c)) * 4) + lm_cuda_gemm_room(&g);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const cudaStream_t s = LM_CUDA_STREAM(scratch); const lm_xent_p *p = params(c);
    const int64_t n = c->in[0].dim[0], per = lm_xent_cuda_rows(c, p);
    char *at = static_cast<char *>(c->shared);
    lm_cm w;
    LM_TRY(lm_xent_cuda_w(c, p, &at, &w, s));
    float *z = reinterpret_cast<float *>(at);
    at += lm_xent_up(static_cast<size_t>(lm_min64(per, lm_max64(1, n)) * lm_xent_cuda_stride(c)) * 4);
    for (int64_t r = 0; r < n; r += per) {
        const int64_t rows = lm_min64(per, n - r);
        const lm_cuda_gemm g = lm_xent_cuda_logits(c, p, r, rows, w, z);
        LM_TRY(lm_cuda_gemm_run(c->dev, &g, at, s));
        const lm_xent_args a = { z, NULL, lm_xent_cuda_stride(c), 0, c->in[1].dim[0], 0, static_cast<const int32_t *>(c->in[2].data) + r, lm_has(c, 3) ? static_cast<const float *>(c->in[3].data) + r : NULL,
                                 static_cast<float *>(c->out[0].data) + r, static_cast<float *>(c->out[1].data) + r, p->label_smoothing, p->z_loss, 0, 0, c->fault };
        LM_TRY(lm_xent_cuda_chunk(&a, rows, s));
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_xent_cuda_accepts(c, params(c)); }
LM_CUDA_ONE_SHARED(xent, "xent/cuda", accepts, run, shared)
