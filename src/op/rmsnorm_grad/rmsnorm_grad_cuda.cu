/* rmsnorm_grad_cuda.cu — memory bound: two read, one written. */
#include "op/rows.cuh"
extern "C" {
#include "op/rmsnorm_grad/rmsnorm_grad.h"
}
struct args { lm_cv g, x, w, y; const float *stat; int64_t rows, groups, d; float offset; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t i0 = lm_row_index<T>();
    if (i0 >= a.rows) return;
    const int64_t row = i0 / a.groups, at = (i0 - row * a.groups) * a.d;
    float g[LM_ROW_V][8], x[LM_ROW_V][8], s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8];
        lm_ld8(a.g, row * a.g.rs + at + k, g[i]); lm_ld8(a.x, row * a.x.rs + at + k, x[i]); lm_ld8(a.w, k, w);
#pragma unroll
        for (int e = 0; e < 8; e++) { g[i][e] *= w[e] + a.offset; s += g[i][e] * x[i][e]; }
    }
    const float r = a.stat[i0], m = r * r * r * (lm_cuda_block_sum<T>(s) / static_cast<float>(a.d));
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) g[i][e] = g[i][e] * r - x[i][e] * m;
        lm_st8(a.y, row * a.y.rs + at + k, g[i]);
    }
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t i0 = blockIdx.x, row = i0 / a.groups, at = (i0 - row * a.groups) * a.d;
    float s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) s += lm_ld1(a.g, row * a.g.rs + at + k) * (lm_ld1(a.w, k) + a.offset) * lm_ld1(a.x, row * a.x.rs + at + k);
    const float r = a.stat[i0], m = r * r * r * (lm_cuda_block_sum<256>(s) / static_cast<float>(a.d));
    for (int64_t k = threadIdx.x; k < a.d; k += 256)
        lm_st1(a.y, row * a.y.rs + at + k, lm_ld1(a.g, row * a.g.rs + at + k) * (lm_ld1(a.w, k) + a.offset) * r - lm_ld1(a.x, row * a.x.rs + at + k) * m);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t d = c->in[2].dim[0], groups = lm_cols(&c->in[0]) / d;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]), lm_cv_of(&c->out[0]), static_cast<const float *>(c->in[3].data), lm_rows(&c->in[0]) * groups, groups, d,
                     static_cast<const lm_rmsnorm_grad_p *>(c->p)->offset };
    const lm_cv v[4] = { a.g, a.x, a.w, a.y };
    const bool wide = lm_cuda_vec8(v, 4, d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 7, 1) && lm_is_contig(&c->in[3]); }
LM_CUDA_ONE(rmsnorm_grad, "rmsnorm_grad/cuda", accepts, run)
