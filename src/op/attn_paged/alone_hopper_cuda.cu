/* alone_hopper_cuda.cu — attention of prompts with the bits that decode_hopper_cuda.cu gives each row where several blocks share it: for deterministic mode.
 *
 *   A block has 64 rows that follow each other and up to four query heads of one kv head; each of its eight warps eight rows, whose heads are the columns of
 *   unit.cuh's products. Rows of one sequence whose last page is the same (and the first, in a window) are cut into the same parts there: they are a segment,
 *   and one reading of their pages serves them all. Parts come one after another: what a block's warp has in the other kernel is begun, ended and joined here
 *   before the next, so registers hold two sets of sums.
 *   A row that does not see a unit which its neighbours see keeps its numbers to the bit: it multiplies by 1 and adds 0. (Unless a value is not finite, of a
 *   token of its own prompt behind it: then that row is lost here, and in the usual mode.)
 *   A warp asks the copy engine for stages of four units. */
#include "op/attn_paged/unit.cuh"
#include "op/overlap.cuh"
namespace {
enum { WARPS = 8, ROWS = 8 * WARPS, OF = 4 /* warps of a block there */, UNITS = 4, ALL = 128 + 32 * WARPS };
template <int D, int NH> struct shape { enum { HALF = 16 * D * 2, UNIT = 2 * HALF, STAGE = UNITS * UNIT, STAGES = D == 64 ? 6 : 5, AT_Q = STAGES * STAGE, AT_BAR = AT_Q + WARPS * NH * D / 16 * 256, BYTES = AT_BAR + STAGES * 16 + 1024 }; };
struct args { CUtensorMap k, v; paged p; int packs; };
#ifdef LM_HOPPER_CODE
/* the same in all lanes, and the compiler knows: else each shuffle behind a branch on it is guarded */
__device__ __forceinline__ int uniform(int x) { return __shfl_sync(0xffffffffu, x, 0); }
struct block { int pos[ROWS], seq[ROWS]; unsigned begins[ROWS / 32]; };
/* Rows [r0, r1): hi, lo: the last key that one sees, and the first; count pages from p0 on, cut by `each`. */
struct segment {
    int r0, r1, s, hi, lo, p0, count, each;
    __device__ __forceinline__ segment() : r1(0) {}
    __device__ __forceinline__ bool next(const block &b, const paged &p) {
        r0 = r1;
        if (r0 >= ROWS) return false;
        const uint64_t left = (static_cast<uint64_t>(b.begins[1]) << 32 | b.begins[0]) & ~0ull << r0 << 1;
        r1 = uniform(r0 == ROWS - 1 || !left ? static_cast<int>(ROWS) : __ffsll(static_cast<long long>(left)) - 1);
        s = uniform(b.seq[r0]);
        int most = -1, least = INT32_MAX;
        for (int i = r0 + static_cast<int>(threadIdx.x) % 32; i < r1; i += 32) { most = max(most, b.pos[i]); least = min(least, static_cast<int>(first_seen(p, b.pos[i]))); }
        hi = __reduce_max_sync(0xffffffffu, most); lo = __reduce_min_sync(0xffffffffu, least);
        if (s < 0) { count = 0; return true; }
        p0 = lo / LM_KV_PAGE; count = hi / LM_KV_PAGE - p0 + 1; each = (count + p.split - 1) / p.split;
        return true;
    }
};
/* The units of a segment in the order of parts: part of a block, of a warp in it, page. */
__device__ __forceinline__ int unit_at(const segment &g, int i) {
    const int rank = i / (OF * g.each), in = i - rank * OF * g.each, n = min(g.each, g.count - rank * g.each), w = in / n;
    return (g.p0 + rank * g.each + in - w * n) * LM_KV_PAGE + w * 16;
}
#endif
template <int D, int NH> __global__ void __launch_bounds__(ALL, 1) alone(const __grid_constant__ args a) {
#ifdef LM_HOPPER_CODE
    using S = shape<D, NH>;
    constexpr int KS = D / 16;
    extern __shared__ char raw[];
    __shared__ block b;
    const paged &p = a.p;
    const int G = p.heads / p.kv, lane = threadIdx.x % 32, each = p.kv * a.packs, tile = static_cast<int>(gridDim.x - 1 - blockIdx.x) / each,
              hk = static_cast<int>(gridDim.x - 1 - blockIdx.x) % each / a.packs, h0 = static_cast<int>(gridDim.x - 1 - blockIdx.x) % a.packs * NH;      /* long rows first */
    const int64_t n0 = static_cast<int64_t>(tile) * ROWS;
    const uint32_t base = (lm_smem(raw) + 1023) & ~1023u, full = base + S::AT_BAR, empty = full + S::STAGES * 8;
    if (threadIdx.x == 0) {
        for (int i = 0; i < S::STAGES; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, WARPS); }
        lm_mbar_inited();
    }
    lm_let_next_begin();
    lm_wait_before();
    if (p.choose && scattered(p, n0)) return;
    if (threadIdx.x < ROWS) {
        int key[2][3];
#pragma unroll
        for (int i = 0; i < 2; i++) {                                     /* this row and the one before */
            const int64_t n = n0 + threadIdx.x - i;
            int x = -1, s = -1;
            if (n >= n0 && n < p.n) { x = p.pos[n]; s = p.seq[n]; }
            if (x >= 0 && (s < 0 || s >= p.seqs || x >= p.per * LM_KV_PAGE)) { if (p.fault) *p.fault = LM_E_RANGE; x = -1; }
            if (x < 0) s = -1;
            key[i][0] = s; key[i][1] = x < 0 ? -1 : x / LM_KV_PAGE; key[i][2] = x < 0 ? -1 : static_cast<int>(first_seen(p, x)) / LM_KV_PAGE;
            if (i == 0) { b.pos[threadIdx.x] = x; b.seq[threadIdx.x] = s; }
        }
        const unsigned begins = __ballot_sync(0xffffffffu, threadIdx.x == 0 || key[0][0] != key[1][0] || key[0][1] != key[1][1] || key[0][2] != key[1][2]);
        if (lane == 0) b.begins[threadIdx.x / 32] = begins;
    }
    __syncthreads();
    const int wg = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
    segment g;
    if (wg == 0) {
        lm_regs_less<40>();
        if (threadIdx.x >= 32) return;
        int k = 0;
        while (g.next(b, p)) {
            const int total = g.count * OF;
            for (int i0 = 0; i0 < total; i0 += 32) {
                int x = INT32_MAX, row = 0;
                if (i0 + lane < total) {
                    x = unit_at(g, i0 + lane);
                    int page = x <= g.hi ? p.table[g.s * p.per + x / LM_KV_PAGE] : 0;
                    if (page < 0 || page >= p.pages) { if (p.fault) *p.fault = LM_E_RANGE; page = 0; }
                    row = page * p.kv + hk;
                }
                const unsigned there = __ballot_sync(0xffffffffu, x <= g.hi);
                for (int q = 0; q < 32 && i0 + q < total; q += UNITS, k++) {
                    const int s = k % S::STAGES;
                    const uint32_t bar = full + 8 * s;
                    if (lane == 0) {
                        lm_mbar_wait(empty + 8 * s, (k / S::STAGES & 1) ^ 1);
                        lm_mbar_expect(bar, __popc(there >> q & 15) * S::UNIT);
                    }
                    __syncwarp();
#pragma unroll
                    for (int i = 0; i < UNITS; i++) {
                        const int r = __shfl_sync(0xffffffffu, row, q + i), in = __shfl_sync(0xffffffffu, x, q + i) % LM_KV_PAGE;
                        if (lane || !(there >> (q + i) & 1)) continue;
                        const uint32_t at = base + s * S::STAGE + i * S::UNIT;
                        lm_tma_get(at, &a.k, 0, r * D + in / 16 * (D / 4), bar);
#pragma unroll
                        for (int c = 0; c < D / 64; c++) lm_tma_get(at + S::HALF + c * 16 * 128, &a.v, 64 * c, r * LM_KV_PAGE + in, bar);
                    }
                    __syncwarp();
                }
            }
        }
        return;
    }
    lm_regs_more<232>();
    const int w = uniform(static_cast<int>(threadIdx.x) / 32 - 4), t = lane % 4, mine = w * 8;
    const uint32_t at_q = base + S::AT_Q + w * (NH * KS * 256) + lane * 8;  /* in registers they would be too many */
    {
        uint32_t v[NH][KS][2];
        const int64_t n = n0 + mine + lane / 4;
        const int64_t from = (n < p.n ? n : 0) * p.q.rs + static_cast<int64_t>(hk) * G * D + 2 * t;
        const auto load = [&](auto one) {
#pragma unroll
            for (int h = 0; h < NH; h++)
#pragma unroll
                for (int ks = 0; ks < KS; ks++)
#pragma unroll
                    for (int e = 0; e < 2; e++) v[h][ks][e] = one(from + min(h0 + h, G - 1) * D + ks * 16 + e * 8);
        };
        if (p.q.bf16) load([&](int64_t at) { return *reinterpret_cast<const uint32_t *>(static_cast<const __nv_bfloat16 *>(p.q.p) + at); });
        else load([&](int64_t at) { return lm_pair_of(p.q, at); });       /* rows and heads that are not there repeat others, and are not stored */
#pragma unroll
        for (int h = 0; h < NH; h++)
#pragma unroll
            for (int ks = 0; ks < KS; ks++)
                asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(at_q + (h * KS + ks) * 256), "r"(v[h][ks][0]), "r"(v[h][ks][1]) : "memory");
    }
    const auto q = [&](int h, int ks) {
        uint2 v;
        asm volatile("ld.shared.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "r"(at_q + (h * KS + ks) * 256));
        return v;
    };
    const float s2 = p.scale * LM_LOG2E;
    float y[KS][NH][4] = {}, z[NH][2] = {};
    lm_unit_join so[NH][2];
    int k = 0;
    while (g.next(b, p)) {
        if (!g.count) continue;
        const bool here = mine + 8 > g.r0 && mine < g.r1;
        int pos[2], from[2];
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int r = mine + 2 * t + e;
            pos[e] = r >= g.r0 && r < g.r1 ? b.pos[r] : -1;
            from[e] = static_cast<int>(first_seen(p, pos[e]));
        }
        const int least = __reduce_min_sync(0xffffffffu, min(pos[0], pos[1])), most = here ? __reduce_max_sync(0xffffffffu, max(pos[0], pos[1])) : -1,
                  far = __reduce_max_sync(0xffffffffu, max(from[0], from[1])), total = g.count * OF;
        int i = 0;
        for (int first = 0; first < g.count; first += g.each) {
            const int pages = min(g.each, g.count - first);
            for (int part = 0; part < OF; part++) {
                lm_unit_sums<D, NH, 1> u;
                bool any = false;
                u.begin();
                for (int j = 0; j < pages; j++) {
                    const int s = k % S::STAGES, x0 = (g.p0 + first + j) * LM_KV_PAGE + part * 16;
                    const uint32_t keys = base + s * S::STAGE + i % UNITS * S::UNIT, values = keys + S::HALF;
                    if (i % UNITS == 0) lm_mbar_wait(full + 8 * s, k / S::STAGES & 1);
                    if (x0 <= most) {
                        if (x0 < g.lo || x0 + 15 > g.hi) lm_unit_clear<D, 1>(values, x0, g.lo, g.hi);
                        u.add(keys, values, q, s2, x0 >= far && x0 + 15 <= least, [&](int e, int l) { return (x0 + l >= from[e]) & (x0 + l <= pos[e]); });
                        any = true;
                    }
                    i++;
                    if (i % UNITS == 0 || i == total) {
                        __syncwarp();
                        if (lane == 0) lm_mbar_arrive(empty + 8 * s);
                        k++;
                    }
                }
                if (!any) continue;                                        /* a part without tokens adds nothing */
                u.whole();
#pragma unroll
                for (int h = 0; h < NH; h++) {
#pragma unroll
                    for (int e = 0; e < 2; e++) { so[h][e].next(u.top[h][e]); z[h][e] = so[h][e].add(z[h][e], u.sum[h][e]); }
#pragma unroll
                    for (int d = 0; d < KS; d++)
#pragma unroll
                        for (int c = 0; c < 4; c++) y[d][h][c] = so[h][c & 1].add(y[d][h][c], u.o[d][h][c]);
                }
            }
        }
    }
#pragma unroll
    for (int h = 0; h < NH; h++)
#pragma unroll
        for (int e = 0; e < 2; e++) z[h][e] = lm_unit_end(z[h][e]);
#pragma unroll
    for (int h = 0; h < NH; h++)
#pragma unroll
        for (int d = 0; d < KS; d++)
#pragma unroll
            for (int r = 0; r < 2; r++) {
                float f[2];
#pragma unroll
                for (int e = 0; e < 2; e++) f[e] = __fmul_rn(y[d][h][2 * r + e], z[h][e]);
                const int64_t at = (static_cast<int64_t>(hk) * G + h0 + h) * D + d * 16 + r * 8;
                if (p.o.bf16) {                                           /* a lane gets two dimensions of one row */
                    const uint32_t v = lm_turned(lm_pack2(f[0], f[1]));
                    const int64_t n = n0 + mine + lane / 4;
                    if (h0 + h < G && n < p.n) *reinterpret_cast<uint32_t *>(static_cast<__nv_bfloat16 *>(p.o.p) + n * p.o.rs + at + 2 * t) = v;
                } else if (h0 + h < G)
#pragma unroll
                    for (int e = 0; e < 2; e++)
                        if (const int64_t n = n0 + mine + 2 * t + e; n < p.n) static_cast<float *>(p.o.p)[n * p.o.rs + at + lane / 4] = f[e];
            }
#endif
}
template <int D, int NH> lm_err launch(const paged &p, cudaStream_t s) {
    args a = {};
    a.p = p; a.packs = (p.heads / p.kv + NH - 1) / NH;
    const int64_t heads = p.pages * p.kv, blocks = lm_ceil_div(p.n, static_cast<int64_t>(ROWS)) * p.kv * a.packs;
    if (heads * D > INT32_MAX || p.per * LM_KV_PAGE > INT32_MAX / 2 || blocks > INT32_MAX) return LM_E_RANGE;
    LM_TRY(lm_tma_map(&a.k, p.k, heads * D, 64, 64, D / 4));
    LM_TRY(lm_tma_map(&a.v, p.v, heads * LM_KV_PAGE, D, D, 16));
    return lm_launch_early(alone<D, NH>, a, dim3(static_cast<unsigned>(blocks)), ALL, shape<D, NH>::BYTES, 1, true, s);
}
}
lm_err lm_paged_alone(const paged &p, int d, cudaStream_t s) {
    const int G = p.heads / p.kv;
    if (d == 64) return G == 1 ? launch<64, 1>(p, s) : G == 2 ? launch<64, 2>(p, s) : launch<64, 4>(p, s);
    return G == 1 ? launch<128, 1>(p, s) : launch<128, 2>(p, s);
}
