/* rmsnorm_cuda.cu — a row is a group of d columns (a whole row where w is as long). Memory bound: read once, written once. Of few rows it lets the
 * kernel behind it begin, which has weights to ask for. */
#include "op/rows.cuh"
#include "op/overlap.cuh"
extern "C" {
#include "op/rmsnorm/rmsnorm.h"
}
enum { FEW = 64 };                                                       /* rows of a decode step */
struct args { lm_cv x, w, y; float *stat; int64_t rows, groups, d; float eps, offset; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    lm_let_next_begin();
    lm_wait_before();
    const int64_t g = lm_row_index<T>();
    if (g >= a.rows) return;
    const int64_t row = g / a.groups, at = (g - row * a.groups) * a.d;
    float v[LM_ROW_V][8], s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        lm_ld8(a.x, row * a.x.rs + at + k, v[i]);
#pragma unroll
        for (int e = 0; e < 8; e++) s += v[i][e] * v[i][e];
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<T>(s) / static_cast<float>(a.d) + a.eps);
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8];
        lm_ld8(a.w, k, w);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = v[i][e] * r * (w[e] + a.offset);
        lm_st8(a.y, row * a.y.rs + at + k, v[i]);
    }
    if (threadIdx.x == 0) a.stat[g] = r;
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t g = blockIdx.x, row = g / a.groups, at = (g - row * a.groups) * a.d;
    float s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.x, row * a.x.rs + at + k); s += v * v; }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<256>(s) / static_cast<float>(a.d) + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.y, row * a.y.rs + at + k, lm_ld1(a.x, row * a.x.rs + at + k) * r * (lm_ld1(a.w, k) + a.offset));
    if (threadIdx.x == 0) a.stat[g] = r;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c->p);
    const int64_t d = c->in[1].dim[0], groups = lm_cols(&c->in[0]) / d;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), static_cast<float *>(c->out[1].data), lm_rows(&c->in[0]) * groups, groups, d, p->eps, p->offset };
    const lm_cv v[3] = { a.x, a.w, a.y };
    const bool wide = lm_cuda_vec8(v, 3, d);
    if (wide && d > 32 * 8 * LM_ROW_V && d <= 512 * 8 * LM_ROW_V && a.rows && a.rows <= FEW && c->dev && c->dev->features & LM_CUDA_SM90) {
        const dim3 grid(static_cast<unsigned>(a.rows));
        return d <= 128 * 8 * LM_ROW_V ? lm_launch_early(in_regs<128>, a, grid, 128, 0, 1, true, LM_CUDA_STREAM(scratch))
                                       : lm_launch_early(in_regs<512>, a, grid, 512, 0, 1, true, LM_CUDA_STREAM(scratch));
    }
    LM_ROW_LAUNCH(in_regs, plain, a, wide, d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1 | 2, 1) && lm_is_contig(&c->out[1]); }
LM_CUDA_ONE(rmsnorm, "rmsnorm/cuda", accepts, run)
