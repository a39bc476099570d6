/* tiles_hopper.cuh — A B of bf16 on Hopper's matrix units, and what a kernel of one's own does with each tile of sums while it is in registers:
 * for *_hopper_cuda.cu files. A product whose result is only read to be turned into something else need not be stored and read again.
 *
 * A is (M,K), K contiguous, or (K,M), M contiguous (A_COLS). B is (N,K), K contiguous, or (K,N), N contiguous (COLS). M, N and K are any; rows
 * of both begin at multiples of 16 bytes.
 * Beyond the edges operands are zero, and what is put there is not written.
 *
 *   CTA: tiles of 128×256, one after another (as many CTAs as multiprocessors), four stages of 64 of K (48 KB each). One warpgroup brings, two
 *   multiply 64×256 each: four wgmma m64n256k16 a stage into 128 registers. A finished tile is rounded to bf16 into 64 registers, and what is done
 *   with it is cut into eight slices, one behind each of the next tile's first eight stages of products, which go on meanwhile.
 *   Order of tiles: sixteen rows of them side by side, along their columns.
 * Sums are over K in order: bits do not depend on the number of CTAs.
 *
 * An epilogue E is a struct of the kernel's arguments with
 *   static constexpr bool COLS, A_COLS B's and A's form
 *   static constexpr bool SHARES       tiles of a last round that is not full are divided along K among all CTAs
 *   static constexpr bool PAIRED       columns 0-127 and 128-255 of tile n are columns 128 n … and `half` + 128 n … of B: N counts the pairs
 *                                      (with lm_tiles.up: 128 n … of that)
 *   static float sum(seen, e, c)       optional: what is made of a sum of row + 8 e before it is rounded
 *   struct seen;  seen before(row, n)        what it wants to have read before the products, and what it keeps from slice to slice.
 *                                            row: this thread's first, the other is 8 below; n: the tile's number
 *   template <int u> void slice(seen &, uint32_t *w, lm_tile_out &, row, col, n)              u = 0 … 7; col: the tile's first column;
 *                                            w[2x+e]: row + 8 e, columns col + 8x + 2 (lane % 4) and the next. There may be no such row or column.
 *                                            Later slices see what is put there
 * and writes 16 rows × 32 columns a warp with lm_tile_out.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE; LM_E_SHAPE where rows do not begin at 16 bytes. */
#ifndef LM_TILES_HOPPER_CUH
#define LM_TILES_HOPPER_CUH
#include "device/hopper.cuh"
#include "op/cuda.cuh"
enum { LM_TILE_M = 128, LM_TILE_N = 256, LM_TILE_K = 64, LM_TILE_STAGES = 4, LM_TILE_SLICES = 8, LM_TILE_A = LM_TILE_M * LM_TILE_K * 2, LM_TILE_B = LM_TILE_N * LM_TILE_K * 2,
       LM_TILE_PUT = 16 * 64, LM_TILE_PUTS = 4 };
enum { LM_TILE_AT_B = LM_TILE_STAGES * LM_TILE_A, LM_TILE_AT_OUT = LM_TILE_AT_B + LM_TILE_STAGES * LM_TILE_B, LM_TILE_AT_BAR = LM_TILE_AT_OUT + 8 * LM_TILE_PUTS * LM_TILE_PUT,
       LM_TILE_SMEM = LM_TILE_AT_BAR + LM_TILE_STAGES * 16 + 1024 };
/* leading dimensions in elements; half: PAIRED's, or up, where the second half of B is a matrix of its own; room: SHARES', NULL: they have none */
typedef struct { const void *a, *b; int64_t lda, ldb, M, N, K, half; void *room; const void *up; } lm_tiles;
/* kb: stages a tile; rows: of tiles; whole: tiles that are done whole, the rest in groups of `of` that `among` CTAs share; flag, sums: a share's */
template <class E> struct lm_tiles_args { CUtensorMap a, b, up; int kb, rows, tiles_n, half, whole, of, among; int *flag; float4 *sums; E e; };
/* where tiles go: a bf16 matrix in boxes of 16 × 32 */
static inline lm_err lm_tile_map(CUtensorMap *m, void *c, int64_t rows, int64_t cols, int64_t ld) { return lm_tma_map_of(m, c, rows, cols, ld, 16, 32); }
#ifdef LM_HOPPER_CODE
/* A warp's way to memory: rooms of 16 × 32 in turn. ready<n>, then n times two halves() in any order, then send() n times. */
struct lm_tile_out {
    uint32_t at, mine; int turn;
    __device__ __forceinline__ lm_tile_out(uint32_t room) {
        const int lane = threadIdx.x % 32, r = lane % 16;
        at = room; mine = r * 64 + (lane / 16 ^ (r >> 1 & 3)) * 16; turn = 0;
    }
    __device__ __forceinline__ uint32_t room(int i) const { return at + (turn + i & LM_TILE_PUTS - 1) * LM_TILE_PUT; }
    template <int n> __device__ __forceinline__ void ready() const {
        if (threadIdx.x % 32 == 0) lm_bulk_wait_read<LM_TILE_PUTS - n>();
        __syncwarp();
    }
    /* half j of room i: w[2x+e]: row + 8 e, columns 16 j + 8x …, x < 2 */
    __device__ __forceinline__ void half(int i, int j, const uint32_t *w) const { lm_stsm(room(i) + (mine ^ 32 * j), w); }
    __device__ __forceinline__ void sent() const { lm_fence_async(); __syncwarp(); }                     /* all halves are in */
    __device__ __forceinline__ void send(const CUtensorMap *m, int row, int col) {                      /* row, col: the warp's first */
        if (threadIdx.x % 32 == 0) { lm_tma_put(m, col, row, room(0)); lm_bulk_commit(); }
        turn++;
    }
    __device__ __forceinline__ void put(const CUtensorMap *m, int row, int col, const uint32_t *w) {
        ready<1>(); half(0, 0, w); half(0, 1, w + 4); sent(); send(m, row, col);
    }
};
__device__ __forceinline__ int lm_tile_row(int row) { return row - static_cast<int>(threadIdx.x % 32 / 4); }      /* the warp's first */
__device__ __forceinline__ float2 lm_two(uint32_t u) { return make_float2(__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u)); }
template <class E> __device__ __forceinline__ void lm_tile_of(const lm_tiles_args<E> &x, int t, int *m, int *n) {
    const int per = 16 * x.tiles_n, g = t / per, in = t - g * per, left = x.rows - g * 16, side = left < 16 ? left : 16;
    *m = g * 16 + in % side; *n = in / side;
}
/* Shares: where CTA i's begins among the stages of the tiles that are divided. Groups are cut alike, so that CTAs that read the same of A or
 * B do so at the same time. No part of a tile is less than what slices need. */
template <class E> __device__ __forceinline__ int lm_tile_cut(const lm_tiles_args<E> &x, int i) {
    const int group = i / x.among, all = (x.rows * x.tiles_n - x.whole) * x.kb;
    const int at = min(all, group * x.of * x.kb + (i - group * x.among) * x.of * x.kb / x.among), in = at % x.kb;
    return in < LM_TILE_SLICES ? at - in : in > x.kb - LM_TILE_SLICES ? at - in + x.kb : at;
}
/* What a CTA does, in order: tiles from stage b0 to b1. */
template <class E> struct lm_tile_walk {
    int tile, at, end, t, b0, b1;
    __device__ __forceinline__ explicit lm_tile_walk(const lm_tiles_args<E> &x) {
        tile = static_cast<int>(blockIdx.x);
        at = E::SHARES ? lm_tile_cut(x, tile) : 0; end = E::SHARES ? lm_tile_cut(x, tile + 1) : 0;
    }
    __device__ __forceinline__ bool next(const lm_tiles_args<E> &x) {
        if (tile < x.whole) { t = tile; b0 = 0; b1 = x.kb; tile += static_cast<int>(gridDim.x); return true; }
        if (!E::SHARES || at >= end) return false;
        t = x.whole + at / x.kb; b0 = at % x.kb; b1 = min(x.kb, b0 + end - at); at += b1 - b0;
        return true;
    }
};
/* What is left to do with a finished tile. */
template <class E> struct lm_tile_left { uint32_t w[64]; typename E::seen seen; int row, col, n; };
template <class E> __device__ __forceinline__ auto lm_tile_round(const typename E::seen &s, int e, float x, float y, int) -> decltype(E::sum(s, e, x), uint32_t()) {
    return lm_pack2(E::sum(s, e, x), E::sum(s, e, y));
}
template <class E> __device__ __forceinline__ uint32_t lm_tile_round(const typename E::seen &, int, float x, float y, long) { return lm_pack2(x, y); }
/* A stage's products: c = [c +] A B */
template <class E> __device__ __forceinline__ void lm_tile_stage(uint32_t base, int wg, int k, float *c, bool more) {
    constexpr int S = LM_TILE_STAGES;
    const int s = k % S;
    lm_mbar_wait(base + LM_TILE_AT_BAR + 8 * s, k / S & 1);
    const uint32_t ta = base + s * LM_TILE_A + wg * (LM_TILE_A / 2);
    const uint64_t da = E::A_COLS ? lm_desc_cols(ta, 64 * 128) : lm_desc_rows(ta);
    const uint32_t tb = base + LM_TILE_AT_B + s * LM_TILE_B;
    const uint64_t db = E::COLS ? lm_desc_cols(tb, 64 * 128) : lm_desc_rows(tb);
    lm_wgmma_fence();
#pragma unroll
    for (int q = 0; q < 4; q++)
        lm_wgmma<256>::template add<E::A_COLS ? 1 : 0, E::COLS ? 1 : 0>(c, da + (E::A_COLS ? 128 : 2) * q, db + (E::COLS ? 128 : 2) * q, more || q);
    lm_wgmma_commit();
}
__device__ __forceinline__ void lm_tile_release(uint32_t base, int k) {
    if (threadIdx.x % 32 == 0) lm_mbar_arrive(base + LM_TILE_AT_BAR + (LM_TILE_STAGES + k % LM_TILE_STAGES) * 8);
}
/* Stage u of a tile and slice u of the tile before */
template <class E, int u = 0> __device__ __forceinline__ void lm_tile_first(const lm_tiles_args<E> &x, uint32_t base, int wg, int &k, float *c, lm_tile_left<E> &left, lm_tile_out &out) {
    if constexpr (u < LM_TILE_SLICES) {
        lm_tile_stage<E>(base, wg, k, c, u > 0);
        if (u) { lm_wgmma_wait<1>(); lm_tile_release(base, k - 1); }
        x.e.template slice<u>(left.seen, left.w, out, left.row, left.col, left.n);
        k++;
        lm_tile_first<E, u + 1>(x, base, wg, k, c, left, out);
    }
}
template <class E, int u = 0> __device__ __forceinline__ void lm_tile_rest(const lm_tiles_args<E> &x, lm_tile_left<E> &left, lm_tile_out &out) {
    if constexpr (u < LM_TILE_SLICES) {
        x.e.template slice<u>(left.seen, left.w, out, left.row, left.col, left.n);
        lm_tile_rest<E, u + 1>(x, left, out);
    }
}
/* A share's sums go to the CTA that has the tile's first stages, which adds them in order of K. */
template <class E> __device__ __forceinline__ void lm_tile_hand_over(const lm_tiles_args<E> &x, const float *c) {
    float4 *to = x.sums + static_cast<int64_t>(blockIdx.x) * 32 * 256 + threadIdx.x - 128;
#pragma unroll
    for (int i = 0; i < 32; i++) __stcg(to + i * 256, make_float4(c[4 * i], c[4 * i + 1], c[4 * i + 2], c[4 * i + 3]));
    __threadfence();
    lm_bar_sync(1, 256);
    if (threadIdx.x == 128) lm_turn_set(x.flag + blockIdx.x, 1);
}
template <class E> __device__ __forceinline__ void lm_tile_gather(const lm_tiles_args<E> &x, float *c, int t) {
    const int end = (t - x.whole + 1) * x.kb;
    for (int q = static_cast<int>(blockIdx.x) + 1; lm_tile_cut(x, q) < end; q++) {
        if (threadIdx.x % 32 == 0) while (!lm_turn_now(x.flag + q)) {}
        __syncwarp();
        const float4 *from = x.sums + static_cast<int64_t>(q) * 32 * 256 + threadIdx.x - 128;
#pragma unroll
        for (int i = 0; i < 32; i += 8) {
            float4 v[8];                                                   /* eight on their way: left to itself the compiler waits for each */
#pragma unroll
            for (int j = 0; j < 8; j++)
                asm volatile("ld.global.cg.v4.f32 {%0,%1,%2,%3}, [%4];"
                             : "=f"(v[j].x), "=f"(v[j].y), "=f"(v[j].z), "=f"(v[j].w) : "l"(from + (i + j) * 256) : "memory");
#pragma unroll
            for (int j = 0; j < 8; j++) { float *to = c + 4 * (i + j); to[0] += v[j].x; to[1] += v[j].y; to[2] += v[j].z; to[3] += v[j].w; }
        }
    }
}
template <class E> __device__ __forceinline__ void lm_tiles_body(const lm_tiles_args<E> &x) {
    extern __shared__ char raw[];
    constexpr int S = LM_TILE_STAGES;
    const uint32_t base = (lm_smem(raw) + 1023) & ~1023u, full = base + LM_TILE_AT_BAR, empty = full + S * 8;
    const int wg = threadIdx.x / 128;
    lm_tile_walk<E> go(x);
    if (threadIdx.x == 0) {
        for (int i = 0; i < S; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, 8); }
        lm_mbar_inited();
    }
    __syncthreads();
    if (wg == 0) {
        lm_regs_less<24>();
        if (threadIdx.x) return;
        int k = 0;
        while (go.next(x)) {
            int m, n;
            lm_tile_of(x, go.t, &m, &n);
            const int row = m * LM_TILE_M, col[2] = { n * (E::PAIRED ? 128 : 256), E::PAIRED ? x.half + n * 128 : n * 256 + 128 };
            for (int b = go.b0; b < go.b1; b++, k++) {
                const int s = k % S, at = b * LM_TILE_K; const uint32_t bar = full + 8 * s, to = base + LM_TILE_AT_B + s * LM_TILE_B;
                lm_mbar_wait(empty + 8 * s, (k / S & 1) ^ 1);
                lm_mbar_expect(bar, LM_TILE_A + LM_TILE_B);
                if (E::A_COLS) for (int j = 0; j < 2; j++) lm_tma_get(base + s * LM_TILE_A + j * (LM_TILE_A / 2), &x.a, row + 64 * j, at, bar);
                else lm_tma_get(base + s * LM_TILE_A, &x.a, at, row, bar);
#pragma unroll
                for (int h = 0; h < 2; h++) {                            /* halves of 128 columns */
                    const uint32_t there = to + h * (LM_TILE_B / 2);
                    const CUtensorMap *b = E::PAIRED && h ? &x.up : &x.b;
                    if (E::COLS) for (int j = 0; j < 2; j++) lm_tma_get(there + j * 64 * 128, b, col[h] + 64 * j, at, bar);
                    else lm_tma_get(there, b, at, col[h], bar);
                }
            }
        }
        return;
    }
    lm_regs_more<240>();
    const int w = wg - 1, warp = threadIdx.x % 128 / 32, mine = w * 64 + warp * 16 + threadIdx.x % 32 / 4;
    lm_tile_out out(base + LM_TILE_AT_OUT + (w * 4 + warp) * LM_TILE_PUTS * LM_TILE_PUT);
    int k = 0;
    float c[128];
    lm_tile_left<E> left;
#pragma unroll
    for (int i = 0; i < 128; i++) c[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < 64; i++) left.w[i] = 0;
    left.row = 1 << 30; left.col = left.n = 0; left.seen = x.e.before(left.row, 0);      /* at first nothing: a row that is not there */
    while (go.next(x)) {
        int m, n;
        lm_tile_of(x, go.t, &m, &n);
        const int row = m * LM_TILE_M + mine, col = n * (E::PAIRED ? 128 : 256);
        const typename E::seen seen = x.e.before(row, n);
        lm_tile_first<E>(x, base, w, k, c, left, out);
#pragma unroll 1
        for (int b = go.b0 + LM_TILE_SLICES; b < go.b1; b++, k++) {
            lm_tile_stage<E>(base, w, k, c, true);
            lm_wgmma_wait<1>();
            lm_tile_release(base, k - 1);
        }
        lm_wgmma_wait<0>();
        lm_wgmma_pin<128>(c);
        lm_tile_release(base, k - 1);
        const bool part = E::SHARES && go.b0 > 0;
        if constexpr (E::SHARES) { if (part) lm_tile_hand_over(x, c); else if (go.b1 < x.kb) lm_tile_gather(x, c, go.t); }
#pragma unroll
        for (int i = 0; i < 64; i++) left.w[i] = lm_tile_round<E>(seen, i % 2, c[2 * i], c[2 * i + 1], 0);
        left.seen = seen; left.row = part ? 1 << 30 : row; left.col = col; left.n = n;
    }
    lm_tile_rest<E>(x, left, out);
    lm_bulk_wait_read<0>();
}
#endif
template <class E> __global__ void __launch_bounds__(384, 1) lm_tiles_kernel(const __grid_constant__ lm_tiles_args<E> x) {
#ifdef LM_HOPPER_CODE
    lm_tiles_body<E>(x);
#endif
}
/* How the tiles of a last round that is not full are shared: `of` tiles among so many CTAs. false: there is nothing to win. */
static inline bool lm_tiles_share(int64_t tiles, int64_t kb, int units, int *of, int *among) {
    const int rest = static_cast<int>(tiles % units);
    *of = *among = 1;
    for (int b = 1; b <= 3 && rest; b++) {
        const int a = units / ((rest + b - 1) / b);
        if (a * *of * 20 > *among * b * 21) { *of = b; *among = a; }          /* simple cuts first: more of a group read alike */
    }
    return 5 * *among >= 6 * *of && kb * *of >= 16 * *among;
}
/* What SHARES want as room. */
static inline size_t lm_tiles_room(int units) {
    return static_cast<size_t>(units / 4 + 1) * 16 + static_cast<size_t>(units) * LM_TILE_M * LM_TILE_N * 4;
}
/* units: multiprocessors of the card */
template <class E> static lm_err lm_tiles_run(const lm_tiles *g, const E &e, int units, cudaStream_t s) {
    if (!g->M || !g->N) return LM_OK;
    if (!g->K || g->M > INT32_MAX / 2 || g->N > INT32_MAX / 4 || g->K > INT32_MAX / 2) return LM_E_RANGE;
    lm_tiles_args<E> x = {};
    const int64_t cols = E::PAIRED && !g->up ? g->half + g->N : g->N;
    LM_TRY(E::A_COLS ? lm_tma_map(&x.a, g->a, g->K, g->M, g->lda, LM_TILE_K) : lm_tma_map(&x.a, g->a, g->M, g->K, g->lda, LM_TILE_M));
    LM_TRY(E::COLS ? lm_tma_map(&x.b, g->b, g->K, cols, g->ldb, LM_TILE_K) : lm_tma_map(&x.b, g->b, cols, g->K, g->ldb, 128));
    x.up = x.b;
    if (E::PAIRED && g->up) LM_TRY(E::COLS ? lm_tma_map(&x.up, g->up, g->K, cols, g->ldb, LM_TILE_K) : lm_tma_map(&x.up, g->up, cols, g->K, g->ldb, 128));
    x.kb = static_cast<int>(lm_max64(LM_TILE_SLICES, lm_ceil_div(g->K, LM_TILE_K)));          /* beyond K there are zeros */
    x.rows = static_cast<int>(lm_ceil_div(g->M, LM_TILE_M));
    x.tiles_n = static_cast<int>(lm_ceil_div(g->N, E::PAIRED ? 128 : 256)); x.half = static_cast<int>(g->half); x.e = e;
    if (static_cast<int64_t>(x.rows) * x.tiles_n > INT32_MAX / 4) return LM_E_RANGE;
    static bool set;
    if (!set && cudaFuncSetAttribute(lm_tiles_kernel<E>, cudaFuncAttributeMaxDynamicSharedMemorySize, LM_TILE_SMEM) != cudaSuccess) return LM_E_DEVICE;
    set = true;
    const int tiles = x.rows * x.tiles_n, rest = tiles % units;
    const bool shares = E::SHARES && g->room && lm_tiles_share(tiles, x.kb, units, &x.of, &x.among);
    x.whole = tiles;
    if (shares) {
        x.whole = tiles - rest; x.flag = static_cast<int *>(g->room); x.sums = static_cast<float4 *>(g->room) + units / 4 + 1;
        if (cudaMemsetAsync(x.flag, 0, static_cast<size_t>(units) * 4, s) != cudaSuccess) return LM_E_DEVICE;
    } else x.of = x.among = 1;
    lm_tiles_kernel<E><<<static_cast<unsigned>(tiles < units && !shares ? tiles : units), 384, LM_TILE_SMEM, s>>>(x);
    return lm_cuda_launched();
}
#endif
