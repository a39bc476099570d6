/* decode_hopper_cuda.cu — see decode.cuh. Bound by reading the pages, and where those are few by the way from one kernel to the next.
 *
 *   A cluster of up to eight blocks has one row and one kv head, with all query heads that read it (up to 16); each block has a part of the
 *   pages, each of its three or four warps every third or fourth unit of 16·NT tokens. A warp asks the copy engine for its first units at once, all that fit:
 *   those no row of this step writes before the kernel before this one is over, the others behind it; nothing is shared before the end.
 *   Tokens are the rows of both products, heads the columns (Sᵀ = K Qᵀ, Oᵀ = Vᵀ Pᵀ): eight columns hold the heads of a group, where sixteen
 *   rows would be half empty. Weights are split into two bf16 numbers, so only the inputs are rounded.
 *   At the end each warp sends its sums to the blocks of its cluster, each of which finishes a range of dimensions: stores that count
 *   themselves in at that block's barrier, so nobody waits for a block that has nothing for it. Parts are added in order, each time by the largest so far:
 *   alone_hopper_cuda.cu has them one after another and must have the same bits.
 *
 * Keys lie sixteen tokens side by side in a page (op/kv_write): sixteen tokens and four dimensions are 128 bytes, a row of the map. */
#include "op/attn_paged/unit.cuh"
#include "op/overlap.cuh"
namespace {
/* slots: units of a warp in shared memory; ahead: units behind them that are asked for towards the second-level cache */
struct how { int slots, ahead; };
struct args { CUtensorMap k, v; paged p; how h; };
__host__ __device__ constexpr int pairs_of(int G) { return (G + 1) / 2; }
template <int D, int NH, int NT, int WARPS>
__global__ void __launch_bounds__(WARPS * 32, D * NH <= 64 ? 24 / WARPS : D * NH <= 128 ? 4 : 2) decode(const __grid_constant__ args a) {
#ifdef LM_HOPPER_CODE
    constexpr int KS = D / 16, TU = 16 * NT, HALF = TU * D * 2, UNIT = 2 * HALF;
    extern __shared__ __align__(1024) char mem[];
    const paged &p = a.p;
    const int lane = threadIdx.x % 32, w = threadIdx.x / 32, g = lane / 4, t = lane % 4, G = p.heads / p.kv, width = 2 * pairs_of(G),
              hk = static_cast<int>(blockIdx.y);
    const int rank = static_cast<int>(blockIdx.x % static_cast<unsigned>(p.split)), own = D / p.split /* dimensions that a block finishes */,
              shift = 31 - __clz(own), sources = WARPS * p.split;
    const int64_t n = blockIdx.x / static_cast<unsigned>(p.split);
    const uint32_t base = lm_smem(mem), mine = base + w * a.h.slots * UNIT, at_o = base + WARPS * a.h.slots * UNIT,
                   at_top = at_o + sources * own * width * 4, got = at_top + sources * width * 8, full = got + 8 + w * a.h.slots * 8;
    if (!p.early) lm_wait_before();
    int pos = p.pos[n], least = INT32_MAX;
    const int s = p.seq[n];
    if (p.early && p.n <= 64) {                                           /* the first token of this sequence that is still to come */
#pragma unroll
        for (int e = 0; e < 2; e++)
            if (const int i = lane + 32 * e; i < p.n) { const int x = p.pos[i]; if (p.seq[i] == s && x >= 0 && x < least) least = x; }
        least = __reduce_min_sync(0xffffffffu, least);
    } else least = 0;
    if (p.choose && !scattered(p, n)) { lm_wait_before(); return; }       /* all blocks of the cluster alike */
    if (pos >= 0 && (s < 0 || s >= p.seqs || pos >= p.per * LM_KV_PAGE)) { if (p.fault) *p.fault = LM_E_RANGE; pos = -1; }
    const int from = pos < 0 ? 0 : static_cast<int>(first_seen(p, pos)), p0 = from / LM_KV_PAGE,
              count = pos < 0 ? 0 : pos / LM_KV_PAGE - p0 + 1, each = (count + p.split - 1) / p.split;
    const int begin = (p0 + rank * each) * LM_KV_PAGE, end = min(begin + each * LM_KV_PAGE, pos + 1), first = begin + w * TU;
    const int units = first < end ? (end - first + WARPS * TU - 1) / (WARPS * TU) : 0;
    const auto token = [&](int i) { return first + i * WARPS * TU; };
    const auto pages = [&](int i) {                                       /* lane l: the page of unit i + l */
        if (i + lane >= units) return 0;
        int page = p.table[s * p.per + token(i + lane) / LM_KV_PAGE];
        if (page < 0 || page >= p.pages) { if (p.fault) *p.fault = LM_E_RANGE; page = 0; }
        return page;
    };
    if (lane == 0) {
        for (int i = 0; i < a.h.slots; i++) lm_mbar_init(full + 8 * i, 1);
        if (w == 0 && p.split > 1) { lm_mbar_init(got, 1); lm_mbar_expect(got, sources * width * (own * 4 + 8)); }
        lm_mbar_inited();
    }
    int held = pages(0), asked = 0, to = 0;
    __syncwarp();
    if (p.split > 1) lm_cluster_arrive();                                 /* barriers are there: waited for before anything is sent */
    const auto ask = [&] {
        if (asked && asked % 32 == 0) held = pages(asked);
        const int row = __shfl_sync(0xffffffffu, held, asked % 32) * p.kv + hk, x = token(asked) % LM_KV_PAGE;
        if (lane == 0) {
            const uint32_t at = mine + to * UNIT, bar = full + 8 * to;
            lm_mbar_expect(bar, UNIT);
            lm_tma_get(at, &a.k, 0, row * D + x / 16 * (D / 4), bar);
#pragma unroll
            for (int c = 0; c < D / 64; c++) lm_tma_get(at + HALF + c * TU * 128, &a.v, 64 * c, row * LM_KV_PAGE + x, bar);
        }
        asked++;
        if (++to == a.h.slots) to = 0;
    };
    const int room = min(units, a.h.slots);
    if (p.early) {
        while (asked < room && token(asked) + TU <= least) ask();
        if (lane == 0)                                                    /* what does not fit: towards the second-level cache */
            for (int i = room; i < min(min(units, 32), room + a.h.ahead); i++) {
                const int page = p.table[s * p.per + token(i) / LM_KV_PAGE];
                if (page < 0 || page >= p.pages) continue;
                const int64_t at = ((static_cast<int64_t>(page) * p.kv + hk) * LM_KV_PAGE + token(i) % LM_KV_PAGE) * D;
                asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p.k + at), "r"(HALF));
                asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p.v + at), "r"(HALF));
            }
        lm_wait_before();
    }
    lm_let_next_begin();                                                  /* not before: its weights would be in the way of these pages */
    while (asked < room) ask();
    uint32_t q[NH][KS][2];
#pragma unroll
    for (int h = 0; h < NH; h++)
#pragma unroll
        for (int ks = 0; ks < KS; ks++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                q[h][ks][e] = h * 8 + g < G ? lm_pair_of(p.q, n * p.q.rs + (static_cast<int64_t>(hk) * G + h * 8 + g) * D + ks * 16 + e * 8 + 2 * t) : 0;
    const float s2 = p.scale * LM_LOG2E;
    lm_unit_sums<D, NH, NT> u;
    u.begin();
    for (int i = 0, slot = 0, parity = 0; i < units; i++) {
        const uint32_t keys = mine + slot * UNIT, values = keys + HALF;
        const int x0 = token(i);
        const bool whole = x0 >= from && x0 + TU <= pos + 1;
        lm_mbar_wait(full + 8 * slot, parity);
        if (!whole) lm_unit_clear<D, NT>(values, x0, from, pos);
        u.add(keys, values, [&](int h, int ks) { return make_uint2(q[h][ks][0], q[h][ks][1]); }, s2, whole, [&](int, int i) { return (x0 + i >= from) & (x0 + i <= pos); });
        __syncwarp();
        if (asked < units) ask();
        if (++slot == a.h.slots) { slot = 0; parity ^= 1; }
    }
    u.whole();
    /* A block alone has no cluster, and instructions for one are refused then. */
    const int source = rank * WARPS + w;
    if (p.split > 1) lm_cluster_wait();
    const auto send = [&](uint32_t at, int owner, float x, float y) {
        if (p.split > 1) lm_send2(lm_smem_of(at, static_cast<uint32_t>(owner)), x, y, lm_smem_of(got, static_cast<uint32_t>(owner)));
        else asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(x), "f"(y) : "memory");
    };
#pragma unroll
    for (int h = 0; h < NH; h++) {
        const int head = h * 8 + 2 * t;
        if (head >= G) continue;
        if (g < p.split)
#pragma unroll
            for (int e = 0; e < 2; e++) send(at_top + (source * width + head + e) * 8, g, u.top[h][e], u.sum[h][e]);
#pragma unroll
        for (int b = 0; b < D / 8; b++)
            send(at_o + ((source * own + (b * 8 & (own - 1)) + g) * width + head) * 4, b * 8 >> shift, u.o[b / 2][h][b % 2 * 2],
                 u.o[b / 2][h][b % 2 * 2 + 1]);
    }
    if (p.split > 1) lm_mbar_wait_cluster(got, 0); else __syncthreads();
    for (int i = threadIdx.x; i < G * own; i += WARPS * 32) {
        const int h = i >> shift, d = i & (own - 1);
        float y = 0, z = 0;
        lm_unit_join row;
#pragma unroll 8
        for (int q = 0; q < sources; q++) {
            const float2 x = lm_lds2(at_top + (q * width + h) * 8);
            row.next(x.x);
            y = row.add(y, lm_ldsf(at_o + ((q * own + d) * width + h) * 4)); z = row.add(z, x.y);
        }
        lm_st1(p.o, n * p.o.rs + (static_cast<int64_t>(hk) * G + h) * D + rank * own + d, __fmul_rn(y, lm_unit_end(z)));
    }
#endif
}
template <int D, int NH, int NT, int WARPS> lm_err launch(const paged &p, const how &h, cudaStream_t s) {
    constexpr int TU = 16 * NT, UNIT = TU * D * 4;
    args a = {};
    a.p = p; a.h = h;
    const int64_t heads = p.pages * p.kv, tokens = lm_ceil_div(p.per, static_cast<int64_t>(p.split)) * LM_KV_PAGE,
                  most = lm_ceil_div(tokens, static_cast<int64_t>(WARPS * TU));
    if (heads * D > INT32_MAX) return LM_E_RANGE;
    if (most < a.h.slots) a.h.slots = static_cast<int>(most);
    LM_TRY(lm_tma_map(&a.k, p.k, heads * D, 64, 64, NT * D / 4));
    LM_TRY(lm_tma_map(&a.v, p.v, heads * LM_KV_PAGE, D, D, TU));
    const int width = 2 * pairs_of(p.heads / p.kv);
    const size_t shared = static_cast<size_t>(WARPS * a.h.slots * (UNIT + 8) + WARPS * D * width * 4 + WARPS * p.split * width * 8 + 8);
    const dim3 grid(static_cast<unsigned>(p.n * p.split), static_cast<unsigned>(p.kv));
    return lm_launch_early(decode<D, NH, NT, WARPS>, a, grid, WARPS * 32, shared, static_cast<unsigned>(p.split), true, s);
}
/* What was best in the chain of a decode step on an H200, heads of 64 and 480 tokens: where rows are many enough without parts, large units, and
 * blocks of which four fit a multiprocessor: those of 64 rows and 8 kv heads then run all at once; else small ones, that the products' blocks leave room for. */
template <int D, int NH> lm_err choose(const paged &p, cudaStream_t s) {
    if (p.split == 1) return launch<D, NH, 2, 3>(p, { 2, 0 }, s);
    return launch<D, NH, 1, 4>(p, { lm_ceil_div(p.per, static_cast<int64_t>(p.split)) <= 2 ? 1 : 2, 1 }, s);
}
}
bool lm_paged_decode_takes(const lm_dev *dev, int d) { return dev->features & LM_CUDA_WGMMA && (d == 64 || d == 128); }
lm_err lm_paged_decode(const paged &p, int d, cudaStream_t s) {
    const bool two = p.heads / p.kv > 8;
    if (d == 64) return two ? choose<64, 2>(p, s) : choose<64, 1>(p, s);
    return two ? choose<128, 2>(p, s) : choose<128, 1>(p, s);
}
