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
enum { BM = LM_FWD_BM, BN = 128, ST = LM_FWD_ST, PAGES = BN / LM_KV_PAGE };
struct args { paged p; int *counter; int tiles; };
template <int D> struct shape : lm_fwd_shape<D, BN, 1 + ST> {
    enum { PAGE_BYTES = BN * D * 2 / PAGES, K_BOX = 4 * D < 256 ? 4 * D : 256 };
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
/* The consumers' half of what a tile is. */
template <int D> struct walk {
    const paged &a; const uint32_t at_info, at_v; const int w, row_in;
    int4 now;                                                              /* the block at hand: first key, its rows, how many of its keys are live, seen by all */
    int blocks, h, row, pos[2], first[2], live;
    __device__ __forceinline__ bool tile() {
        const int4 info = lm_ldsi4(at_info);
        if (info.x < 0) return false;
        h = info.x % a.heads; row = info.x / a.heads * BM + row_in; blocks = info.y;
#pragma unroll
        for (int e = 0; e < 2; e++) {
            pos[e] = row + 8 * e < a.n ? a.pos[row + 8 * e] : -1;
            first[e] = pos[e] < 0 ? 0 : static_cast<int>(first_seen(a, pos[e]));
        }
        return true;
    }
    __device__ __forceinline__ void block(int st) { now = lm_ldsi4(at_info + 16 + 16 * st); }
    __device__ __forceinline__ void mask(float *s) {
        live = now.z;
        if (now.w) return;
        const int r0 = now.y & 0xffff, r1 = now.y >> 16;
        int last[2];
#pragma unroll
        for (int e = 0; e < 2; e++) last[e] = row_in + 8 * e >= r0 && row_in + 8 * e < r1 ? pos[e] : -1;
#pragma unroll
        for (int i = 0; i < BN / 2; i++) {
            const int key = now.x + i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2, e = i / 2 % 2;
            if (key > last[e] || key < first[e]) s[i] = -INFINITY;
        }
    }
    /* Values of rows from `live` on become zero; both warpgroups write the same. */
    __device__ __forceinline__ void clear(int st) const {
        if (live == BN) return;
        for (int i = live * 8 + static_cast<int>(threadIdx.x % 128); i < BN * 8; i += 128)
#pragma unroll
            for (int c = 0; c < shape<D>::CH; c++) lm_stsi4(at_v + st * shape<D>::KV_BYTES + c * BN * 128 + i * 16, 0, 0, 0, 0);
        lm_fence_async();
        lm_bar_sync(3 + w, 128);
    }
    __device__ __forceinline__ void store(const float *o, const float *, const float *sum) const {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row + 8 * e;
            lm_store_row<D>(a.o, r, r < a.n, static_cast<int64_t>(h) * D, o + 2 * e, sum[e] > 0 ? 1.0f / sum[e] : 0.0f);
        }
    }
};
#endif
template <int D> __global__ void __launch_bounds__(384, 1)
prompt(const __grid_constant__ CUtensorMap mq, const __grid_constant__ CUtensorMap mk, const __grid_constant__ CUtensorMap mv, const __grid_constant__ args x) {
#ifdef LM_HOPPER_CODE
    using S = shape<D>;
    constexpr int CH = S::CH;
    extern __shared__ __align__(1024) char mem[];
    const paged &a = x.p;
    const uint32_t base = lm_smem(mem), at_q = base, at_k = base + S::AT_K, at_v = base + S::AT_V, at_info = base + S::AT_INFO, at_block = at_info + 16;
    const lm_fwd_bars bar(base + S::AT_BAR);
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) bar.init();
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
                    lm_mbar_wait(bar.q_empty, (told & 1) ^ 1);
                    if (tile >= x.tiles) { lm_stsi4(at_info, -1, 0, 0, 0); lm_mbar_arrive(bar.q_full); }
                    else {
                        lm_stsi4(at_info, qb * a.heads + h, blocks, 0, 0);
                        lm_mbar_expect(bar.q_full, S::Q_BYTES);
                        for (int c = 0; c < CH; c++) lm_tma_get(at_q + c * BM * 128, &mq, h * D + 64 * c, q0, bar.q_full);
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
                            lm_mbar_wait(bar.k_empty + 8 * st, par);
                            lm_stsi4(at_block + 16 * st, j * BN, r0 | r1 << 16, min(BN, hi + 1 - j * BN), all);
                            lm_mbar_expect(bar.k_full + 8 * st, there * S::PAGE_BYTES);
#pragma unroll
                            for (int i = 0; i < PAGES; i++)
                                if (i < there)
                                    for (int b = 0; b < 4 * D; b += S::K_BOX) lm_tma_get(at_k + st * S::KV_BYTES + i * S::PAGE_BYTES + b * 32, &mk, 0, row[i] * 4 * D + b, bar.k_full + 8 * st);
                            lm_mbar_wait(bar.v_empty + 8 * st, par);
                            lm_mbar_expect(bar.v_full + 8 * st, there * S::PAGE_BYTES);
#pragma unroll
                            for (int i = 0; i < PAGES; i++)
                                if (i < there)
                                    for (int c = 0; c < CH; c++)
                                        lm_tma_get(at_v + st * S::KV_BYTES + c * BN * 128 + i * LM_KV_PAGE * 128, &mv, 64 * c, row[i] * LM_KV_PAGE, bar.v_full + 8 * st);
                        }
                }
            }
            told++;
            if (tile >= x.tiles) break;
        }
    } else {                                                               /* ---- consumers ---- */
        lm_regs_more<224>();
        const int w = wg - 1;
        walk<D> t = { a, at_info, at_v, w, w * 64 + static_cast<int>(threadIdx.x % 128 / 32) * 16 + lane / 4, {}, 0, 0, 0, {}, {}, BN };
        lm_fwd_consume<D, BN, S, true>(base, bar, w, a.scale, t);
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
