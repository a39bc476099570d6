/* shared_hopper_cuda.cu — gradients of weights, Aᵀ B summed over many rows: a few rounds of tiles, and the last, which is not full, takes as long
 * as any. Here its tiles are shared along K by all multiprocessors (tiles_hopper.cuh). Where that does not save a thirteenth of the rounds the
 * library has the product, and where tiles are fewer than two rounds, since it has smaller ones. */
#include "op/matmul/matmul.cuh"
#include "op/matmul/squared.cuh"
extern "C" {
#include "op/matmul_squares/matmul_squares.h"
}
namespace {
bool at16(const void *p, int64_t ld) { return reinterpret_cast<uintptr_t>(p) % 16 == 0 && ld % 8 == 0; }
}
bool lm_cuda_gemm_shares(const lm_dev *d, const lm_cuda_gemm *g) {
    if (!d || !(d->features & LM_CUDA_WGMMA) || d->features & LM_CUDA_ROW_ALONE || g->batch != 1) return false;
    if (!g->ta || g->tb || g->bias || g->add || g->aux || !g->round || !g->a.bf16 || !g->b.bf16 || !g->c_bf16) return false;
    if (!at16(g->a.p, g->a.ld) || !at16(g->b.p, g->b.ld) || !at16(g->c, g->ldc)) return false;
    const int64_t tiles = lm_ceil_div(g->M, LM_TILE_M) * lm_ceil_div(g->N, LM_TILE_N), kb = lm_ceil_div(g->K, LM_TILE_K), units = d->units;
    int of, among;
    if (tiles < 2 * units || tiles > 64 * units || kb > 1 << 20 || !lm_tiles_share(tiles, kb, d->units, &of, &among)) return false;
    const int64_t full = tiles / units;                                    /* rounds: full + of / among in place of full + 1 */
    return 13 * (full * among + of) <= 12 * (full + 1) * among;
}
size_t lm_cuda_gemm_share_room(const lm_dev *d) { return lm_tiles_room(d->units); }
lm_err lm_cuda_gemm_share(const lm_dev *d, const lm_cuda_gemm *g, float *squares, void *room, cudaStream_t s) {
    static_assert(LM_SQUARES_ROWS == 16 && LM_SQUARES_COLS == static_cast<int>(LM_TILE_N), "a warp's part of a tile");
    const lm_tiles t = { g->a.p, g->b.p, g->a.ld, g->b.ld, g->M, g->N, g->K, 0, room };
    lm_tile_squared e = {};
    LM_TRY(lm_tile_map(&e.c, g->c, g->M, g->N, g->ldc));
    e.part = squares; e.rows = static_cast<int>(g->M); e.tiles = static_cast<int>(lm_ceil_div(g->N, LM_TILE_N));
    return lm_tiles_run(&t, e, d->units, s);
}
