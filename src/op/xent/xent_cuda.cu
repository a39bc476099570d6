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
/* What a row's gradient is made of. */
typedef struct { float lse, slope, even, hit; int32_t t; } lm_xent_row;
/* Joins the block's maxima and sums, writes the row's loss and lse. zt: the target's logit. All threads get the same answer. */
template <int T> static __device__ lm_xent_row lm_xent_finish(const lm_xent_args &a, int64_t r, float m, float s, float plain, float zt) {
    __shared__ float sm[T / 32], ss[T / 32], sz[T / 32], all[3];
#pragma unroll
    for (int h = 16; h; h /= 2) {
        const float m2 = __shfl_xor_sync(0xffffffffu, m, h), s2 = __shfl_xor_sync(0xffffffffu, s, h);
        lm_xent_join(m, s, m2, s2);
        plain += __shfl_xor_sync(0xffffffffu, plain, h);
    }
    if (threadIdx.x % 32 == 0) { sm[threadIdx.x / 32] = m; ss[threadIdx.x / 32] = s; sz[threadIdx.x / 32] = plain; }
    __syncthreads();
    const int32_t t = a.target[r];
    if (threadIdx.x == 0) {
        for (int w = 1; w < T / 32; w++) { lm_xent_join(m, s, sm[w], ss[w]); plain += sz[w]; }
        const float lse = m == -INFINITY ? m : m + logf(s), w = a.weight ? a.weight[r] : 1.0f;
        a.lse[r] = lse;
        float loss = 0;
        if (t >= a.V) { loss = NAN; if (a.fault) *a.fault = LM_E_RANGE; }
        else if (t >= 0) loss = w * ((1.0f - a.ls) * (lse - zt) + a.ls * (lse - plain / static_cast<float>(a.V)) + a.zl * lse * lse);
        a.loss[r] = loss;
        all[0] = lse; all[1] = t < 0 || t >= a.V ? 0.0f : w * (1.0f + 2.0f * a.zl * lse); all[2] = t < 0 || t >= a.V ? 0.0f : w;
    }
    __syncthreads();
    const lm_xent_row x = { all[0], all[1], all[2] * a.ls / static_cast<float>(a.V), all[2] * (1.0f - a.ls), t };
    return x;
}
/* A logit as the loss has it, cap tanh(z / cap), and what its gradient has to be multiplied by, of that. */
template <bool capped> static __device__ __forceinline__ float lm_xent_capped(const lm_xent_args &a, float z) {
    return capped && z > -INFINITY ? a.cap * tanhf(z / a.cap) : z;                       /* -inf: no logit */
}
template <bool capped> static __device__ __forceinline__ float lm_xent_slope(const lm_xent_args &a, float y) { return capped ? 1.0f - y / a.cap * (y / a.cap) : 1.0f; }
template <bool capped> static __device__ __forceinline__ float lm_xent_target(const lm_xent_args &a, int64_t r) {
    const lm_cv z = { a.z, a.zs, a.half };
    const int32_t t = a.target[r];
    return t >= 0 && t < a.V ? lm_xent_capped<capped>(a, lm_ld1(z, r * a.zs + t)) : 0.0f;
}
template <bool capped> static __global__ void __launch_bounds__(ROW) lm_xent_rows_f32(const lm_xent_args a) {
    const int64_t r = blockIdx.x; float *z = static_cast<float *>(a.z) + r * a.zs;
    float m = -INFINITY, s = 0, plain = 0;
    const int64_t whole = a.V / 4 * 4;
    const float zt = threadIdx.x ? 0.0f : lm_xent_target<capped>(a, r);
    const auto four = [&](int64_t k) {
        const float4 v = *reinterpret_cast<const float4 *>(z + k);
        return make_float4(lm_xent_capped<capped>(a, v.x), lm_xent_capped<capped>(a, v.y), lm_xent_capped<capped>(a, v.z), lm_xent_capped<capped>(a, v.w));
    };
#pragma unroll 4
    for (int64_t k = threadIdx.x * 4; k < whole; k += ROW * 4) {
        const float4 v = four(k);
        const float top = fmaxf(fmaxf(v.x, v.y), fmaxf(v.z, v.w));
        if (top > m) { s = m == -INFINITY ? 0.0f : s * expf(m - top); m = top; }
        s += m == -INFINITY ? 0.0f : expf(v.x - m) + expf(v.y - m) + expf(v.z - m) + expf(v.w - m);
        plain += (v.x + v.y) + (v.z + v.w);
    }
    if (whole + threadIdx.x < a.V) { const float v = lm_xent_capped<capped>(a, z[whole + threadIdx.x]); lm_xent_join(m, s, v, 1.0f); plain += v; }
    const lm_xent_row x = lm_xent_finish<ROW>(a, r, m, s, plain, zt);
    if (!a.grad) return;
#pragma unroll 4
    for (int64_t k = threadIdx.x * 4; k < whole; k += ROW * 4) {
        const float4 v = four(k);
        float g[4] = { expf(v.x - x.lse) * x.slope - x.even, expf(v.y - x.lse) * x.slope - x.even, expf(v.z - x.lse) * x.slope - x.even,
                       expf(v.w - x.lse) * x.slope - x.even };
        if (x.t >= k && x.t < k + 4) {
#pragma unroll
            for (int e = 0; e < 4; e++) if (x.t == k + e) g[e] -= x.hit;
        }
        if (capped) { g[0] *= lm_xent_slope<capped>(a, v.x); g[1] *= lm_xent_slope<capped>(a, v.y); g[2] *= lm_xent_slope<capped>(a, v.z); g[3] *= lm_xent_slope<capped>(a, v.w); }
        *reinterpret_cast<float4 *>(z + k) = make_float4(g[0], g[1], g[2], g[3]);
    }
    if (whole + threadIdx.x < a.V) {
        const int64_t k = whole + threadIdx.x;
        const float v = lm_xent_capped<capped>(a, z[k]);
        z[k] = (expf(v - x.lse) * x.slope - x.even - (x.t == k ? x.hit : 0.0f)) * lm_xent_slope<capped>(a, v);
    }
    for (int64_t k = a.V + threadIdx.x; k < a.zs; k += ROW) z[k] = 0;
}

/* bf16: a thread has every HALF-th group of eight and copies its own into shared memory without waiting, the first `held` groups of the row;
 * what is behind them is read from memory each time. Numbers after the last logit are made -inf there, so no loop asks about them.
 * Exponentials by base two. */
enum { HALF = 1024, HELD = 112 << 10 };
static __device__ __forceinline__ uint4 lm_xent_mask(uint4 u, int k, int64_t V) {
    uint32_t w[4] = { u.x, u.y, u.z, u.w };
#pragma unroll
    for (int e = 0; e < 8; e++)
        if (static_cast<int64_t>(k) * 8 + e >= V)
            w[e / 2] = e % 2 ? (w[e / 2] & 0xffffu) | 0xff800000u : (w[e / 2] & 0xffff0000u) | 0xff80u;
    return make_uint4(w[0], w[1], w[2], w[3]);
}
static __device__ __forceinline__ __nv_bfloat162 lm_xent_pair(uint32_t u) { return *reinterpret_cast<const __nv_bfloat162 *>(&u); }
/* f(group, its numbers) for all groups of this thread */
template <class F> static __device__ __forceinline__ void lm_xent_each(const uint4 *row, const uint4 *z, int held, int n, int64_t V, const F &f) {
    int k = threadIdx.x;
#pragma unroll 4
    for (; k < held; k += HALF) f(k, row[k]);
    for (; k < n; k += HALF) f(k, k == n - 1 ? lm_xent_mask(z[k], k, V) : z[k]);
}
template <bool capped> static __global__ void __launch_bounds__(HALF, 2) lm_xent_rows_bf16(const lm_xent_args a, int held) {
    extern __shared__ uint4 row[];
    const int64_t r = blockIdx.x; __nv_bfloat16 *flat = static_cast<__nv_bfloat16 *>(a.z) + r * a.zs; uint4 *z = reinterpret_cast<uint4 *>(flat);
    const int n = static_cast<int>((a.V + 7) / 8), pad = static_cast<int>(a.zs / 8);
    for (int k = threadIdx.x; k < held; k += HALF) {
        const uint32_t to = static_cast<uint32_t>(__cvta_generic_to_shared(row + k));
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(z + k) : "memory");
    }
    const float zt = lm_xent_target<capped>(a, r);
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (held == n && (n - 1) % HALF == static_cast<int>(threadIdx.x)) row[n - 1] = lm_xent_mask(row[n - 1], n - 1, a.V);
    __nv_bfloat162 most = lm_xent_pair(0xff80ff80u);
    lm_xent_each(row, z, held, n, a.V, [&](int, uint4 u) {
        most = __hmax2_nan(
            most, __hmax2_nan(__hmax2_nan(lm_xent_pair(u.x), lm_xent_pair(u.y)), __hmax2_nan(lm_xent_pair(u.z), lm_xent_pair(u.w))));
    });
    const float top = lm_xent_capped<capped>(a, fmaxf(__low2float(most), __high2float(most))), base = top == -INFINITY ? 0.0f : top * LM_LOG2E;
    float s[2] = {}, plain = 0;
    lm_xent_each(row, z, held, n, a.V, [&](int, uint4 u) {
        float f[8];
        lm_unpack8(u, f);
#pragma unroll
        for (int e = 0; e < 8; e++) s[e % 2] += lm_exp2(fmaf(lm_xent_capped<capped>(a, f[e]), LM_LOG2E, -base));
    });
    if (a.ls != 0) for (int64_t k = threadIdx.x; k < a.V; k += HALF) plain += lm_xent_capped<capped>(a, __bfloat162float(flat[k]));
    const lm_xent_row x = lm_xent_finish<HALF>(a, r, top, s[0] + s[1], plain, zt);
    if (!a.grad) return;
    const float down = x.lse * LM_LOG2E;
    lm_xent_each(row, z, held, n, a.V, [&](int k, uint4 u) {
        float f[8];
        lm_unpack8(u, f);
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float y = lm_xent_capped<capped>(a, f[e]);
            f[e] = fmaf(lm_exp2(fmaf(y, LM_LOG2E, -down)), x.slope, -x.even) * lm_xent_slope<capped>(a, y);
        }
        z[k] = make_uint4(lm_pack2(f[0], f[1]), lm_pack2(f[2], f[3]), lm_pack2(f[4], f[5]), lm_pack2(f[6], f[7]));
    });
    /* by the threads that wrote these groups: the target's own part, and zeros after the last logit */
    if (x.t >= 0 && x.t < a.V && x.t / 8 % HALF == static_cast<int>(threadIdx.x))
        flat[x.t] = __float2bfloat16_rn((fmaf(lm_exp2(fmaf(zt, LM_LOG2E, -down)), x.slope, -x.even) - x.hit) * lm_xent_slope<capped>(a, zt));
    if ((n - 1) % HALF == static_cast<int>(threadIdx.x)) for (int64_t k = a.V; k < static_cast<int64_t>(n) * 8; k++) flat[k] = __float2bfloat16_rn(0);
    for (int k = n + threadIdx.x; k < pad; k += HALF) z[k] = make_uint4(0, 0, 0, 0);
}
lm_err lm_xent_cuda_w(const lm_call *c, const lm_xent_p *p, char **room, lm_cm *w, cudaStream_t s) {
    *w = lm_xent_operand(&c->in[1], 0);
    if (!lm_xent_w_bytes(c, p)) return LM_OK;
    lm_tensor y = lm_tensor_of(*room, LM_BF16, 2, c->in[1].dim);
    y.stride[0] = lm_round_up(c->in[1].dim[1], 8);
    w->p = y.data; w->ld = y.stride[0]; w->bf16 = true;
    *room += lm_xent_w_bytes(c, p);
    const int64_t more = lm_xent_cuda_stride(c) - c->in[1].dim[0];
    if (more && cudaMemsetAsync(static_cast<char *>(y.data) + c->in[1].dim[0] * y.stride[0] * 2, 0,
                                static_cast<size_t>(more * y.stride[0]) * 2, s) != cudaSuccess)
        return LM_E_DEVICE;
    return lm_cast_cuda(&c->in[1], &y, s);
}
lm_err lm_xent_cuda_chunk(const lm_xent_args *a, int64_t rows, cudaStream_t s) {
    if (a->half) {
        const int held = static_cast<int>(lm_min64((a->V + 7) / 8, HELD / 16));
        const auto kernel = a->cap > 0 ? lm_xent_rows_bf16<true> : lm_xent_rows_bf16<false>;
        if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, HELD) != cudaSuccess) return LM_E_DEVICE;
        kernel<<<static_cast<unsigned>(rows), HALF, static_cast<size_t>(held) * 16, s>>>(*a, held);
    } else if (a->cap > 0) lm_xent_rows_f32<true><<<static_cast<unsigned>(rows), ROW, 0, s>>>(*a);
    else lm_xent_rows_f32<false><<<static_cast<unsigned>(rows), ROW, 0, s>>>(*a);
    return lm_cuda_launched();
}
static const lm_xent_p *params(const lm_call *c) { return static_cast<const lm_xent_p *>(c->p); }
static size_t shared(const lm_call *c) {
    const int64_t rows = lm_min64(lm_xent_cuda_rows(c, params(c)), lm_max64(1, c->in[0].dim[0]));
    const lm_cm w = { NULL, c->in[1].dim[1], 0, params(c)->mm == LM_BF16 || c->in[1].dtype == LM_BF16 };
    const lm_cuda_gemm g = lm_xent_cuda_logits(c, params(c), 0, rows, w, NULL, false);
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
        const lm_cuda_gemm g = lm_xent_cuda_logits(c, p, r, rows, w, z, false);
        LM_TRY(lm_cuda_gemm_run(c->dev, &g, at, s));
        const lm_xent_args a = { z,
                                 lm_xent_cuda_stride(c),
                                 c->in[1].dim[0],
                                 static_cast<const int32_t *>(c->in[2].data) + r,
                                 lm_has(c, 3) ? static_cast<const float *>(c->in[3].data) + r : NULL,
                                 static_cast<float *>(c->out[0].data) + r,
                                 static_cast<float *>(c->out[1].data) + r,
                                 p->label_smoothing,
                                 p->z_loss,
                                 p->cap,
                                 0,
                                 0,
                                 c->fault };
        LM_TRY(lm_xent_cuda_chunk(&a, rows, s));
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_xent_cuda_accepts(c, params(c)); }
LM_CUDA_ONE_SHARED(xent, "xent/cuda", accepts, run, shared)
