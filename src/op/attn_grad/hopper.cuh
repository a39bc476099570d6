/* hopper.cuh — the gradient of attention for heads of 64, 96 and 128 on compute capability 9.0 in one pass of five products (Dao 2023; Shah et al.
 * 2024), bf16. Scratch, order of items and of dq's sums: bwd.cuh.
 *
 * An item is 128 keys. Two warpgroups have 64 keys each and walk over the blocks of BM queries:
 *   Sᵀ = K Qᵀ, dPᵀ = V dOᵀ;  Pᵀ and dSᵀ stay in registers as left operands of dv += Pᵀ dO, dk += dSᵀ Q;
 *   dSᵀ also goes to shared memory, where both halves meet for dQ = dS K.
 * Sᵀ of the next block (of the next item at the end of one) is issued while dk is multiplied: nothing drains between items.
 *
 * Heads of 96 lie in two tiles of 64 columns; the second's other half are the next head's, which no product reads. Of dQ the first warpgroup makes 64 columns
 * and the second 32 (a right operand begins where a tile does). A step of 64×128: products 1920 cycles, operands in shared memory 1600, dS, dQ, Q and dO
 * 768 more; 216 KB; 48 + 48 registers of dk and dv, 32 + 32 of S and dP, 32 of dQ. (Heads of 128: 2560, 2048, 896; 224 KB; 64 + 64, 32 + 32, 32.)
 *
 * SUMS (attn_back, D 64): the sums of the columns of dq, dk and dv, where a block of them is finished, in f32 before it is rounded. Each warp adds
 * its 16 rows, the last of eight to come adds up the eight in their order, a row of `part` for 128 tokens; whoever launched this adds up those. */
#ifndef LM_ATTN_GRAD_HOPPER_CUH
#define LM_ATTN_GRAD_HOPPER_CUH
#include "op/attn_grad/hopper_256.cuh"

namespace {
template <int D> struct shape {
    enum {
        BM = bm_of(D), BN = bn_of(D), CH = (D + 63) / 64, KV = CH * BN * 128, Q = CH * BM * 128, DS = BM * BN * 2, DQ = BM * D * 4,
        AT_V = 2 * KV, AT_Q = AT_V + KV, AT_G = AT_Q + 2 * Q, AT_DS = AT_G + 2 * Q, AT_DQ = AT_DS + 2 * DS, AT_LSE = AT_DQ + DQ,
        AT_DELTA = AT_LSE + 2 * BM * 4, AT_INFO = AT_DELTA + 2 * BM * 4, AT_BAR = AT_INFO + 4 * 16, AT_SUMS = AT_BAR + 8 * 18,
        BYTES = AT_SUMS + (D == 64 ? 8 * 3 * D * 4 : 0)
    };
    static_assert(BYTES <= 227 * 1024, "shared memory of a block");
};

/* ---- sums of the columns of a thread's part of an accumulator ---- */
#ifdef LM_HOPPER_CODE
/* Half of the 2k sums stay, the others go to the lane 2k away that keeps those. */
template <int k> __device__ __forceinline__ void halve(float *s) {
    const bool high = threadIdx.x & 2 * k;
#pragma unroll
    for (int i = 0; i < k; i++) {
        const float mine = high ? s[i + k] : s[i], other = high ? s[i] : s[i + k];
        s[i] = mine + __shfl_xor_sync(0xffffffffu, other, 2 * k);
    }
}
/* The sums of 64 columns over a warp's 16 rows: lane l gets columns 2l and 2l + 1. */
__device__ __forceinline__ float2 columns(const float *y) {
    float s[16];
#pragma unroll
    for (int i = 0; i < 16; i++) s[i] = y[i / 2 * 4 + i % 2] + y[i / 2 * 4 + i % 2 + 2];
    halve<8>(s); halve<4>(s); halve<2>(s);
    return make_float2(s[0], s[1]);
}
/* K such sums of each of the eight warps, added by the last of them to come here. Between two meetings in one place lies a barrier of all. */
template <int K>
__device__ __forceinline__ void meet(uint32_t at, uint32_t at_count, int warp, const float2 *v, float *const *to, const float *times) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < K; k++)
        asm volatile("st.shared.v2.f32 [%0], {%1,%2};" ::"r"(at + ((warp * K + k) * 64 + lane * 2) * 4), "f"(v[k].x), "f"(v[k].y) : "memory");
    __syncwarp();
    uint32_t before = 0;
    if (lane == 0) asm volatile("atom.acq_rel.cta.shared::cta.add.u32 %0, [%1], 1;" : "=r"(before) : "r"(at_count) : "memory");
    if (__shfl_sync(0xffffffffu, before, 0) % 8 != 7) return;
#pragma unroll
    for (int k = 0; k < K; k++) {
        float2 s = make_float2(0, 0);
#pragma unroll
        for (int q = 0; q < 8; q++) { const float2 x = lm_lds2(at + ((q * K + k) * 64 + lane * 2) * 4); s.x += x.x; s.y += x.y; }
        *reinterpret_cast<float2 *>(to[k] + 2 * lane) = make_float2(s.x * times[k], s.y * times[k]);
    }
}
#endif
template <int D, bool SUMS>
__global__ void __launch_bounds__(384, 1) hopper_bwd(const __grid_constant__ CUtensorMap mq, const __grid_constant__ CUtensorMap mk,
                                                     const __grid_constant__ CUtensorMap mv, const __grid_constant__ CUtensorMap mg, const args a) {
#ifdef LM_HOPPER_CODE
    static_assert(!SUMS || D == 64, "a warp's sums are of 64 columns");
    using S = shape<D>;
    constexpr int BM = S::BM, BN = S::BN;
    extern __shared__ __align__(1024) char mem[];
    const uint32_t base = lm_smem(mem), at_v = base + S::AT_V, at_q = base + S::AT_Q, at_g = base + S::AT_G, at_ds = base + S::AT_DS,
                   at_dq = base + S::AT_DQ, at_kinfo = base + S::AT_INFO, at_info = at_kinfo + 32;
    const uint32_t k_full = base + S::AT_BAR, k_empty = k_full + 16, q_full = k_empty + 16, q_empty = q_full + 16, g_full = q_empty + 16,
                   g_empty = g_full + 16, v_full = g_empty + 16, v_empty = v_full + 8, dq_full = v_empty + 8, dq_empty = dq_full + 8,
                   dq_was = dq_empty + 8, counts = dq_was + 8, at_sums = base + S::AT_SUMS;
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            lm_mbar_init(k_full + 8 * i, 1); lm_mbar_init(k_empty + 8 * i, 9); lm_mbar_init(q_full + 8 * i, 1);
            lm_mbar_init(q_empty + 8 * i, 8); lm_mbar_init(g_full + 8 * i, 1); lm_mbar_init(g_empty + 8 * i, 8);
        }
        lm_mbar_init(v_full, 1); lm_mbar_init(v_empty, 8); lm_mbar_init(dq_full, 8); lm_mbar_init(dq_empty, 1); lm_mbar_init(dq_was, 1);
        lm_mbar_inited();
        if (SUMS) asm volatile("st.shared.v2.s32 [%0], {%1,%1};" ::"r"(counts), "r"(0) : "memory");
    }
    __syncthreads();
    if (wg == 0) {
        lm_regs_less<D == 128 ? 24 : 40>();
        if (warp == 0 && lane == 0) {                                      /* ---- brings tiles ---- */
            lm_tma_prefetch_map(&mq); lm_tma_prefetch_map(&mk); lm_tma_prefetch_map(&mv); lm_tma_prefetch_map(&mg);
            const bool up = upwards<D>(a);
            const int wide = heads_near<D>(a, up);
            int use = 0;
            for (int it = 0;; it++) {
                const int slot = it & 1;
                const item x = item_of<D>(a, up, atomicAdd(a.counter, 1), wide);
                const int j = x.j, hk = x.hk;
                lm_mbar_wait(k_empty + 8 * slot, (it >> 1 & 1) ^ 1);
                lm_stsi4(at_kinfo + 16 * slot, j, hk, x.m0, x.m1);
                if (j < 0) { lm_mbar_arrive(k_full + 8 * slot); break; }
                lm_mbar_expect(k_full + 8 * slot, S::KV);
                for (int c = 0; c < S::CH; c++) lm_tma_get(base + slot * S::KV + c * BN * 128, &mk, hk * D + 64 * c, j * BN, k_full + 8 * slot);
                for (walk w(up, x.m0, x.m1); w.more(a); w.next(a)) {
                    const int m = w.m, g = w.g;
                    if (a.least[m] >= (j + 1) * BN) continue;
                    const int st = use & 1, par = (use >> 1 & 1) ^ 1, h = hk * a.group + g;
                    const int64_t at = static_cast<int64_t>(h) * a.pad + static_cast<int64_t>(m) * BM;
                    lm_mbar_wait(q_empty + 8 * st, par);
                    lm_stsi4(at_info + 16 * st, m, a.most[m] > j * BN, w.last(a), g * 4 + (turn_of<D>(a, up, m, j) != 0) * 2 + ends<D>(a, up, m, j));
                    lm_mbar_expect(q_full + 8 * st, S::Q + BM * 4);
                    for (int c = 0; c < S::CH; c++) lm_tma_get(at_q + st * S::Q + c * BM * 128, &mq, h * D + 64 * c, m * BM, q_full + 8 * st);
                    lm_bulk_get(base + S::AT_LSE + st * BM * 4, a.lse2 + at, BM * 4, q_full + 8 * st);
                    if (w.first) {
                        lm_mbar_wait(v_empty, (it & 1) ^ 1);
                        lm_mbar_expect(v_full, S::KV);
                        for (int c = 0; c < S::CH; c++) lm_tma_get(at_v + c * BN * 128, &mv, hk * D + 64 * c, j * BN, v_full);
                    }
                    lm_mbar_wait(g_empty + 8 * st, par);
                    lm_mbar_expect(g_full + 8 * st, S::Q + BM * 4);
                    for (int c = 0; c < S::CH; c++) lm_tma_get(at_g + st * S::Q + c * BM * 128, &mg, h * D + 64 * c, m * BM, g_full + 8 * st);
                    lm_bulk_get(base + S::AT_DELTA + st * BM * 4, a.delta + at, BM * 4, g_full + 8 * st);
                    use++;
                }
            }
        } else if (warp == 1 && lane == 0) {                               /* ---- adds dQ in its turn ---- */
            const bool up = upwards<D>(a);
            int use = 0;
            for (int it = 0;; it++) {
                const int slot = it & 1;
                lm_mbar_wait(k_full + 8 * slot, it >> 1 & 1);
                const int4 info = lm_ldsi4(at_kinfo + 16 * slot);
                lm_mbar_arrive(k_empty + 8 * slot);
                if (info.x < 0) break;
                const int j = info.x;
                for (walk w(up, info.z, info.w); w.more(a); w.next(a)) {
                    const int m = w.m;
                    if (a.least[m] >= (j + 1) * BN) continue;
                    const int at = (info.y * a.group + w.g) * a.m_blocks + m, mine = turn_of<D>(a, up, m, j);
                    float *to = a.sums + static_cast<int64_t>(at) * (BM * D);
                    const bool end = ends<D>(a, up, m, j);                 /* the consumers finish dq: they get what is there */
                    if (mine) { while (lm_turn_now(a.turn + at) != mine) {} asm volatile("fence.proxy.async.global;" ::: "memory"); }
                    if (mine && end) { lm_mbar_expect(dq_was, S::DQ); lm_bulk_get(at_dq, to, S::DQ, dq_was); }
                    lm_mbar_wait(dq_full, use++ & 1);
                    if (end) { lm_mbar_arrive(dq_empty); continue; }
                    if (mine) lm_bulk_add(to, at_dq, S::DQ); else lm_bulk_put(to, at_dq, S::DQ);
                    lm_bulk_commit();
                    lm_bulk_wait_read();
                    lm_mbar_arrive(dq_empty);
                    lm_bulk_wait();
                    lm_turn_set(a.turn + at, mine + 1);
                }
            }
        }
    } else {                                                               /* ---- multiply ---- */
        lm_regs_more<D == 128 ? 240 : 232>();
        const int w = wg - 1;
        const auto multiply = [&](auto columns_of_dq) {
            constexpr int W = decltype(columns_of_dq)::value;
            const int t = threadIdx.x % 128, key_in = w * 64 + t / 32 * 16 + lane / 4;
            const float s2 = a.scale * LM_LOG2E;
            const uint64_t d_k = lm_desc_rows(base + w * 8192), d_v = lm_desc_rows(at_v + w * 8192),
                           d_kc = lm_desc_cols(base + (BM == 64 ? w * BN * 128 : 0), BN * 128);
            const uint64_t d_q = lm_desc_rows(at_q), d_g = lm_desc_rows(at_g), d_qc = lm_desc_cols(at_q, BM * 128), d_gc = lm_desc_cols(at_g, BM * 128);
            const uint64_t d_ds = lm_desc_cols(at_ds + (BM == 128 ? w * BN * 128 : 0), BN * 128);
            const uint32_t ds_row = static_cast<uint32_t>(w * 64 + t / 32 * 16 + (lane / 8 & 1) * 8 + lane % 8) * 128, ds_unit = lane / 16,
                           ds_x = lane % 8;
            float s[BM / 2], dp[BM / 2], dk[D / 2], dv[D / 2], dq[W / 2];
            uint32_t pf[BM / 16][4], df[BM / 16][4];
            const auto scores = [&](int slot, int st) {                        /* Sᵀ = K Qᵀ */
                lm_wgmma_fence();
                lm_wgmma<BM>::template first<0, 0>(s, d_k + slot * S::KV / 16, d_q + st * S::Q / 16);
#pragma unroll
                for (int k = 1; k < D / 16; k++)
                    lm_wgmma<BM>::template ss<0, 0>(s, d_k + (slot * S::KV + k / 4 * BN * 128 + k % 4 * 32) / 16,
                                                    d_q + (st * S::Q + k / 4 * BM * 128 + k % 4 * 32) / 16);
                lm_wgmma_commit();
            };
            const auto weigh = [&](int block, int st) {                        /* Pᵀ of it as a left operand */
                weights<BM>(a, s, pf, base + S::AT_LSE + st * BM * 4, block * BN + key_in, block * BN + w * 64 + 63, lm_ldsi(at_info + 16 * st) * BM,
                            lm_ldsi(at_info + 16 * st + 4) && block >= 0, s2);
            };
            int it = 0, use = 0, was = 0, block;
            lm_mbar_wait(k_full, 0);
            block = lm_ldsi(at_kinfo);
            if (block < 0) return;
            lm_mbar_wait(q_full, 0);
            scores(0, 0);
            lm_wgmma_wait<0>();
            lm_wgmma_pin<BM / 2>(s);
            for (bool first = true; block >= 0; use++) {                       /* s has this block's scores */
                const int st = use & 1, ds_at = st * S::DS, slot = it & 1;
                const bool last = lm_ldsi(at_info + 16 * st + 8);
                if (first) lm_mbar_wait(v_full, it & 1);
                lm_mbar_wait(g_full + 8 * st, use >> 1 & 1);
                lm_wgmma_fence();
                lm_wgmma<BM>::template first<0, 0>(dp, d_v, d_g + st * S::Q / 16);
#pragma unroll
                for (int k = 1; k < D / 16; k++)
                    lm_wgmma<BM>::template ss<0, 0>(dp, d_v + (k / 4 * BN * 128 + k % 4 * 32) / 16,
                                                    d_g + (st * S::Q + k / 4 * BM * 128 + k % 4 * 32) / 16);
                lm_wgmma_commit();
                weigh(block, st);
                lm_wgmma_fence();
#pragma unroll
                for (int k = 0; k < BM / 16; k++) lm_wgmma<D>::template rs<1>(dv, pf[k], d_gc + (st * S::Q + k * 2048) / 16, k > 0 || !first);
                lm_wgmma_commit();
                lm_wgmma_wait<1>();
                lm_wgmma_pin<BM / 2>(dp);
                if (last) leave(v_empty);
                slopes<BM>(dp, pf, df, base + S::AT_DELTA + st * BM * 4);
#pragma unroll
                for (int k = 0; k < BM / 16; k++) lm_stsm(at_ds + ds_at + k / 4 * BN * 128 + ds_row + ((k % 4 * 2 + ds_unit) ^ ds_x) * 16, df[k]);
                lm_fence_async();
                lm_bar_sync(1, 256);
                lm_wgmma_fence();
                lm_wgmma<W>::template first<1, 1>(dq, d_ds + ds_at / 16, d_kc + slot * S::KV / 16);
#pragma unroll
                for (int k = 1; k < BN / 16; k++) lm_wgmma<W>::template ss<1, 1>(dq, d_ds + (ds_at + k * 2048) / 16, d_kc + (slot * S::KV + k * 2048) / 16);
                lm_wgmma_commit();
                lm_wgmma_fence();
#pragma unroll
                for (int k = 0; k < BM / 16; k++) lm_wgmma<D>::template rs<1>(dk, df[k], d_qc + (st * S::Q + k * 2048) / 16, k > 0 || !first);
                lm_wgmma_commit();
                lm_wgmma_wait<1>();
                lm_wgmma_pin<W / 2>(dq);
                leave(g_empty + 8 * st);
                lm_mbar_wait(dq_empty, (use & 1) ^ 1);
                const uint32_t at_mine = at_dq + (w * 1024 + t) * 16;
                const int turns = lm_ldsi(at_info + 16 * st + 12);
                if (turns & 1) {                                               /* the last one of these queries */
                    float c[W / 2];
#pragma unroll
                    for (int i = 0; i < W / 2; i++) c[i] = dq[i];
                    if (turns & 2) {
                        lm_mbar_wait(dq_was, was++ & 1);
#pragma unroll
                        for (int i = 0; i < W / 8; i++) lm_lds4_add(c + 4 * i, at_mine + i * 2048);
                    }
                    leave(dq_full);
                    const int m = lm_ldsi(at_info + 16 * st), row = m * BM + (BM == 128 ? w * 64 : 0) + t / 32 * 16 + lane / 4;
                    const int64_t h = static_cast<int64_t>(lm_ldsi(at_kinfo + 16 * slot + 4)) * a.group + (turns >> 2);
                    if (SUMS) {
                        const float2 sum = columns(c);
                        float *to = a.part + (m * static_cast<int64_t>(a.heads + 2 * a.kv) + h) * D;
                        meet<1>(at_sums, counts, w * 4 + t / 32, &sum, &to, &a.scale);
                    }
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        lm_store_row<W>(a.dq, row + 8 * e, row + 8 * e < a.n, h * D + (BM == 128 ? 0 : w * 64), c + 2 * e, a.scale);
                } else {
#pragma unroll
                    for (int i = 0; i < W / 8; i++) lm_sts4(at_mine + i * 2048, dq + 4 * i);
                    lm_fence_async();
                    leave(dq_full);
                }
                if (last) {
                    it++;
                    lm_mbar_wait(k_full + 8 * (it & 1), it >> 1 & 1);
                    block = lm_ldsi(at_kinfo + 16 * (it & 1));
                }
                if (block >= 0) lm_mbar_wait(q_full + 8 * (st ^ 1), (use + 1) >> 1 & 1);
                scores(it & 1, st ^ 1);                                        /* of the next block; of nothing where there is none */
                lm_wgmma_wait<0>();
                lm_wgmma_pin<BM / 2>(s);
                leave(q_empty + 8 * st);
                if (last) {
                    const int r = lm_ldsi(at_kinfo + 16 * slot) * BN + key_in;
                    const int64_t col = static_cast<int64_t>(lm_ldsi(at_kinfo + 16 * slot + 4)) * D;
                    leave(k_empty + 8 * slot);
                    lm_wgmma_pin<D / 2>(dk); lm_wgmma_pin<D / 2>(dv);
                    if (SUMS) {
                        const float2 sum[2] = { columns(dk), columns(dv) };
                        float *first_to = a.part + static_cast<int64_t>(r / BN) * (a.heads + 2 * a.kv) * D + static_cast<int64_t>(a.heads) * D + col;
                        float *const to[2] = { first_to, first_to + static_cast<int64_t>(a.kv) * D }; const float times[2] = { a.scale, 1.0f };
                        meet<2>(at_sums + 8 * D * 4, counts + 4, w * 4 + t / 32, sum, to, times);
                    }
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        lm_store_row<D>(a.dv, r + 8 * e, r + 8 * e < a.n, col, dv + 2 * e, 1.0f);
                        lm_store_row<D>(a.dk, r + 8 * e, r + 8 * e < a.n, col, dk + 2 * e, a.scale);
                    }
                }
                first = last;
            }
        };
        if constexpr (D == 96) { if (w) multiply(std::integral_constant<int, 32>()); else multiply(std::integral_constant<int, 64>()); } /* 96 columns of dq */
        else multiply(std::integral_constant<int, 64>());
    }
#endif
}

/* q, k, v, start, o, lse, dO, dlse are the call's first inputs; a: what becomes of the gradient. Scratch from `at` on. */
template <bool SUMS> lm_err run_bwd(const lm_call *c, args a, char *at, cudaStream_t s) {
    const lm_attn_args f = lm_attn_args_of(c);
    if (!f.n) return LM_OK;
    if (f.n * f.heads > INT32_MAX / 2) return LM_E_RANGE;
    lay(&a, f.n, f.heads, f.d, at);
    a.o = lm_cv_of(&c->in[4]);
    a.lse = static_cast<const float *>(c->in[5].data);
    a.go = lm_cv_of(&c->in[6]);
    a.glse = lm_has(c, 7) ? static_cast<const float *>(c->in[7].data) : NULL;
    a.start = f.start; a.window = f.window; a.n = static_cast<int>(f.n); a.heads = f.heads; a.kv = f.kv; a.group = f.heads / f.kv; a.scale = f.scale;
    if constexpr (SUMS) return launch<64>(hopper_bwd<64, true>, shape<64>::BYTES, c, f, a, s);
    else switch (f.d) {
        case 64: return launch<64>(hopper_bwd<64, false>, shape<64>::BYTES, c, f, a, s);
        case 96: return launch<96>(hopper_bwd<96, false>, shape<96>::BYTES, c, f, a, s);
        case 128: return launch<128>(hopper_bwd<128, false>, shape<128>::BYTES, c, f, a, s);
        default: return launch<256>(hopper_bwd_256<256>, shape_256::BYTES, c, f, a, s);
    }
}
/* What that takes: inputs and the outputs with a bit set. */
bool takes(const lm_call *c, uint32_t out) {
    return lm_attn_hopper(c, 1 | 2 | 4 | 16 | 64, out) && lm_is_contig(&c->in[5]) &&
           (!lm_has(c, 7) || lm_is_contig(&c->in[7]));
}
}
#endif
