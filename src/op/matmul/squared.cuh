/* squared.cuh — a weight's gradient, Aᵀ B summed over many rows, and the squares of what is stored, a sum for each warp of each tile (16 rows
 * × 256 columns): for shared_hopper_cuda.cu and bench/tiles_gpu.cu.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_TILE_SQUARED_CUH
#define LM_TILE_SQUARED_CUH
#include "op/matmul/tiles_hopper.cuh"
struct lm_tile_squared {
    static constexpr bool PAIRED = false, COLS = true, A_COLS = true, SHARES = true;
    struct seen { float sum; };
    CUtensorMap c; float *part; int rows, tiles;                              /* part (M / 16, tiles); NULL: nobody wants it */
    __device__ __forceinline__ seen before(int, int) const { return {}; }
#ifdef LM_HOPPER_CODE
    template <int u> __device__ __forceinline__ void slice(seen &s, const uint32_t *w, lm_tile_out &o, int row, int col, int n) const {
        o.put(&c, lm_tile_row(row), col + 32 * u, w + 8 * u);
#pragma unroll
        for (int i = 0; i < 8; i++) { const float2 f = lm_two(w[8 * u + i]); s.sum = fmaf(f.x, f.x, fmaf(f.y, f.y, s.sum)); }
        if (u < LM_TILE_SLICES - 1) return;
        const float all = lm_cuda_warp_sum(s.sum);
        if (part && threadIdx.x % 32 == 0 && row < rows) part[static_cast<int64_t>(row / 16) * tiles + n] = all;
    }
#endif
};
#endif
