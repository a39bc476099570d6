/* hopper_256.cuh — the gradient of attention for heads of 256 on compute capability 9.0, bf16: bwd.cuh's plan where dk and dv of 64 keys are already
 * 128 registers a thread each.
 *
 * So the two warpgroups have one of them each, and each makes what its own is made of; they hand each other 64×64 numbers twice a step:
 *
 *   weights (the first)                        slopes (the second)                      products    shared memory, cycles
 *   Sᵀ = K Qᵀ of this block is there           dPᵀ = V dOᵀ                                   512     512
 *   Pᵀ = exp2(Sᵀ - lse), in registers    P →   (by thread: it has no layout)                         128
 *   dv += Pᵀ dO                         ← dS   dSᵀ = Pᵀ (dPᵀ - D), in registers              512     256 + 64
 *   dQ = dS K, columns 0 … 63                  columns 128 … 191                         2 · 128 2 · 128
 *   Sᵀ of the next block                       dk += dSᵀ Q                               2 · 512     512 + 256
 *   dQ, columns 64 … 127                       columns 192 … 255                         2 · 128 2 · 128
 *
 * A step of 64×64 is 2560 cycles of products; shared memory is busy for these 2240, 1024 with dQ on its way to memory and 512 with Q and dO.
 * (H200, B4 H16 T4096: a step takes 3.8 µs; without dQ's way to memory, 64 KB a step, 3.0.)
 * S runs a block ahead, so that P is there when dP is. What P and dS are overwritten after needs no barrier of its own: the next P is written by who has
 * waited for dS, the next dS by who has waited for that P.
 *
 * Shared memory, KB: K 32, V 32, Q 2 · 32, dO 32, dS 8, P 8, dQ 2 · 16: 208. dQ has two chains of turns, a half of the columns each: a warpgroup's
 * two pieces go one after the other through its 16 KB, a thread of the first warpgroup adds them.
 * Registers of a thread: 128 of dv or dk, 32 of S or dP, 16 of P or dS, 32 of dQ. */
#ifndef LM_ATTN_GRAD_HOPPER_256_CUH
#define LM_ATTN_GRAD_HOPPER_256_CUH
#include "op/attn_grad/bwd.cuh"

namespace {
struct shape_256 {
    enum {
        BM = bm_of(256), BN = bn_of(256), CH = 4, KV = CH * BN * 128, Q = CH * BM * 128, DS = BM * BN * 2, PIECE = BM * 64 * 4,
        AT_V = KV, AT_Q = AT_V + KV, AT_G = AT_Q + 2 * Q, AT_DS = AT_G + Q, AT_P = AT_DS + DS, AT_DQ = AT_P + DS, AT_LSE = AT_DQ + 2 * PIECE,
        AT_DELTA = AT_LSE + 2 * BM * 4, AT_INFO = AT_DELTA + BM * 4, AT_BAR = AT_INFO + 3 * 16, BYTES = AT_BAR + 8 * 18
    };
    static_assert(BYTES <= 227 * 1024, "shared memory of a block");
};
#ifdef LM_HOPPER_CODE
/* Where things lie and the barriers; those of a pair lie side by side. */
struct place_256 {
    using S = shape_256;
    uint32_t k, v, q, g, ds, p, dq, lse, delta, item, info;
    uint32_t k_full, k_empty, v_full, v_empty, q_full, q_empty, g_full, g_empty, p_full, ds_full, dq_full, dq_empty, dq_was;
    __device__ __forceinline__ explicit place_256(uint32_t at)
        : k(at), v(at + S::AT_V), q(at + S::AT_Q), g(at + S::AT_G), ds(at + S::AT_DS), p(at + S::AT_P), dq(at + S::AT_DQ), lse(at + S::AT_LSE),
          delta(at + S::AT_DELTA), item(at + S::AT_INFO), info(item + 16), k_full(at + S::AT_BAR), k_empty(k_full + 8), v_full(k_full + 16),
          v_empty(k_full + 24), q_full(k_full + 32), q_empty(k_full + 48), g_full(k_full + 64), g_empty(k_full + 72), p_full(k_full + 80),
          ds_full(k_full + 88), dq_full(k_full + 96), dq_empty(k_full + 112), dq_was(k_full + 128) {}
    __device__ __forceinline__ void init() const {
        lm_mbar_init(k_full, 1); lm_mbar_init(k_empty, 10); lm_mbar_init(v_full, 1); lm_mbar_init(v_empty, 4); lm_mbar_init(g_full, 1);
        lm_mbar_init(g_empty, 8); lm_mbar_init(p_full, 4); lm_mbar_init(ds_full, 4);
        for (int i = 0; i < 16; i += 8) {
            lm_mbar_init(q_full + i, 1); lm_mbar_init(q_empty + i, 8); lm_mbar_init(dq_full + i, 4); lm_mbar_init(dq_empty + i, 1); lm_mbar_init(dq_was + i, 1);
        }
        lm_mbar_inited();
    }
};
/* 256 columns of R rows as four tiles of 64 */
template <int R> __device__ __forceinline__ void bring_256(uint32_t to, const CUtensorMap *m, int head, int row, uint32_t bar) {
    for (int c = 0; c < 4; c++) lm_tma_get(to + c * R * 128, m, head * 256 + 64 * c, row, bar);
}
/* One thread tells the copy engine what to bring. */
__device__ __forceinline__ void producer_256(const place_256 &at, const CUtensorMap *mq, const CUtensorMap *mk, const CUtensorMap *mv, const CUtensorMap *mg,
                                             const args &a) {
    using S = shape_256;
    const bool up = upwards<256>(a);
    const int wide = heads_near<256>(a, up);
    int use = 0;
    for (int it = 0;; it++) {
        const item x = item_of<256>(a, up, atomicAdd(a.counter, 1), wide);
        if (x.j < 0) {
            lm_mbar_wait(at.k_empty, (it & 1) ^ 1);
            lm_stsi4(at.item, -1, 0, 0, 0);
            lm_mbar_arrive(at.k_full);
            return;
        }
        for (walk w(up, x.m0, x.m1); w.more(a); w.next(a)) {
            const int m = w.m;
            if (a.least[m] >= (x.j + 1) * S::BN) continue;
            const int st = use & 1, h = x.hk * a.group + w.g;
            const int64_t row = static_cast<int64_t>(h) * a.pad + static_cast<int64_t>(m) * S::BM;
            lm_mbar_wait(at.q_empty + 8 * st, (use >> 1 & 1) ^ 1);
            lm_stsi4(at.info + 16 * st, m, a.most[m] > x.j * S::BN, w.last(a), w.g * 4 + (turn_of<256>(a, up, m, x.j) != 0) * 2 + ends<256>(a, up, m, x.j));
            lm_mbar_expect(at.q_full + 8 * st, S::Q + S::BM * 4);
            bring_256<S::BM>(at.q + st * S::Q, mq, h, m * S::BM, at.q_full + 8 * st);
            lm_bulk_get(at.lse + st * S::BM * 4, a.lse2 + row, S::BM * 4, at.q_full + 8 * st);
            if (w.first) {                                                 /* V is free before dO is, K last */
                lm_mbar_wait(at.v_empty, (it & 1) ^ 1);
                lm_mbar_expect(at.v_full, S::KV);
                bring_256<S::BN>(at.v, mv, x.hk, x.j * S::BN, at.v_full);
            }
            lm_mbar_wait(at.g_empty, (use & 1) ^ 1);
            lm_mbar_expect(at.g_full, S::Q + S::BM * 4);
            bring_256<S::BM>(at.g, mg, h, m * S::BM, at.g_full);
            lm_bulk_get(at.delta, a.delta + row, S::BM * 4, at.g_full);
            if (w.first) {
                lm_mbar_wait(at.k_empty, (it & 1) ^ 1);
                lm_stsi4(at.item, x.j, x.hk, x.m0, x.m1);
                lm_mbar_expect(at.k_full, S::KV);
                bring_256<S::BN>(at.k, mk, x.hk, x.j * S::BN, at.k_full);
            }
            use++;
        }
    }
}
/* One thread for each warpgroup w adds its half of dQ in its turn. */
__device__ __forceinline__ void adder_256(const place_256 &at, int w, const args &a) {
    using S = shape_256;
    const uint32_t from = at.dq + w * S::PIECE, full = at.dq_full + 8 * w, empty = at.dq_empty + 8 * w, was = at.dq_was + 8 * w;
    const bool up = upwards<256>(a);
    for (int it = 0;; it++) {
        lm_mbar_wait(at.k_full, it & 1);
        const int4 x = lm_ldsi4(at.item);
        lm_mbar_arrive(at.k_empty);
        if (x.x < 0) return;
        for (walk wk(up, x.z, x.w); wk.more(a); wk.next(a)) {
            const int m = wk.m;
            if (a.least[m] >= (x.x + 1) * S::BN) continue;
            const int block = ((x.y * a.group + wk.g) * a.m_blocks + m) * 2 + w, mine = turn_of<256>(a, up, m, x.x);
            const bool end = ends<256>(a, up, m, x.x);                          /* the warpgroup finishes dq: it gets what is there */
            float *to = a.sums + static_cast<int64_t>(block) * (S::BM * 128);
            if (mine) { while (lm_turn_now(a.turn + block) != mine) {} asm volatile("fence.proxy.async.global;" ::: "memory"); }
            for (int piece = 0; piece < 2; piece++, to += S::PIECE / 4) {
                if (mine && end) { lm_mbar_expect(was, S::PIECE); lm_bulk_get(from, to, S::PIECE, was); }
                lm_mbar_wait(full, piece);
                if (!end) {
                    if (mine) lm_bulk_add(to, from, S::PIECE); else lm_bulk_put(to, from, S::PIECE);
                    lm_bulk_commit();
                    lm_bulk_wait_read();
                }
                lm_mbar_arrive(empty);
            }
            if (end) continue;
            lm_bulk_wait();
            lm_turn_set(a.turn + block, mine + 1);
        }
    }
}
/* What both warpgroups do with dQ. */
struct quarter_256 {
    using S = shape_256;
    const args &a; const place_256 &at; const int w; const uint64_t d_ds, d_kc; float c[32];
    __device__ __forceinline__ quarter_256(const args &args_, const place_256 &place, int wg)
        : a(args_), at(place), w(wg), d_ds(lm_desc_cols(at.ds, S::BN * 128)), d_kc(lm_desc_cols(at.k + w * 2 * S::BN * 128, S::BN * 128)) {}
    /* 64 columns of it, issued */
    __device__ __forceinline__ void multiply(int piece) {
        lm_wgmma_fence();
        lm_wgmma<64>::first<1, 1>(c, d_ds, d_kc + piece * (S::BN * 128 / 16));
#pragma unroll
        for (int k = 1; k < S::BN / 16; k++) lm_wgmma<64>::ss<1, 1>(c, d_ds + k * 2048 / 16, d_kc + (piece * S::BN * 128 + k * 2048) / 16);
        lm_wgmma_commit();
    }
    /* they are there: to whoever adds them, or, the last ones of their queries, to dq */
    __device__ __forceinline__ void hand(int piece, const int4 &info, int hk) {
        const int t = threadIdx.x % 128, lane = threadIdx.x % 32;
        const uint32_t mine = at.dq + w * S::PIECE + t * 16;
        lm_wgmma_pin<32>(c);
        lm_mbar_wait(at.dq_empty + 8 * w, piece ^ 1);
        if (info.w & 1) {
            if (info.w & 2) {
                lm_mbar_wait(at.dq_was + 8 * w, piece);
#pragma unroll
                for (int i = 0; i < 8; i++) lm_lds4_add(c + 4 * i, mine + i * 2048);
            }
            leave(at.dq_full + 8 * w);
            const int row = info.x * S::BM + t / 32 * 16 + lane / 4;
            const int64_t h = static_cast<int64_t>(hk) * a.group + (info.w >> 2);
#pragma unroll
            for (int e = 0; e < 2; e++) lm_store_row<64>(a.dq, row + 8 * e, row + 8 * e < a.n, h * 256 + (w * 2 + piece) * 64, c + 2 * e, a.scale);
        } else {
#pragma unroll
            for (int i = 0; i < 8; i++) lm_sts4(mine + i * 2048, c + 4 * i);
            lm_fence_async();
            leave(at.dq_full + 8 * w);
        }
    }
};
/* 64 keys × 64 queries, both operands' rows of 256, issued */
__device__ __forceinline__ void rows_256(float *c, uint64_t x, uint64_t y) {
    lm_wgmma_fence();
    lm_wgmma<64>::first<0, 0>(c, x, y);
#pragma unroll
    for (int k = 1; k < 16; k++) lm_wgmma<64>::ss<0, 0>(c, x + (k / 4 * 64 * 128 + k % 4 * 32) / 16, y + (k / 4 * 64 * 128 + k % 4 * 32) / 16);
    lm_wgmma_commit();
}
/* c += x times 64 rows of 256, issued */
__device__ __forceinline__ void weighted_256(float *c, const uint32_t (*x)[4], uint64_t y, bool more) {
    lm_wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++) lm_wgmma<256>::rs<1>(c, x[k], y + k * 2048 / 16, k > 0 || more);
    lm_wgmma_commit();
}
/* dk or dv of the thread's rows to memory */
__device__ __forceinline__ void keys_256(const args &a, const lm_cv &to, int j, int hk, float *c, float times) {
    const int r = j * shape_256::BN + static_cast<int>(threadIdx.x) % 128 / 32 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
    lm_wgmma_pin<128>(c);
#pragma unroll
    for (int e = 0; e < 2; e++) lm_store_row<256>(to, r + 8 * e, r + 8 * e < a.n, static_cast<int64_t>(hk) * 256, c + 2 * e, times);
}
__device__ __forceinline__ void weights_256(const args &a, const place_256 &at) {
    using S = shape_256;
    const int t = threadIdx.x % 128, key_in = t / 32 * 16 + t % 32 / 4;
    const float s2 = a.scale * LM_LOG2E;
    const uint64_t d_k = lm_desc_rows(at.k), d_q = lm_desc_rows(at.q), d_gc = lm_desc_cols(at.g, S::BM * 128);
    quarter_256 dq(a, at, 0);
    float s[32], dv[128];
    uint32_t p[4][4];
    int use = 0;
    for (int it = 0;; it++) {
        lm_mbar_wait(at.k_full, it & 1);
        const int j = lm_ldsi(at.item), hk = lm_ldsi(at.item + 4);
        if (j < 0) return;
        lm_mbar_wait(at.q_full + 8 * (use & 1), use >> 1 & 1);
        rows_256(s, d_k, d_q + (use & 1) * (S::Q / 16));
        lm_wgmma_wait<0>();
        lm_wgmma_pin<32>(s);
        for (bool first = true, last = false; !last; use++, first = false) {
            const int st = use & 1;
            const int4 info = lm_ldsi4(at.info + 16 * st);
            last = info.z;
            weights<64>(a, s, p, at.lse + st * S::BM * 4, j * S::BN + key_in, j * S::BN + 63, info.x * S::BM, info.y, s2);
#pragma unroll
            for (int k = 0; k < 4; k++)
                asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(at.p + k * 2048 + t * 16), "r"(p[k][0]), "r"(p[k][1]), "r"(p[k][2]), "r"(p[k][3]) : "memory");
            leave(at.p_full);
            lm_mbar_wait(at.g_full, use & 1);
            weighted_256(dv, p, d_gc, !first);
            lm_mbar_wait(at.ds_full, use & 1);
            dq.multiply(0);
            if (!last) lm_mbar_wait(at.q_full + 8 * (st ^ 1), (use + 1) >> 1 & 1);
            rows_256(s, d_k, d_q + (st ^ 1) * (S::Q / 16));                /* of the next block; of nothing behind the last */
            lm_wgmma_wait<2>();
            leave(at.g_empty);
            lm_wgmma_wait<1>();
            dq.hand(0, info, hk);
            dq.multiply(1);
            lm_wgmma_wait<0>();
            lm_wgmma_pin<32>(s);
            dq.hand(1, info, hk);
            leave(at.q_empty + 8 * st);
        }
        leave(at.k_empty);
        keys_256(a, a.dv, j, hk, dv, 1.0f);
    }
}
__device__ __forceinline__ void slopes_256(const args &a, const place_256 &at) {
    using S = shape_256;
    const int t = threadIdx.x % 128, lane = t % 32;
    const uint64_t d_v = lm_desc_rows(at.v), d_g = lm_desc_rows(at.g), d_qc = lm_desc_cols(at.q, S::BM * 128);
    const uint32_t ds_row = at.ds + (t / 32 * 16 + (lane / 8 & 1) * 8 + lane % 8) * 128;
    quarter_256 dq(a, at, 1);
    float dp[32], dk[128];
    uint32_t p[4][4], ds[4][4];
    int use = 0;
    for (int it = 0;; it++) {
        lm_mbar_wait(at.k_full, it & 1);
        const int j = lm_ldsi(at.item), hk = lm_ldsi(at.item + 4);
        if (j < 0) return;
        lm_mbar_wait(at.v_full, it & 1);
        for (bool first = true, last = false; !last; use++, first = false) {
            const int st = use & 1;
            lm_mbar_wait(at.q_full + 8 * st, use >> 1 & 1);
            const int4 info = lm_ldsi4(at.info + 16 * st);
            last = info.z;
            lm_mbar_wait(at.g_full, use & 1);
            rows_256(dp, d_v, d_g);
            lm_mbar_wait(at.p_full, use & 1);
#pragma unroll
            for (int k = 0; k < 4; k++)
                asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];" : "=r"(p[k][0]), "=r"(p[k][1]), "=r"(p[k][2]), "=r"(p[k][3]) : "r"(at.p + k * 2048 + t * 16) : "memory");
            lm_wgmma_wait<0>();
            lm_wgmma_pin<32>(dp);
            if (last) leave(at.v_empty);
            slopes<64>(dp, p, ds, at.delta);
            leave(at.g_empty);
#pragma unroll
            for (int k = 0; k < 4; k++) lm_stsm(ds_row + ((k * 2 + lane / 16) ^ (lane % 8)) * 16, ds[k]);
            lm_fence_async();
            leave(at.ds_full);
            lm_mbar_wait(at.ds_full, use & 1);
            dq.multiply(0);
            weighted_256(dk, ds, d_qc + st * (S::Q / 16), !first);
            lm_wgmma_wait<1>();
            dq.hand(0, info, hk);
            dq.multiply(1);
            lm_wgmma_wait<0>();
            dq.hand(1, info, hk);
            leave(at.q_empty + 8 * st);
        }
        leave(at.k_empty);
        keys_256(a, a.dk, j, hk, dk, a.scale);
    }
}
#endif
/* D is 256: a template, so that only who launches it compiles it. */
template <int D>
__global__ void __launch_bounds__(384, 1) hopper_bwd_256(const __grid_constant__ CUtensorMap mq, const __grid_constant__ CUtensorMap mk,
                                                         const __grid_constant__ CUtensorMap mv, const __grid_constant__ CUtensorMap mg, const args a) {
#ifdef LM_HOPPER_CODE
    static_assert(D == 256, "heads of 256");
    extern __shared__ __align__(1024) char mem[];
    const place_256 at(lm_smem(mem));
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), warp = threadIdx.x / 32;
    if (threadIdx.x == 0) at.init();
    __syncthreads();
    if (wg == 0) {
        lm_regs_less<24>();
        if (threadIdx.x % 32) return;
        if (warp == 0) producer_256(at, &mq, &mk, &mv, &mg, a);
        else if (warp < 3) adder_256(at, warp - 1, a);
    } else {
        lm_regs_more<240>();
        if (wg == 1) weights_256(a, at); else slopes_256(a, at);
    }
#endif
}
}
#endif
