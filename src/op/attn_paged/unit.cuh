/* unit.cuh — what decode_hopper_cuda.cu and alone_hopper_cuda.cu do with a unit of keys and values, and how parts of a row are joined: one text, so that a
 * row has the same bits in both. Roundings are spelt out: what is contracted must not depend on the kernel this is in.
 *
 * A warp has D dimensions and NH times eight columns (a query head of a row each) of 16·NT tokens: tokens are the rows of both products (Sᵀ = K Qᵀ, Oᵀ = Vᵀ Pᵀ).
 * Weights are split into two bf16 numbers, so only the inputs are rounded. Lane g, t = lane / 4, lane % 4: o[d][h][2r+e] is dimension 16 d + 8 r + g of
 * column 8 h + 2 t + e; top and sum [h][e] are of that column, sum of this lane's tokens alone until whole().
 * In shared memory a unit lies as the copy engine brings it by decode.cuh's maps: HALF bytes of keys, then of values.
 *
 * Lifetime: none.  Threads: as CUDA's; whole warps.  Errors: none. */
#ifndef LM_PAGED_UNIT_CUH
#define LM_PAGED_UNIT_CUH
#include "op/attn_paged/decode.cuh"
#ifdef LM_HOPPER_CODE
__device__ __forceinline__ void lm_unit_ldsm(uint32_t *r, uint32_t at) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
/* 8×8 bf16, rows to columns */
__device__ __forceinline__ uint32_t lm_turned(uint32_t x) {
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
__device__ __forceinline__ uint32_t lm_pair_of(const lm_cv &v, int64_t at) {
    if (v.bf16) return *reinterpret_cast<const uint32_t *>(static_cast<const __nv_bfloat16 *>(v.p) + at);
    const float2 f = *reinterpret_cast<const float2 *>(static_cast<const float *>(v.p) + at);
    return lm_pack2(f.x, f.y);
}
/* Values of this warp's unit that no row sees may be anything: rows outside of [from, to] become zero. */
template <int D, int NT> __device__ __forceinline__ void lm_unit_clear(uint32_t values, int x0, int from, int to) {
    for (int j = threadIdx.x % 32; j < 16 * NT * (D / 8); j += 32) {
        const int r = j / 8 % (16 * NT);
        if (x0 + r < from || x0 + r > to) lm_stsi4(values + j * 16, 0, 0, 0, 0);
    }
    lm_fence_async();
    __syncwarp();
}
template <int D, int NH, int NT> struct lm_unit_sums {
    static constexpr int KS = D / 16, TU = 16 * NT;
    float o[KS][NH][4], top[NH][2], sum[NH][2];
    __device__ __forceinline__ void begin() {
#pragma unroll
        for (int h = 0; h < NH; h++) {
            top[h][0] = top[h][1] = -INFINITY; sum[h][0] = sum[h][1] = 0;
#pragma unroll
            for (int d = 0; d < KS; d++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[d][h][e] = 0;
        }
    }
    /* q(h, ks): right operands; all: every column sees all tokens; sees(e, i): does column e (of this lane's two) see token i of the unit (without a branch)? s2: scale, for powers of two */
    template <class Q, class F> __device__ __forceinline__ void add(uint32_t keys, uint32_t values, const Q &q, float s2, bool all, const F &sees) {
        const int lane = threadIdx.x % 32, g = lane / 4;
        /* where this lane's row of 16 bytes of a matrix of eight lies. Keys: a row is a dimension, matrices are (tokens, dimensions) by lane / 8; values: a
         * token, (dimensions, tokens) */
        const int kr = lane / 16 * 2 + lane % 8 / 4, part = lane / 8 % 2;
        const uint32_t at_k = kr * 128 + ((lane % 4 * 2 + part) ^ kr) * 16, at_v = (lane / 16 * 8 + lane % 8) * 128 + (part ^ lane % 8) * 16;
        float c[NT][NH][4] = {};
#pragma unroll
        for (int ks = 0; ks < KS; ks++) {
            uint2 x[NH];
#pragma unroll
            for (int h = 0; h < NH; h++) x[h] = q(h, ks);
#pragma unroll
            for (int j = 0; j < NT; j++) {
                uint32_t f[4];
                lm_unit_ldsm(f, keys + j * (D * 32) + ks * 512 + (at_k ^ (ks & 1) * 64));
#pragma unroll
                for (int h = 0; h < NH; h++) lm_mma(c[j][h], f, x[h].x, x[h].y);
            }
        }
        /* no branch in here, and all columns in step: each alone would wait for its own shuffles */
        float keep[NH][2], most[NH][2];
#pragma unroll
        for (int h = 0; h < NH; h++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                most[h][e] = top[h][e];
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        float &z = c[j][h][2 * r + e];
                        const bool seen = all | sees(e, j * 16 + r * 8 + g);
                        z = seen ? __fmul_rn(z, s2) : -INFINITY;
                        most[h][e] = fmaxf(most[h][e], z);
                    }
            }
#pragma unroll
        for (int b = 4; b < 32; b *= 2) {
            float other[NH][2];
#pragma unroll
            for (int i = 0; i < 2 * NH; i++) other[i / 2][i % 2] = __shfl_xor_sync(0xffffffffu, most[i / 2][i % 2], b);
#pragma unroll
            for (int i = 0; i < 2 * NH; i++) most[i / 2][i % 2] = fmaxf(most[i / 2][i % 2], other[i / 2][i % 2]);
        }
#pragma unroll
        for (int h = 0; h < NH; h++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const float zero = most[h][e] == -INFINITY ? 0.0f : most[h][e];
                keep[h][e] = lm_exp2(top[h][e] - zero);
                top[h][e] = most[h][e]; sum[h][e] = __fmul_rn(sum[h][e], keep[h][e]);
#pragma unroll
                for (int j = 0; j < NT; j++)
#pragma unroll
                    for (int r = 0; r < 2; r++) { float &z = c[j][h][2 * r + e]; z = lm_exp2(z - zero); sum[h][e] += z; }
            }
#pragma unroll
        for (int d = 0; d < KS; d++)
#pragma unroll
            for (int h = 0; h < NH; h++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[d][h][e] *= keep[h][e & 1];
#pragma unroll
        for (int j = 0; j < NT; j++) {
            uint32_t big[NH][2], small[NH][2];
#pragma unroll
            for (int h = 0; h < NH; h++)
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    const float x = c[j][h][2 * r], y = c[j][h][2 * r + 1];
                    const uint32_t b = lm_pack2(x, y);
                    big[h][r] = lm_turned(b);
                    small[h][r] = lm_turned(lm_pack2(x - __uint_as_float(b << 16), y - __uint_as_float(b & 0xffff0000u)));
                }
#pragma unroll
            for (int d = 0; d < KS; d++) {
                uint32_t f[4];
                lm_unit_ldsm(f, values + d / 4 * (TU * 128) + j * 2048 + (at_v ^ d % 4 * 32));
#pragma unroll
                for (int h = 0; h < NH; h++) { lm_mma(o[d][h], f, big[h][0], big[h][1]); lm_mma(o[d][h], f, small[h][0], small[h][1]); }
            }
        }
    }
    /* sums of all lanes' tokens */
    __device__ __forceinline__ void whole() {
#pragma unroll
        for (int b = 4; b < 32; b *= 2) {
            float other[NH][2];
#pragma unroll
            for (int i = 0; i < 2 * NH; i++) other[i / 2][i % 2] = __shfl_xor_sync(0xffffffffu, sum[i / 2][i % 2], b);
#pragma unroll
            for (int i = 0; i < 2 * NH; i++) sum[i / 2][i % 2] += other[i / 2][i % 2];
        }
    }
};
/* Parts of a row one after another: what there is is multiplied by `keep`, what comes by `f`. */
struct lm_unit_join {
    float top, keep, f;
    __device__ __forceinline__ lm_unit_join() : top(-INFINITY) {}
    __device__ __forceinline__ void next(float t) {
        const float most = fmaxf(top, t), zero = most == -INFINITY ? 0.0f : most;
        keep = lm_exp2(top - zero); f = lm_exp2(t - zero); top = most;
    }
    __device__ __forceinline__ float add(float y, float x) const { return fmaf(x, f, __fmul_rn(y, keep)); }
};
/* what a row's sums are multiplied by in the end; z: the sum of its weights */
__device__ __forceinline__ float lm_unit_end(float z) { return z > 0 ? 1.0f / z : 0.0f; }
#endif
#endif
