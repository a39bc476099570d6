/* block.cuh — what the Hopper forwards over rows (attn) and over pages (attn_paged) have in common: the shared memory of a CTA, its barriers, and the
 * consumers. For *_hopper_cuda.cu files.
 *
 * Two warpgroups have 64 queries of a tile each: S = Q Kᵀ for the next block is issued, then O += P V for the last one; P never leaves registers. The
 * two take turns in issuing, so that one's softmax runs beside the other's products. (Within a warpgroup the compiler puts the softmax behind
 * the wait for P V; forced before it, it was no faster: docs/benchmarks/cuda.md.) What differs between the two forwards is a class:
 *   bool tile()        Q of a tile is there: whose is it, and how many blocks of keys follow (`blocks`); false: there are no more
 *   void block(st)     the keys in stage st are there: which are they
 *   void mask(s)       scores of keys that a row does not see become -inf
 *   void clear(st)     before the values in stage st, those of the block masked last, are multiplied
 *   void store(o, top, sum)
 * The producer fills q, then k and v of each block in order, ST stages; every consumer warp arrives at `empty`. */
#ifndef LM_ATTN_BLOCK_CUH
#define LM_ATTN_BLOCK_CUH
#include "op/attn/attn.cuh"
enum { LM_FWD_BM = 128, LM_FWD_ST = 2 };
/* INFO: words of four that the producer leaves beside the tiles */
template <int D, int BN, int INFO> struct lm_fwd_shape {
    enum {
        CH = (D + 63) / 64, Q_BYTES = CH * LM_FWD_BM * 128, KV_BYTES = CH * BN * 128, AT_K = Q_BYTES, AT_V = AT_K + LM_FWD_ST * KV_BYTES,
        AT_INFO = AT_V + LM_FWD_ST * KV_BYTES, AT_BAR = AT_INFO + 16 * INFO, BYTES = AT_BAR + 8 * (2 + 4 * LM_FWD_ST)
    };
    static_assert(BYTES <= 227 * 1024, "shared memory of a block");
};
#ifdef LM_HOPPER_CODE
/* Softmax of one block in place: s becomes exp2(scale2·(s - most)); keep: by what older sums shrink. */
template <int BN> __device__ __forceinline__ void lm_block_softmax(float *s, float *top, float *sum, float *keep, float s2) {
#pragma unroll
    for (int e = 0; e < 2; e++) {
        float most = top[e];
#pragma unroll
        for (int x = 0; x < BN / 8; x++) most = fmaxf(most, fmaxf(s[4 * x + 2 * e], s[4 * x + 2 * e + 1]));
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1)); most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
        const float base = most == -INFINITY ? 0.0f : most * s2;
        keep[e] = lm_exp2(fmaf(top[e], s2, -base));
        top[e] = most;
        float add = 0;
#pragma unroll
        for (int x = 0; x < BN / 8; x++)
#pragma unroll
            for (int c = 0; c < 2; c++) { float &v = s[4 * x + 2 * e + c]; v = lm_exp2(fmaf(v, s2, -base)); add += v; }
        sum[e] = fmaf(sum[e], keep[e], add);
    }
}
template <int BN> __device__ __forceinline__ void lm_block_pack(uint32_t (*p)[4], const float *s) {
#pragma unroll
    for (int k = 0; k < BN / 16; k++) lm_frag_of(p[k], s + 8 * k, s + 8 * k + 4);
}
struct lm_fwd_bars {
    uint32_t q_full, q_empty, k_full, k_empty, v_full, v_empty;            /* those of k and v: of stage 0, eight bytes further the next */
    __device__ __forceinline__ explicit lm_fwd_bars(uint32_t at)
        : q_full(at), q_empty(at + 8), k_full(at + 16), k_empty(k_full + 8 * LM_FWD_ST), v_full(k_empty + 8 * LM_FWD_ST), v_empty(v_full + 8 * LM_FWD_ST) {}
    __device__ __forceinline__ void init() const {
        lm_mbar_init(q_full, 1); lm_mbar_init(q_empty, 8);
        for (int i = 0; i < LM_FWD_ST; i++) {
            lm_mbar_init(k_full + 8 * i, 1); lm_mbar_init(k_empty + 8 * i, 8); lm_mbar_init(v_full + 8 * i, 1); lm_mbar_init(v_empty + 8 * i, 8);
        }
        lm_mbar_inited();
    }
};
/* One of the two warpgroups, w; base: the CTA's shared memory. TOKENS: keys lie sixteen tokens side by side (lm_desc_cols16), else as rows. */
template <int D, int BN, class S, bool TOKENS, class X>
__device__ __forceinline__ void lm_fwd_consume(uint32_t base, const lm_fwd_bars &bar, int w, float scale, X &x) {
    constexpr int BM = LM_FWD_BM, ST = LM_FWD_ST, KS = D / 16;
    const int lane = threadIdx.x % 32;
    const float s2 = scale * LM_LOG2E;
    const uint32_t at_k = base + S::AT_K, at_v = base + S::AT_V;
    const uint64_t dq = lm_desc_rows(base + w * 64 * 128), dk = TOKENS ? lm_desc_cols16(at_k, D * 32) : lm_desc_rows(at_k), dv = lm_desc_cols(at_v, BN * 128);
    float o[D / 2], s[BN / 2], top[2], sum[2], keep[2];
    uint32_t p[BN / 16][4];
    int use = 0;
    if (w == 1) lm_bar_arrive(1, 256);                                     /* the first warpgroup may begin */
    const auto turn = [&] { lm_bar_sync(1 + w, 256); };
    const auto pass = [&] { lm_bar_arrive(2 - w, 256); };
    const auto scores = [&](int st) {
        lm_wgmma_fence();
        lm_wgmma<BN>::template first<0, TOKENS>(s, dq, dk + st * S::KV_BYTES / 16);
#pragma unroll
        for (int k = 1; k < KS; k++)
            lm_wgmma<BN>::template ss<0, TOKENS>(s, dq + (k / 4 * BM * 128 + k % 4 * 32) / 16,
                                                 dk + (st * S::KV_BYTES + (TOKENS ? k * 512 : k / 4 * BN * 128 + k % 4 * 32)) / 16);
        lm_wgmma_commit();
    };
    const auto values = [&](int st) {
        lm_wgmma_fence();
#pragma unroll
        for (int k = 0; k < BN / 16; k++) lm_wgmma<D>::template rs<1>(o, p[k], dv + (st * S::KV_BYTES + k * 2048) / 16, 1);
        lm_wgmma_commit();
    };
    const auto leave = [&](uint32_t b) { __syncwarp(); if (lane == 0) lm_mbar_arrive(b); };
    for (int it = 0;; it++) {
        lm_mbar_wait(bar.q_full, it & 1);
        if (!x.tile()) break;
#pragma unroll
        for (int i = 0; i < D / 2; i++) o[i] = 0;
        top[0] = top[1] = -INFINITY; sum[0] = sum[1] = 0;
        if (!x.blocks) leave(bar.q_empty);
        else {
            turn();
            lm_mbar_wait(bar.k_full + 8 * (use % ST), use / ST & 1);
            x.block(use % ST);
            scores(use % ST);
            pass();
            lm_wgmma_wait<0>();
            lm_wgmma_pin<BN / 2>(s);
            leave(bar.k_empty + 8 * (use % ST));
            if (x.blocks == 1) leave(bar.q_empty);
            x.mask(s);
            lm_block_softmax<BN>(s, top, sum, keep, s2);
            lm_block_pack<BN>(p, s);
            for (int j = 1; j < x.blocks; j++) {
                const int st = use % ST, par = use / ST & 1, nx = (use + 1) % ST, nx_par = (use + 1) / ST & 1;
                use++;
                turn();
                lm_mbar_wait(bar.k_full + 8 * nx, nx_par);
                x.block(nx);
                scores(nx);
                lm_mbar_wait(bar.v_full + 8 * st, par);
                x.clear(st);
                values(st);
                pass();
                lm_wgmma_wait<1>();
                lm_wgmma_pin<BN / 2>(s);
                leave(bar.k_empty + 8 * nx);
                if (j + 1 == x.blocks) leave(bar.q_empty);
                x.mask(s);
                lm_block_softmax<BN>(s, top, sum, keep, s2);
                lm_wgmma_wait<0>();
                lm_wgmma_pin<D / 2>(o);
                leave(bar.v_empty + 8 * st);
#pragma unroll
                for (int i = 0; i < D / 2; i++) o[i] *= keep[i / 2 % 2];
                lm_block_pack<BN>(p, s);
            }
            lm_mbar_wait(bar.v_full + 8 * (use % ST), use / ST & 1);
            x.clear(use % ST);
            values(use % ST);
#pragma unroll
            for (int e = 0; e < 2; e++) { sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 1); sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 2); }
            lm_wgmma_wait<0>();
            lm_wgmma_pin<D / 2>(o);
            leave(bar.v_empty + 8 * (use % ST));
            use++;
        }
        x.store(o, top, sum);
    }
}
#endif
#endif
