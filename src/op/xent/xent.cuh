/* xent.cuh — the loss of a head on a CUDA device: logits in chunks of rows, one pass over each row. For the *_cuda.cu files of xent and xent_step.
 *
 * A block has a row: the maximum and the sum of exponentials in one reading (each thread its own, joined by a tree), then, for the gradient, d loss / d logits in one reading and
 * writing, as bf16 over the logits' own storage where the product takes bf16 (the place of a number is behind all that are still to be read by its row's block in that step). */
#ifndef LM_XENT_CUH
#define LM_XENT_CUH
#include "op/matmul/matmul.cuh"
extern "C" {
#include "op/xent/xent.h"
}
enum { LM_XENT_CUDA_ROWS = 4096 };                                     /* rows of logits that exist at a time */
static inline int64_t lm_xent_cuda_rows(const lm_call *c, const lm_xent_p *p) { return p->chunk > 0 ? p->chunk : lm_min64(LM_XENT_CUDA_ROWS, lm_max64(1, c->in[0].dim[0])); }
static inline int64_t lm_xent_cuda_stride(const lm_call *c) { return lm_round_up(c->in[1].dim[0], 8); }
typedef struct { const float *z; void *dz; int64_t zs, dzs, V; const int32_t *target; const float *weight; float *loss, *lse; float ls, zl; int grad, dz_bf16; int32_t *fault; } lm_xent_args;
static __device__ __forceinline__ void lm_xent_join(float &m, float &s, float m2, float s2) {
    const float top = fmaxf(m, m2);
    if (top == -INFINITY) { s += s2; return; }
    s = s * expf(m - top) + s2 * expf(m2 - top);
    m = top;
}
static __global__ void __launch_bounds__(512) lm_xent_rows_kernel(const lm_xent_args a) {
    const int64_t r = blockIdx.x; const float *z = a.z + r * a.zs;
    __shared__ float sm[16], ss[16], sz[16], all[3];
    float m = -INFINITY, s = 0, plain = 0;
    const int64_t whole = a.V / 4 * 4;
    for (int64_t k = threadIdx.x * 4; k < whole; k += 512 * 4) {
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
        for (int w = 1; w < 16; w++) { lm_xent_join(m, s, sm[w], ss[w]); plain += sz[w]; }
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
    for (int64_t k = threadIdx.x * 4; k < whole; k += 512 * 4) {
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
}
static inline lm_cm lm_xent_operand(const lm_tensor *t, int64_t row0) {
    const lm_cm m = { static_cast<char *>(t->data) + static_cast<size_t>(row0 * lm_row_stride(t)) * (t->dtype == LM_BF16 ? 2 : 4), lm_row_stride(t), 0, t->dtype == LM_BF16 };
    return m;
}
/* logits (rows, V) = x[row0 …] Wᵀ */
static inline lm_cuda_gemm lm_xent_cuda_logits(const lm_call *c, const lm_xent_p *p, int64_t row0, int64_t rows, const lm_cm &w, float *z) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = rows; g.N = c->in[1].dim[0]; g.K = c->in[0].dim[1]; g.a = lm_xent_operand(&c->in[0], row0); g.b = w; g.tb = true; g.round = p->mm == LM_BF16;
    g.c = z; g.ldc = lm_xent_cuda_stride(c);
    return g;
}
static inline bool lm_xent_cuda_accepts(const lm_call *c, const lm_xent_p *p) {
    const lm_tensor *x = &c->in[0], *w = &c->in[1];
    if (p->mm != LM_F32 && p->mm != LM_BF16) return false;
    for (int i = 0; i < c->n_out; i++) if (!lm_cuda_float(&c->out[i]) || (i != 2 && c->out[i].dtype != LM_F32)) return false;
    if (!lm_is_contig(&c->out[0]) || !lm_is_contig(&c->out[1]) || (c->n_out > 3 && !lm_is_contig(&c->out[3]))) return false;
    if (!lm_is_contig(&c->in[2]) || (lm_has(c, 3) && !lm_is_f32_vec(&c->in[3]))) return false;
    return lm_cuda_float(x) && lm_cuda_float(w);
}
static inline size_t lm_xent_up(size_t n) { return (n + 255) & ~static_cast<size_t>(255); }
/* W as the products take it: rounded once for all chunks where it is f32 and they take bf16. */
static inline size_t lm_xent_w_bytes(const lm_call *c, const lm_xent_p *p) {
    return p->mm == LM_BF16 && c->in[1].dtype == LM_F32 ? lm_xent_up(static_cast<size_t>(c->in[1].dim[0] * lm_round_up(c->in[1].dim[1], 8)) * 2) : 0;
}
lm_err lm_xent_cuda_w(const lm_call *c, const lm_xent_p *p, char **room, lm_cm *w, cudaStream_t s);      /* takes its bytes off *room */
lm_err lm_xent_cuda_chunk(const lm_xent_args *a, int64_t rows, cudaStream_t s);
#endif
