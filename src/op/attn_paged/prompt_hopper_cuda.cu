/* prompt_hopper_cuda.cu — attention of prompts over bf16 pages for compute capability 9.0: op/attn/attn_hopper_cuda.cu's plan, but for where keys
 * lie and who sees them; for attn_paged_cuda.cu.
 *
 *   A tile is 128 rows of one head, which may be of several sequences: rows of one are a segment, and a segment's keys are walked in blocks of two
 *     pages, the last first. A block is marked with the rows it is for; others see nothing in it and keep their numbers to the bit. So a
 *     row's bits depend on its own keys alone.
 *   Keys lie sixteen tokens side by side (op/kv_write): the copy engine brings them as rows of 32 bytes, and S = Q Kᵀ takes them as they lie,
 *     columns being tokens. Values lie as ever.
 *   What lies beyond a segment's last key is another's or nobody's: its scores are masked, its values made zero before they are multiplied,
 *     and a page beyond it is not read. */
#include "op/attn/block.cuh"
#include "op/attn_paged/prompt.cuh"

namespace {
enum { BM = 128, BN = 128, ST = 2, PAGES = BN / LM_KV_PAGE };
struct args { paged p; int *counter; int tiles; };
template <int D> struct shape {
    enum {
        CH = D / 64, Q_BYTES = CH * BM * 128, KV_BYTES = BN * D * 2, PAGE_BYTES = KV_BYTES / PAGES, K_BOX = 4 * D < 256 ? 4 * D : 256,
        AT_K = Q_BYTES, AT_V = AT_K + ST * KV_BYTES, AT_INFO = AT_V + ST * KV_BYTES, AT_BAR = AT_INFO + 16 * (1 + ST), BYTES = AT_BAR + 8 * (2 + 4 * ST)
    };
};
#ifdef LM_HOPPER_CODE
/* Position of row n, -1 if it sees nothing or points outside. */
__device__ __forceinline__ int position(const paged &a, int64_t n, int *s) {
    int x = n < a.n ? a.pos[n] : -1;
    *s = n < a.n ? a.seq[n] : -1;
    if (x >= 0 && (*s < 0 || *s >= a.seqs || x >= a.per * LM_KV_PAGE)) { if (a.fault) *a.fault = LM_E_RANGE; x = -1; }
    if (x < 0) *s = -1;
    return x;
}
#endif
template <int D> __global__ void __launch_bounds__(384, 1)
prompt(const __grid_constant__ CUtensorMap mq, const __grid_constant__ CUtensorMap mk, const __grid_constant__ CUtensorMap mv, const __grid_constant__ args x) {
#ifdef LM_HOPPER_CODE
    using S = shape<D>;
    constexpr int CH = S::CH, KS = D / 16;
    extern __shared__ __align__(1024) char mem[];
    const paged &a = x.p;
    const uint32_t base = lm_smem(mem), at_q = base, at_k = base + S::AT_K, at_v = base + S::AT_V, bar = base + S::AT_BAR, at_info = base + S::AT_INFO, at_block = at_info + 16;
    const uint32_t q_full = bar, q_empty = bar + 8, k_full = bar + 16, k_empty = k_full + 8 * ST, v_full = k_empty + 8 * ST, v_empty = v_full + 8 * ST;
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        lm_mbar_init(q_full, 1); lm_mbar_init(q_empty, 8);
        for (int i = 0; i < ST; i++) {
            lm_mbar_init(k_full + 8 * i, 1); lm_mbar_init(k_empty + 8 * i, 8); lm_mbar_init(v_full + 8 * i, 1); lm_mbar_init(v_empty + 8 * i, 8);
        }
        lm_mbar_inited();
    }
    __syncthreads();
    if (wg == 0) {                                                         /* ---- producer ---- */
        lm_regs_less<56>();
        if (threadIdx.x >= 32) return;
        if (lane == 0) { lm_tma_prefetch_map(&mq); lm_tma_prefetch_map(&mk); lm_tma_prefetch_map(&mv); }
        int tile = 0, use = 0, told = 0;
        for (;;) {
            if (lane == 0) tile = atomicAdd(x.counter, 1);
            tile = __shfl_sync(0xffffffffu, tile, 0);
            const int qb = (x.tiles - 1 - tile) / a.heads, h = a.heads - 1 - (x.tiles - 1 - tile) % a.heads, q0 = qb * BM, hk = h / (a.heads / a.kv);
            if (tile < x.tiles && a.choose && scattered(a, q0)) continue;
            int pos[4], seq[4], blocks = 0;
            if (tile < x.tiles)
#pragma unroll
                for (int i = 0; i < 4; i++) pos[i] = position(a, q0 + lane + 32 * i, &seq[i]);
            /* twice over the segments: first to count their blocks */
            for (int pass = 0; pass < 2; pass++) {
                if (pass && lane == 0) {
                    lm_mbar_wait(q_empty, (told & 1) ^ 1);
                    if (tile >= x.tiles) { lm_stsi4(at_info, -1, 0, 0, 0); lm_mbar_arrive(q_full); }
                    else {
                        lm_stsi4(at_info, qb * a.heads + h, blocks, 0, 0);
                        lm_mbar_expect(q_full, S::Q_BYTES);
                        for (int c = 0; c < CH; c++) lm_tma_get(at_q + c * BM * 128, &mq, h * D + 64 * c, q0, q_full);
                    }
                }
                if (tile >= x.tiles) continue;
                for (int r0 = 0, r1; r0 < BM; r0 = r1) {
                    int s = -1;
#pragma unroll
                    for (int i = 0; i < 4; i++) { const int v = __shfl_sync(0xffffffffu, seq[i], r0 & 31); if (r0 >> 5 == i) s = v; }
                    r1 = BM;
                    int hi = -1, near = INT32_MAX, lo = INT32_MAX, far = 0;    /* last key; least last key; first key; greatest first key */
#pragma unroll
                    for (int i = 3; i >= 0; i--) {
                        const unsigned other = __ballot_sync(0xffffffffu, lane + 32 * i > r0 && seq[i] != s);
                        if (other) r1 = 32 * i + __ffs(static_cast<int>(other)) - 1;
                    }
                    if (s < 0) continue;
#pragma unroll
                    for (int i = 0; i < 4; i++)
                        if (lane + 32 * i >= r0 && lane + 32 * i < r1) {
                            const int f = static_cast<int>(first_seen(a, pos[i]));
                            hi = max(hi, pos[i]); near = min(near, pos[i]); lo = min(lo, f); far = max(far, f);
                        }
                    hi = __reduce_max_sync(0xffffffffu, hi); near = __reduce_min_sync(0xffffffffu, near); lo = __reduce_min_sync(0xffffffffu, lo); far = __reduce_max_sync(0xffffffffu, far);
                    const int j0 = lo / BN, j1 = hi / BN;
                    if (!pass) { blocks += j1 - j0 + 1; continue; }
                    if (lane == 0)
                        for (int j = j1; j >= j0; j--, use++) {
                            const int st = use % ST, par = (use / ST & 1) ^ 1, there = min(PAGES, hi / LM_KV_PAGE - j * PAGES + 1);
                            const bool all = j * BN + BN - 1 <= near && j * BN >= far && r0 == 0 && (r1 == BM || q0 + r1 >= a.n);
                            int row[PAGES];
#pragma unroll
                            for (int i = 0; i < PAGES; i++) {
                                int64_t page = i < there ? a.table[s * a.per + j * PAGES + i] : 0;
                                if (page < 0 || page >= a.pages) { if (a.fault) *a.fault = LM_E_RANGE; page = 0; }
                                row[i] = static_cast<int>(page) * a.kv + hk;
                            }
                            lm_mbar_wait(k_empty + 8 * st, par);
                            lm_stsi4(at_block + 16 * st, j * BN, r0 | r1 << 16, min(BN, hi + 1 - j * BN), all);
                            lm_mbar_expect(k_full + 8 * st, there * S::PAGE_BYTES);
#pragma unroll
                            for (int i = 0; i < PAGES; i++)
                                if (i < there)
                                    for (int b = 0; b < 4 * D; b += S::K_BOX) lm_tma_get(at_k + st * S::KV_BYTES + i * S::PAGE_BYTES + b * 32, &mk, 0, row[i] * 4 * D + b, k_full + 8 * st);
                            lm_mbar_wait(v_empty + 8 * st, par);
                            lm_mbar_expect(v_full + 8 * st, there * S::PAGE_BYTES);
#pragma unroll
                            for (int i = 0; i < PAGES; i++)
                                if (i < there)
                                    for (int c = 0; c < CH; c++)
                                        lm_tma_get(at_v + st * S::KV_BYTES + c * BN * 128 + i * LM_KV_PAGE * 128, &mv, 64 * c, row[i] * LM_KV_PAGE, v_full + 8 * st);
                        }
                }
            }
            told++;
            if (tile >= x.tiles) break;
        }
    } else {                                                               /* ---- consumers ---- */
        lm_regs_more<224>();
        const int w = wg - 1, row_in = w * 64 + (threadIdx.x % 128 / 32) * 16 + lane / 4;
        const float s2 = a.scale * LM_LOG2E;
        const uint64_t dq = lm_desc_rows(at_q + w * 64 * 128), dk = lm_desc_cols16(at_k, D * 32), dv = lm_desc_cols(at_v, BN * 128);
        float o[D / 2], s[BN / 2], top[2], sum[2], keep[2];
        uint32_t p[BN / 16][4];
        int use = 0;
        if (w == 1) lm_bar_arrive(1, 256);                                 /* the first warpgroup may begin */
        const auto turn = [&] { lm_bar_sync(1 + w, 256); };
        const auto pass = [&] { lm_bar_arrive(2 - w, 256); };
        const auto scores = [&](int st) {
            lm_wgmma_fence();
            lm_wgmma<BN>::template first<0, 1>(s, dq, dk + st * S::KV_BYTES / 16);
#pragma unroll
            for (int k = 1; k < KS; k++) lm_wgmma<BN>::template ss<0, 1>(s, dq + (k / 4 * BM * 128 + k % 4 * 32) / 16, dk + (st * S::KV_BYTES + k * 512) / 16);
            lm_wgmma_commit();
        };
        const auto values = [&](int st) {
            lm_wgmma_fence();
#pragma unroll
            for (int k = 0; k < BN / 16; k++) lm_wgmma<D>::template rs<1>(o, p[k], dv + (st * S::KV_BYTES + k * 2048) / 16, 1);
            lm_wgmma_commit();
        };
        /* Values of rows from `live` on become zero; both warpgroups write the same. */
        const auto clear = [&](int st, int live) {
            if (live == BN) return;
            for (int i = live * 8 + static_cast<int>(threadIdx.x % 128); i < BN * 8; i += 128)
#pragma unroll
                for (int c = 0; c < CH; c++) lm_stsi4(at_v + st * S::KV_BYTES + c * BN * 128 + i * 16, 0, 0, 0, 0);
            lm_fence_async();
            lm_bar_sync(3 + w, 128);
        };
        const auto leave = [&](uint32_t b) { __syncwarp(); if (lane == 0) lm_mbar_arrive(b); };
        for (int it = 0;; it++) {
            lm_mbar_wait(q_full, it & 1);
            const int4 info = lm_ldsi4(at_info);
            if (info.x < 0) break;
            const int q0 = info.x / a.heads * BM, h = info.x % a.heads, row = q0 + row_in;
            int pos[2], first[2], live = BN;
#pragma unroll
            for (int e = 0; e < 2; e++) {
                pos[e] = row + 8 * e < a.n ? a.pos[row + 8 * e] : -1;
                first[e] = pos[e] < 0 ? 0 : static_cast<int>(first_seen(a, pos[e]));
            }
            const auto mask = [&](const int4 &b) {
                if (b.w) return;
                const int r0 = b.y & 0xffff, r1 = b.y >> 16;
                int last[2];
#pragma unroll
                for (int e = 0; e < 2; e++) last[e] = row_in + 8 * e >= r0 && row_in + 8 * e < r1 ? pos[e] : -1;
#pragma unroll
                for (int i = 0; i < BN / 2; i++) {
                    const int key = b.x + i / 4 * 8 + lane % 4 * 2 + i % 2, e = i / 2 % 2;
                    if (key > last[e] || key < first[e]) s[i] = -INFINITY;
                }
            };
#pragma unroll
            for (int i = 0; i < D / 2; i++) o[i] = 0;
            top[0] = top[1] = -INFINITY; sum[0] = sum[1] = 0;
            if (info.y == 0) leave(q_empty);
            else {
                turn();
                lm_mbar_wait(k_full + 8 * (use % ST), use / ST & 1);
                int4 b = lm_ldsi4(at_block + 16 * (use % ST));
                scores(use % ST);
                pass();
                lm_wgmma_wait<0>();
                lm_wgmma_pin<BN / 2>(s);
                leave(k_empty + 8 * (use % ST));
                if (info.y == 1) leave(q_empty);
                mask(b);
                lm_block_softmax<BN>(s, top, sum, keep, s2);
                lm_block_pack<BN>(p, s);
                live = b.z;
                for (int j = 1; j < info.y; j++) {
                    const int st = use % ST, par = use / ST & 1, nx = (use + 1) % ST, nx_par = (use + 1) / ST & 1;
                    use++;
                    turn();
                    lm_mbar_wait(k_full + 8 * nx, nx_par);
                    b = lm_ldsi4(at_block + 16 * nx);
                    scores(nx);
                    lm_mbar_wait(v_full + 8 * st, par);
                    clear(st, live);
                    values(st);
                    pass();
                    lm_wgmma_wait<1>();
                    lm_wgmma_pin<BN / 2>(s);
                    leave(k_empty + 8 * nx);
                    if (j + 1 == info.y) leave(q_empty);
                    mask(b);
                    lm_block_softmax<BN>(s, top, sum, keep, s2);
                    lm_wgmma_wait<0>();
                    lm_wgmma_pin<D / 2>(o);
                    leave(v_empty + 8 * st);
#pragma unroll
                    for (int i = 0; i < D / 2; i++) o[i] *= keep[i / 2 % 2];
                    lm_block_pack<BN>(p, s);
                    live = b.z;
                }
                lm_mbar_wait(v_full + 8 * (use % ST), use / ST & 1);
                clear(use % ST, live);
                values(use % ST);
#pragma unroll
                for (int e = 0; e < 2; e++) { sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 1); sum[e] += __shfl_xor_sync(0xffffffffu, sum[e], 2); }
                lm_wgmma_wait<0>();
                lm_wgmma_pin<D / 2>(o);
                leave(v_empty + 8 * (use % ST));
                use++;
            }
#pragma unroll
            for (int e = 0; e < 2; e++) {
                const int r = row + 8 * e;
                lm_store_row<D>(a.o, r, r < a.n, static_cast<int64_t>(h) * D, o + 2 * e, sum[e] > 0 ? 1.0f / sum[e] : 0.0f);
            }
        }
    }
#endif
}
template <int D> lm_err launch(const paged &p, int *counter, int units, cudaStream_t s) {
    using S = shape<D>;
    CUtensorMap q, k, v;
    const int64_t heads = p.pages * p.kv;
    if (heads * 4 * D > INT32_MAX || p.n * p.heads > INT32_MAX / 2) return LM_E_RANGE;
    LM_TRY(lm_tma_map(&q, p.q.p, p.n, static_cast<int64_t>(p.heads) * D, p.q.rs, BM));
    LM_TRY(lm_tma_map_of(&k, p.k, heads * 4 * D, 16, 16, S::K_BOX, 16));
    LM_TRY(lm_tma_map(&v, p.v, heads * LM_KV_PAGE, D, D, LM_KV_PAGE));
    const args a = { p, counter, static_cast<int>(lm_ceil_div(p.n, static_cast<int64_t>(BM))) * p.heads };
    static_assert(S::BYTES <= 227 * 1024, "shared memory of a block");
    if (cudaMemsetAsync(counter, 0, sizeof *counter, s) != cudaSuccess) return LM_E_DEVICE;
    if (cudaFuncSetAttribute(prompt<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::BYTES) != cudaSuccess) return LM_E_DEVICE;
    prompt<D><<<static_cast<unsigned>(a.tiles < units ? a.tiles : units), 384, S::BYTES, s>>>(q, k, v, a);
    return lm_cuda_launched();
}
}
bool lm_paged_prompt_takes(const lm_call *c, int d) {
    return c->dev->features & LM_CUDA_WGMMA && (d == 64 || d == 128) && c->in[0].dtype == LM_BF16 && c->out[0].dtype == LM_BF16 && lm_row_stride(&c->in[0]) % 8 == 0 &&
           lm_row_stride(&c->out[0]) % 8 == 0 && static_cast<const lm_attn_p *>(c->p)->scale > 0;
}
lm_err lm_paged_prompt(const paged &p, int d, int *counter, int units, cudaStream_t s) { return d == 64 ? launch<64>(p, counter, units, s) : launch<128>(p, counter, units, s); }
