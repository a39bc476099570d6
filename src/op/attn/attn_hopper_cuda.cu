/* attn_hopper_cuda.cu — attention for compute capability 9.0: FlashAttention-3's plan (Shah et al. 2024) in this project's terms, bf16.
 *
 *   one CTA per multiprocessor takes tiles (BM queries of one head) from a counter, long ones first, until there are none;
 *   producer: one thread brings Q, then K and V blocks of BN keys into ST stages, from the diagonal down to the first key that is seen;
 *   consumers: two warpgroups of 64 queries (op/attn/block.cuh). Only blocks on the diagonal, or with keys before some row's first, are masked.
 * Which CTA takes a tile changes nothing in it: bits are the same each time. */
#include "op/attn/block.cuh"
#include "op/attn_sinks/sink.cuh"

namespace {
enum { BM = LM_FWD_BM, ST = LM_FWD_ST };
struct args { lm_cv o; const int32_t *start; float *lse; int *counter; int n, window, heads, group, tiles; float scale; const float *sinks; };
template <int D, int BN> struct shape : lm_fwd_shape<D, BN, 1> {};
#ifdef LM_HOPPER_CODE
/* The consumers' half of what a tile is: queries and the keys they see, block by block from the diagonal down. */
template <int D, int BN, bool SINKS> struct walk {
    const args &a; const uint32_t at_info; const int wg_row, row_in;
    int blocks, q0, h, j, hi, row, first[2];
    __device__ __forceinline__ bool tile() {
        const int4 info = lm_ldsi4(at_info);
        if (info.x < 0) return false;
        q0 = info.x / a.heads * BM; h = info.x % a.heads; j = info.z + 1; blocks = info.z - info.y + 1; hi = info.w; row = q0 + row_in;
#pragma unroll
        for (int e = 0; e < 2; e++) first[e] = row + 8 * e < a.n ? lm_first_key(a.start, a.window, row + 8 * e) : 0;
        return true;
    }
    __device__ __forceinline__ void block(int) { j--; }
    __device__ __forceinline__ void mask(float *s) const {
        if (j * BN + BN > q0 + wg_row + 1 || j * BN < hi)
#pragma unroll
            for (int i = 0; i < BN / 2; i++) {
                const int key = j * BN + i / 4 * 8 + static_cast<int>(threadIdx.x % 4) * 2 + i % 2, e = i / 2 % 2;
                if (key > row + 8 * e || key < first[e]) s[i] = -INFINITY;
            }
    }
    __device__ __forceinline__ void clear(int) const {}
    __device__ __forceinline__ void store(const float *o, const float *top, const float *sum) const {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = row + 8 * e;
            if (!SINKS) {
                const float inv = 1.0f / sum[e];
                lm_store_row<D>(a.o, r, r < a.n, static_cast<int64_t>(h) * D, o + 2 * e, inv);
                if (r < a.n && threadIdx.x % 4 == 0) a.lse[static_cast<int64_t>(r) * a.heads + h] = fmaf(top[e], a.scale, logf(sum[e]));
            } else {
                float inv = 1.0f / sum[e], lse = fmaf(top[e], a.scale, logf(sum[e]));
                if (a.sinks) { const lm_sunk s = lm_sink(lse, a.sinks[h]); inv *= s.keep; lse = s.lse; }
                lm_store_row<D>(a.o, r, r < a.n, static_cast<int64_t>(h) * D, o + 2 * e, inv);
                if (r < a.n && threadIdx.x % 4 == 0) a.lse[static_cast<int64_t>(r) * a.heads + h] = lse;
            }
        }
    }
};
#endif
template <int D, int BN, bool SINKS> __global__ void __launch_bounds__(384, 1)
hopper_fwd(const __grid_constant__ CUtensorMap mq, const __grid_constant__ CUtensorMap mk, const __grid_constant__ CUtensorMap mv, const args a) {
#ifdef LM_HOPPER_CODE
    using S = shape<D, BN>;
    constexpr int CH = S::CH;
    extern __shared__ __align__(1024) char mem[];
    const uint32_t base = lm_smem(mem), at_q = base, at_k = base + S::AT_K, at_v = base + S::AT_V, at_info = base + S::AT_INFO;
    const lm_fwd_bars bar(base + S::AT_BAR);
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0), lane = threadIdx.x % 32;
    if (threadIdx.x == 0) bar.init();
    __syncthreads();
    if (wg == 0) {                                                         /* ---- producer ---- */
        lm_regs_less<24>();
        if (threadIdx.x >= 32) return;
        if (lane == 0) { lm_tma_prefetch_map(&mq); lm_tma_prefetch_map(&mk); lm_tma_prefetch_map(&mv); }
        int tile = 0, use = 0;
        if (lane == 0) tile = atomicAdd(a.counter, 1);
        for (int it = 0;; it++) {
            tile = __shfl_sync(0xffffffffu, tile, 0);
            const int qb = (a.tiles - 1 - tile) / a.heads, h = a.heads - 1 - (a.tiles - 1 - tile) % a.heads, q0 = qb * BM, hk = h / a.group;
            int lo = INT32_MAX, hi = 0;
            if (tile < a.tiles)
#pragma unroll
                for (int i = 0; i < BM / 32; i++) {
                    const int r = q0 + lane + 32 * i;
                    if (r < a.n) { const int f = lm_first_key(a.start, a.window, r); lo = min(lo, f); hi = max(hi, f); }
                }
            lo = __reduce_min_sync(0xffffffffu, lo); hi = __reduce_max_sync(0xffffffffu, hi);
            const int j0 = lo / BN, j1 = (min(q0 + BM, a.n) - 1) / BN;
            if (lane == 0) {
                lm_mbar_wait(bar.q_empty, (it & 1) ^ 1);
                if (tile >= a.tiles) { lm_stsi4(at_info, -1, 0, 0, 0); lm_mbar_arrive(bar.q_full); }
                else {
                    lm_stsi4(at_info, qb * a.heads + h, j0, j1, hi);
                    lm_mbar_expect(bar.q_full, S::Q_BYTES);
                    for (int c = 0; c < CH; c++) lm_tma_get(at_q + c * BM * 128, &mq, h * D + 64 * c, q0, bar.q_full);
                }
            }
            if (tile >= a.tiles) break;
            if (lane == 0) {
                tile = atomicAdd(a.counter, 1);                            /* comes while blocks are brought */
                for (int j = j1; j >= j0; j--, use++) {
                    const int st = use % ST, par = (use / ST & 1) ^ 1;
                    lm_mbar_wait(bar.k_empty + 8 * st, par);
                    lm_mbar_expect(bar.k_full + 8 * st, S::KV_BYTES);
                    for (int c = 0; c < CH; c++) lm_tma_get(at_k + st * S::KV_BYTES + c * BN * 128, &mk, hk * D + 64 * c, j * BN, bar.k_full + 8 * st);
                    lm_mbar_wait(bar.v_empty + 8 * st, par);
                    lm_mbar_expect(bar.v_full + 8 * st, S::KV_BYTES);
                    for (int c = 0; c < CH; c++) lm_tma_get(at_v + st * S::KV_BYTES + c * BN * 128, &mv, hk * D + 64 * c, j * BN, bar.v_full + 8 * st);
                }
            }
        }
    } else {                                                               /* ---- consumers ---- */
        lm_regs_more<240>();
        const int w = wg - 1;
        walk<D, BN, SINKS> x = { a, at_info, w * 64, w * 64 + static_cast<int>(threadIdx.x % 128 / 32) * 16 + lane / 4, 0, 0, 0, 0, 0, 0, {} };
        lm_fwd_consume<D, BN, S, false>(base, bar, w, a.scale, x);
    }
#endif
}
template <int D, int BN, bool SINKS> lm_err launch_with(const lm_call *c, const lm_attn_args &f, args a, cudaStream_t s) {
    using S = shape<D, BN>;
    CUtensorMap q, k, v;
    LM_TRY(lm_tma_map(&q, f.q.p, f.n, static_cast<int64_t>(f.heads) * D, f.q.rs, BM));
    LM_TRY(lm_tma_map(&k, f.k.p, f.n, static_cast<int64_t>(f.kv) * D, f.k.rs, BN));
    LM_TRY(lm_tma_map(&v, f.v.p, f.n, static_cast<int64_t>(f.kv) * D, f.v.rs, BN));
    a.tiles = static_cast<int>(lm_ceil_div(f.n, static_cast<int64_t>(BM))) * f.heads;
    if (cudaFuncSetAttribute(hopper_fwd<D, BN, SINKS>, cudaFuncAttributeMaxDynamicSharedMemorySize, S::BYTES) != cudaSuccess) return LM_E_DEVICE;
    const int units = c->dev->units;
    hopper_fwd<D, BN, SINKS><<<static_cast<unsigned>(a.tiles < units ? a.tiles : units), 384, S::BYTES, s>>>(q, k, v, a);
    return lm_cuda_launched();
}
/* Kernels of their own: the branch where a tile is finished cost attention without sinks 3 to 5 % (docs/benchmarks/cuda.md). */
template <int D, int BN> lm_err launch(const lm_call *c, const lm_attn_args &f, const args &a, cudaStream_t s) {
    return a.sinks ? launch_with<D, BN, true>(c, f, a, s) : launch_with<D, BN, false>(c, f, a, s);
}
lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_attn_args f = lm_attn_args_of(c);
    const cudaStream_t s = LM_CUDA_STREAM(scratch);
    args a = {};
    if (!f.n) return LM_OK;
    if (f.n * f.heads > INT32_MAX / 2) return LM_E_RANGE;
    a.o = lm_cv_of(&c->out[0]); a.lse = static_cast<float *>(c->out[1].data); a.sinks = lm_has(c, 4) ? static_cast<const float *>(c->in[4].data) : NULL; a.start = f.start; a.counter = static_cast<int *>(c->shared);
    a.n = static_cast<int>(f.n);
    a.window = static_cast<int>(f.window < f.n ? f.window : 0);
    a.heads = f.heads;
    a.group = f.heads / f.kv;
    a.scale = f.scale;
    if (cudaMemsetAsync(a.counter, 0, sizeof *a.counter, s) != cudaSuccess) return LM_E_DEVICE;
    switch (f.d) {
        case 64: return launch<64, 128>(c, f, a, s);
        case 96: return launch<96, 128>(c, f, a, s);
        case 128: return launch<128, 128>(c, f, a, s);
        default: return launch<256, 64>(c, f, a, s);
    }
}
bool accepts(const lm_call *c) { return lm_attn_hopper(c, 7, 1) && lm_is_contig(&c->out[1]); }
size_t shared(const lm_call *c) { (void)c; return sizeof(int); }
}
LM_HOPPER_ONE(attn, "attn/hopper", accepts, run, shared)
