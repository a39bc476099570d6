/* tiles_hopper.cuh — A B of bf16 on Hopper's matrix units, and what a kernel of one's own does with each tile of sums while it is in registers:
 * for *_hopper_cuda.cu files. A product whose result is only read to be turned into something else need not be stored and read again.
 *
 * A (M,K), K contiguous. B is (N,K), K contiguous, or (K,N), N contiguous (COLS). M, N and K are any; rows of both begin at multiples of 16 bytes.
 * Beyond the edges operands are zero.
 *
 *   CTA: tiles of 128×256, one after another (as many CTAs as multiprocessors), four stages of 64 of K (48 KB each). One warpgroup brings, two
 *   multiply 64×256 each: four wgmma m64n256k16 a stage into 128 registers. A finished tile is rounded to bf16 into 64 registers, and what is done
 *   with it is cut into eight slices, one behind each of the next tile's first eight stages of products, which go on meanwhile.
 *   Order of tiles: sixteen rows of them side by side, along their columns.
 * Sums are over K in order: bits do not depend on the number of CTAs.
 *
 * An epilogue E is a struct of the kernel's arguments with
 *   static constexpr bool COLS         B's form
 *   static constexpr bool PAIRED       columns 0-127 and 128-255 of tile n are columns 128 n … and `half` + 128 n … of B: N counts the pairs
 *   static constexpr bool BIAS; const float *bias         added before the sums are rounded; of 256 columns for every tile, or NULL
 *   static constexpr int READS         how many 16 bytes a slice wants read from memory
 *   struct seen;  seen before(row, n)        what it wants to have read before the products, and what it keeps from slice to slice.
 *                                            row: this thread's first, the other is 8 below; n: the tile's number
 *   template <int u> void read(uint4 *r, row, col)            what slice u wants, before the products that it runs beside are begun
 *   template <int u> void slice(seen &, const uint32_t *w, const uint4 *r, row, col, n)        u = 0 … 7; col: the tile's first column; w[2x+e]:
 *                                            row + 8 e, columns col + 8x + 2 (lane % 4) and the next. There may be no such row or column
 * Memory is read and written 16 bytes a thread: lm_tile_wide turns 32 columns so that a lane has columns 8 (lane % 4) … of its rows.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE; LM_E_SHAPE where rows do not begin at 16 bytes. */
#ifndef LM_TILES_HOPPER_CUH
#define LM_TILES_HOPPER_CUH
#include "device/hopper.cuh"
#include "op/cuda.cuh"
enum { LM_TILE_M = 128, LM_TILE_N = 256, LM_TILE_K = 64, LM_TILE_STAGES = 4, LM_TILE_SLICES = 8, LM_TILE_A = LM_TILE_M * LM_TILE_K * 2, LM_TILE_B = LM_TILE_N * LM_TILE_K * 2 };
enum { LM_TILE_AT_B = LM_TILE_STAGES * LM_TILE_A, LM_TILE_AT_BAR = LM_TILE_AT_B + LM_TILE_STAGES * LM_TILE_B, LM_TILE_SMEM = LM_TILE_AT_BAR + LM_TILE_STAGES * 16 + 1024 };
typedef struct { const void *a, *b; int64_t lda, ldb, M, N, K, half; } lm_tiles;      /* leading dimensions in elements; half: PAIRED's */
template <class E> struct lm_tiles_args { CUtensorMap a, b; int kb, rows, tiles_n, half; E e; };      /* kb: stages a tile; rows: of tiles */
/* a bf16 matrix that is read or written beside a tile: rows at 16 bytes */
typedef struct { __nv_bfloat16 *p; int64_t ld; } lm_tile_rows;
#ifdef LM_HOPPER_CODE
__device__ __forceinline__ float2 lm_two(uint32_t u) { return make_float2(__uint_as_float(u << 16), __uint_as_float(u & 0xffff0000u)); }
/* of 32 columns, w[2x+e], x < 4: eight neighbours of row e */
template <int e> __device__ __forceinline__ uint4 lm_tile_wide(const uint32_t *w) {
    uint32_t t[4] = { w[e], w[2 + e], w[4 + e], w[6 + e] };
    lm_quad_transpose(t);
    return make_uint4(t[0], t[1], t[2], t[3]);
}
__device__ __forceinline__ int lm_tile_col(int col) { return col + static_cast<int>(threadIdx.x % 4) * 8; }       /* a lane's first of 32 */
__device__ __forceinline__ uint4 lm_tile_get(const lm_tile_rows &m, int row, int col, int M, int N) {
    const int c = lm_tile_col(col);
    return row < M && c < N ? *reinterpret_cast<const uint4 *>(m.p + row * m.ld + c) : make_uint4(0, 0, 0, 0);
}
__device__ __forceinline__ void lm_tile_put(const lm_tile_rows &m, int row, int col, int M, int N, const uint4 &v) {
    const int c = lm_tile_col(col);
    if (row < M && c < N) *reinterpret_cast<uint4 *>(m.p + row * m.ld + c) = v;
}
/* a tile's 256 columns of it towards the second-level cache, a tile's products before they are read */
__device__ __forceinline__ void lm_tile_ask(const lm_tile_rows &m, int row, int n, int M, int N) {
    const int c = n * 256 + static_cast<int>(threadIdx.x % 4) * 64;
#pragma unroll
    for (int e = 0; e < 2; e++) if (row + 8 * e < M && c < N) asm volatile("prefetch.global.L2 [%0];" ::"l"(m.p + (row + 8 * e) * m.ld + c));
}
template <class E> __device__ __forceinline__ void lm_tile_of(const lm_tiles_args<E> &x, int t, int *m, int *n) {
    const int per = 16 * x.tiles_n, g = t / per, in = t - g * per, left = x.rows - g * 16, side = left < 16 ? left : 16;
    *m = g * 16 + in % side; *n = in / side;
}
/* What is left to do with a finished tile. */
template <class E> struct lm_tile_left { uint32_t w[64]; typename E::seen seen; int row, col, n; };
/* A stage's products: c = [c +] A B */
template <class E> __device__ __forceinline__ void lm_tile_stage(uint32_t base, int wg, int k, float *c, bool more) {
    constexpr int S = LM_TILE_STAGES;
    const int s = k % S;
    lm_mbar_wait(base + LM_TILE_AT_BAR + 8 * s, k / S & 1);
    const uint64_t da = lm_desc_rows(base + s * LM_TILE_A + wg * (LM_TILE_A / 2));
    const uint32_t tb = base + LM_TILE_AT_B + s * LM_TILE_B;
    const uint64_t db = E::COLS ? lm_desc_cols(tb, 64 * 128) : lm_desc_rows(tb);
    lm_wgmma_fence();
#pragma unroll
    for (int q = 0; q < 4; q++) lm_wgmma<256>::template add<0, E::COLS ? 1 : 0>(c, da + 2 * q, db + (E::COLS ? 128 : 2) * q, more || q);
    lm_wgmma_commit();
}
__device__ __forceinline__ void lm_tile_release(uint32_t base, int k) {
    if (threadIdx.x % 32 == 0) lm_mbar_arrive(base + LM_TILE_AT_BAR + (LM_TILE_STAGES + k % LM_TILE_STAGES) * 8);
}
/* Stage u of a tile and slice u of the tile before, which wants what is read before the stage is waited for. */
template <class E, int u = 0> __device__ __forceinline__ void lm_tile_first(const lm_tiles_args<E> &x, uint32_t base, int wg, int &k, float *c, lm_tile_left<E> &left) {
    if constexpr (u < LM_TILE_SLICES) {
        uint4 r[E::READS ? E::READS : 1];
        if constexpr (E::READS > 0) x.e.template read<u>(r, left.row, left.col);
        lm_tile_stage<E>(base, wg, k, c, u > 0);
        if (u) { lm_wgmma_wait<1>(); lm_tile_release(base, k - 1); }
        x.e.template slice<u>(left.seen, left.w, r, left.row, left.col, left.n);
        k++;
        lm_tile_first<E, u + 1>(x, base, wg, k, c, left);
    }
}
template <class E, int u = 0> __device__ __forceinline__ void lm_tile_rest(const lm_tiles_args<E> &x, lm_tile_left<E> &left) {
    if constexpr (u < LM_TILE_SLICES) {
        uint4 r[E::READS ? E::READS : 1];
        if constexpr (E::READS > 0) x.e.template read<u>(r, left.row, left.col);
        x.e.template slice<u>(left.seen, left.w, r, left.row, left.col, left.n);
        lm_tile_rest<E, u + 1>(x, left);
    }
}
template <class E> __device__ __forceinline__ void lm_tiles_body(const lm_tiles_args<E> &x) {
    extern __shared__ char raw[];
    constexpr int S = LM_TILE_STAGES;
    const uint32_t base = (lm_smem(raw) + 1023) & ~1023u, full = base + LM_TILE_AT_BAR, empty = full + S * 8;
    const int wg = threadIdx.x / 128, first = static_cast<int>(blockIdx.x), step = static_cast<int>(gridDim.x), total = x.rows * x.tiles_n;
    if (threadIdx.x == 0) {
        for (int i = 0; i < S; i++) { lm_mbar_init(full + 8 * i, 1); lm_mbar_init(empty + 8 * i, 8); }
        lm_mbar_inited();
    }
    __syncthreads();
    if (wg == 0) {
        lm_regs_less<24>();
        if (threadIdx.x) return;
        int k = 0;
        for (int t = first; t < total; t += step) {
            int m, n;
            lm_tile_of(x, t, &m, &n);
            const int row = m * LM_TILE_M, col[2] = { n * (E::PAIRED ? 128 : 256), E::PAIRED ? x.half + n * 128 : n * 256 + 128 };
            for (int b = 0; b < x.kb; b++, k++) {
                const int s = k % S, at = b * LM_TILE_K; const uint32_t bar = full + 8 * s, to = base + LM_TILE_AT_B + s * LM_TILE_B;
                lm_mbar_wait(empty + 8 * s, (k / S & 1) ^ 1);
                lm_mbar_expect(bar, LM_TILE_A + LM_TILE_B);
                lm_tma_get(base + s * LM_TILE_A, &x.a, at, row, bar);
#pragma unroll
                for (int h = 0; h < 2; h++) {                            /* halves of 128 columns */
                    const uint32_t there = to + h * (LM_TILE_B / 2);
                    if (E::COLS) for (int j = 0; j < 2; j++) lm_tma_get(there + j * 64 * 128, &x.b, col[h] + 64 * j, at, bar);
                    else lm_tma_get(there, &x.b, at, col[h], bar);
                }
            }
        }
        return;
    }
    lm_regs_more<240>();
    const int w = wg - 1, warp = threadIdx.x % 128 / 32, mine = w * 64 + warp * 16 + threadIdx.x % 32 / 4;
    int k = 0;
    float c[128];
    lm_tile_left<E> left;
#pragma unroll
    for (int i = 0; i < 128; i++) c[i] = 0.0f;
#pragma unroll
    for (int i = 0; i < 64; i++) left.w[i] = 0;
    left.row = 1 << 30; left.col = left.n = 0; left.seen = x.e.before(left.row, 0);      /* at first nothing: a row that is not there */
    for (int t = first; t < total; t += step) {
        int m, n;
        lm_tile_of(x, t, &m, &n);
        const int row = m * LM_TILE_M + mine, col = n * (E::PAIRED ? 128 : 256);
        const typename E::seen seen = x.e.before(row, n);
        lm_tile_first<E>(x, base, w, k, c, left);
        float2 bias[32];
        if (E::BIAS) {
#pragma unroll
            for (int i = 0; i < 32; i++) bias[i] = *reinterpret_cast<const float2 *>(x.e.bias + col + 8 * i + threadIdx.x % 4 * 2);
        }
#pragma unroll 1
        for (int b = LM_TILE_SLICES; b < x.kb; b++, k++) {
            lm_tile_stage<E>(base, w, k, c, true);
            lm_wgmma_wait<1>();
            lm_tile_release(base, k - 1);
        }
        lm_wgmma_wait<0>();
        lm_wgmma_pin<128>(c);
        lm_tile_release(base, k - 1);
#pragma unroll
        for (int i = 0; i < 64; i++) left.w[i] = E::BIAS ? lm_pack2(c[2 * i] + bias[i / 2].x, c[2 * i + 1] + bias[i / 2].y) : lm_pack2(c[2 * i], c[2 * i + 1]);
        left.seen = seen; left.row = row; left.col = col; left.n = n;
    }
    lm_tile_rest<E>(x, left);
}
#endif
template <class E> __global__ void __launch_bounds__(384, 1) lm_tiles_kernel(const __grid_constant__ lm_tiles_args<E> x) {
#ifdef LM_HOPPER_CODE
    lm_tiles_body<E>(x);
#endif
}
/* units: multiprocessors of the card */
template <class E> static lm_err lm_tiles_run(const lm_tiles *g, const E &e, int units, cudaStream_t s) {
    if (!g->M || !g->N) return LM_OK;
    if (!g->K || g->M > INT32_MAX / 2 || g->N > INT32_MAX / 4 || g->K > INT32_MAX / 2) return LM_E_RANGE;
    lm_tiles_args<E> x = {};
    const int64_t cols = E::PAIRED ? g->half + g->N : g->N;
    LM_TRY(lm_tma_map(&x.a, g->a, g->M, g->K, g->lda, LM_TILE_M));
    LM_TRY(E::COLS ? lm_tma_map(&x.b, g->b, g->K, cols, g->ldb, LM_TILE_K) : lm_tma_map(&x.b, g->b, cols, g->K, g->ldb, 128));
    x.kb = static_cast<int>(lm_max64(LM_TILE_SLICES, lm_ceil_div(g->K, LM_TILE_K)));          /* beyond K there are zeros */
    x.rows = static_cast<int>(lm_ceil_div(g->M, LM_TILE_M));
    x.tiles_n = static_cast<int>(lm_ceil_div(g->N, E::PAIRED ? 128 : 256)); x.half = static_cast<int>(g->half); x.e = e;
    if (static_cast<int64_t>(x.rows) * x.tiles_n > INT32_MAX / 4) return LM_E_RANGE;
    static bool set;
    if (!set && cudaFuncSetAttribute(lm_tiles_kernel<E>, cudaFuncAttributeMaxDynamicSharedMemorySize, LM_TILE_SMEM) != cudaSuccess) return LM_E_DEVICE;
    set = true;
    const int tiles = x.rows * x.tiles_n;
    lm_tiles_kernel<E><<<static_cast<unsigned>(tiles < units ? tiles : units), 384, LM_TILE_SMEM, s>>>(x);
    return lm_cuda_launched();
}
#endif
