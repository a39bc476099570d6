/* expo.cuh — a product whose tiles become exp(z - c) before they are stored, and each row's sums over tiles: for xent_step_hopper_cuda.cu, which says why,
 * and bench/tiles_gpu.cu.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_XENT_EXPO_CUH
#define LM_XENT_EXPO_CUH
#include "op/matmul/tiles_hopper.cuh"
struct lm_xent_expo {
    static constexpr bool PAIRED = false, COLS = false, A_COLS = false, SHARES = false;
    struct seen { float c[2], sum[2]; };
    CUtensorMap z; const float *shift; float *part; int tiles, M, V;      /* shift: c, in powers of two; part (M, tiles) */
    __device__ __forceinline__ seen before(int row, int) const { const seen s = { { row < M ? shift[row] : 0.0f, row + 8 < M ? shift[row + 8] : 0.0f }, {} }; return s; }
#ifdef LM_HOPPER_CODE
    __device__ __forceinline__ void ends(const seen &s, int row, int n) const {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            float t = s.sum[e];
            t += __shfl_xor_sync(0xffffffffu, t, 1); t += __shfl_xor_sync(0xffffffffu, t, 2);
            if (threadIdx.x % 4 == 0 && row + 8 * e < M) part[static_cast<int64_t>(row + 8 * e) * tiles + n] = t;
        }
    }
    template <int u> __device__ __forceinline__ void slice(seen &s, const uint32_t *w, lm_tile_out &o, int row, int col, int n) const {
        const int last = V - col - static_cast<int>(threadIdx.x % 4) * 2;
        uint32_t v[8];
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float2 f = lm_two(w[8 * u + i]);
            const int e = i % 2, at = 8 * (4 * u + i / 2);
            float x = lm_exp2(fmaf(f.x, LM_LOG2E, -s.c[e])), y = lm_exp2(fmaf(f.y, LM_LOG2E, -s.c[e]));
            if (at >= last) x = 0;
            if (at + 1 >= last) y = 0;
            s.sum[e] += x + y;
            v[i] = lm_pack2(x, y);
        }
        o.put(&z, lm_tile_row(row), col + 32 * u, v);
        if (u == LM_TILE_SLICES - 1) ends(s, row, n);
    }
#endif
};
#endif
