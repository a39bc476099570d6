/* softmax_grad_cuda.cu — memory bound: two read, one written. */
#include "op/rows.cuh"
extern "C" {
#include "op/softmax/softmax.h"
}
struct args { lm_cv g, y, x; int64_t rows, d; float s; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    float g[LM_ROW_V][8], y[LM_ROW_V][8], s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        lm_ld8(a.g, row * a.g.rs + k, g[i]); lm_ld8(a.y, row * a.y.rs + k, y[i]);
#pragma unroll
        for (int e = 0; e < 8; e++) s += g[i][e] * y[i][e];
    }
    const float dot = lm_cuda_block_sum<T>(s);
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) g[i][e] = y[i][e] * a.s * (g[i][e] - dot);
        lm_st8(a.x, row * a.x.rs + k, g[i]);
    }
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t row = blockIdx.x;
    float s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) s += lm_ld1(a.g, row * a.g.rs + k) * lm_ld1(a.y, row * a.y.rs + k);
    const float dot = lm_cuda_block_sum<256>(s);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.x, row * a.x.rs + k, lm_ld1(a.y, row * a.y.rs + k) * a.s * (lm_ld1(a.g, row * a.g.rs + k) - dot));
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), lm_rows(&c->in[0]), lm_cols(&c->in[0]), static_cast<const lm_softmax_p *>(c->p)->scale };
    const lm_cv v[3] = { a.g, a.y, a.x };
    const bool wide = lm_cuda_vec8(v, 3, a.d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, a.d, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ONE(softmax_grad, "softmax_grad/cuda", lm_cuda_accepts_any, run)
