/* turned.cuh — a product of q and k (and v beside them) whose heads are rotated before they are stored: for tiles_joins_hopper_cuda.cu and
 * bench/tiles_gpu.cu.
 *
 * Heads of D columns, 64 or 128, lie whole in a tile, and both numbers of a pair (i, i + D/2) in one thread. The first four slices turn a
 * quarter of the pairs of all of the tile's heads each, so that angles are read once a tile, a slice ahead; the last four store. Numbers are
 * rounded to bf16 before they turn and after, with rope_cuda.cu's arithmetic: its bits.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_TILE_TURNED_CUH
#define LM_TILE_TURNED_CUH
#include "op/matmul/tiles_hopper.cuh"
template <int D> struct lm_tile_turned {
    static constexpr bool PAIRED = false, COLS = false, A_COLS = false, SHARES = false;
    static constexpr int AT_ONCE = D / 64, HEADS = LM_TILE_N / D;          /* eights of a half head's columns in a slice; heads of a tile */
    struct seen { float2 c[AT_ONCE][2], s[AT_ONCE][2]; };                  /* cosines and sines of the next slice: eights; row, row + 8 */
    CUtensorMap y; const float *t; int ld, rows, turned;    /* t: cosines, then sines of D/2 angles a row; turned: so many columns are, the first */
    __device__ __forceinline__ void angles(seen &a, int row, int u) const {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const float *p = t + (row + 8 * e < rows ? (row + 8 * e) * ld : 0) + u * AT_ONCE * 8 + threadIdx.x % 4 * 2;
#pragma unroll
            for (int q = 0; q < AT_ONCE; q++) {
                a.c[q][e] = __ldg(reinterpret_cast<const float2 *>(p + 8 * q));
                a.s[q][e] = __ldg(reinterpret_cast<const float2 *>(p + 8 * q + D / 2));
            }
        }
    }
    __device__ __forceinline__ seen before(int, int) const { return {}; }
#ifdef LM_HOPPER_CODE
    template <int u> __device__ __forceinline__ void slice(seen &a, uint32_t *w, lm_tile_out &o, int row, int col, int) const {
        if constexpr (u < 4) {
            if (u == 0) angles(a, row, 0);
#pragma unroll
            for (int h = 0; h < HEADS; h++)
#pragma unroll
                for (int q = 0; q < AT_ONCE; q++)
#pragma unroll
                    for (int e = 0; e < 2; e++) {
                        uint32_t *lo = w + 2 * (h * (D / 8) + u * AT_ONCE + q) + e, *hi = lo + D / 8;
                        const float2 x = lm_two(*lo), v = lm_two(*hi), c = a.c[q][e], s = a.s[q][e];
                        const uint32_t f = lm_pack2(fmaf(x.x, c.x, -(v.x * s.x)), fmaf(x.y, c.y, -(v.y * s.y)));
                        const uint32_t g = lm_pack2(fmaf(v.x, c.x, x.x * s.x), fmaf(v.y, c.y, x.y * s.y));
                        if (col + h * D < turned) { *lo = f; *hi = g; }
                    }
            if (u < 3) angles(a, row, u + 1);
        } else {
            const int r = lm_tile_row(row), at = col + 64 * (u - 4);
            const uint32_t *p = w + 16 * (u - 4);
            o.ready<2>();
            o.half(0, 0, p); o.half(0, 1, p + 4); o.half(1, 0, p + 8); o.half(1, 1, p + 12);
            o.sent(); o.send(&y, r, at); o.send(&y, r, at + 32);
        }
    }
#endif
};
#endif
