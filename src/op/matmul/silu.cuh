/* silu.cuh — gate and up as one product whose tiles give silu(gate)·up alone, rows multiplied by a factor before they are rounded: for
 * many_hopper_cuda.cu. Numbers are those of finish.cuh's lm_finish_gated without bias, products kept in bf16.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_TILE_SILU_CUH
#define LM_TILE_SILU_CUH
#include "op/matmul/finish.cuh"
#include "op/matmul/tiles_hopper.cuh"
/* columns 0-127 of a tile are gate's, the others up's */
struct lm_tile_silu {
    static constexpr bool PAIRED = true, COLS = false, A_COLS = false, SHARES = false;
    struct seen { float f[2]; };
    CUtensorMap y; const float *factors; int rows;                        /* factors NULL: all 1 */
#ifdef LM_HOPPER_CODE
    __device__ __forceinline__ seen before(int row, int) const {
        seen s;
#pragma unroll
        for (int h = 0; h < 2; h++) s.f[h] = factors && row + 8 * h < rows ? factors[row + 8 * h] : 1.0f;
        return s;
    }
    /* a sum of row + 8 h, not rounded yet */
    __device__ __forceinline__ static float sum(const seen &s, int h, float c) { return __fmul_rn(__fadd_rn(0.0f, c), s.f[h]); }
    template <int k> __device__ __forceinline__ void slice(seen &, uint32_t *w, lm_tile_out &o, int row, int col, int) const {
        uint32_t *a = w + 8 * (k / 2);
#pragma unroll
        for (int i = k % 2 * 4; i < k % 2 * 4 + 4; i++) {
            const float2 p = lm_two(a[i]), t = lm_two(a[i + 32]);
            a[i] = lm_pack2(lm_silu_times(p.x, t.x), lm_silu_times(p.y, t.y));
        }
        if (k % 2) o.put(&y, lm_tile_row(row), col + 32 * (k / 2), a);
    }
#endif
};
#endif
