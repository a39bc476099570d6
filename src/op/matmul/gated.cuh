/* gated.cuh — a product of gate and up whose tiles also give silu(gate)·up: for tiles_joins_hopper_cuda.cu and bench/tiles_gpu.cu.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_TILE_GATED_CUH
#define LM_TILE_GATED_CUH
#include "op/matmul/tiles_hopper.cuh"
/* columns 0-127 of a tile are gate's, the others up's */
struct lm_tile_gated {
    static constexpr bool PAIRED = true, COLS = false, A_COLS = false, SHARES = false;
    struct seen {};
    CUtensorMap g, u, y;
    __device__ __forceinline__ seen before(int, int) const { return {}; }
#ifdef LM_HOPPER_CODE
    template <int k> __device__ __forceinline__ void slice(seen &, const uint32_t *w, lm_tile_out &o, int row, int col, int) const {
        const int r = lm_tile_row(row), at = col + 32 * (k / 2);
        const uint32_t *a = w + 8 * (k / 2), *b = a + 32;
        if (k % 2 == 0) {
            o.ready<2>();
            o.half(0, 0, a); o.half(0, 1, a + 4); o.half(1, 0, b); o.half(1, 1, b + 4);
            o.sent(); o.send(&g, r, at); o.send(&u, r, at);
        } else {
            uint32_t v[8];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float2 p = lm_two(a[i]), t = lm_two(b[i]);
                v[i] = lm_pack2(p.x * lm_cuda_sigmoid_quick(p.x) * t.x, p.y * lm_cuda_sigmoid_quick(p.y) * t.y);
            }
            o.put(&y, r, at, v);
        }
    }
#endif
};
#endif
