/* softmax_cuda.cu — memory bound: read once, written once. */
#include "op/rows.cuh"
extern "C" {
#include "op/softmax/softmax.h"
}
struct args { lm_cv x, y; int64_t rows, d; float s; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    float v[LM_ROW_V][8], m = -INFINITY, s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        lm_ld8(a.x, row * a.x.rs + k, v[i]);
#pragma unroll
        for (int e = 0; e < 8; e++) m = fmaxf(m, v[i][e]);
    }
    m = lm_cuda_block_max<T>(m);
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) { v[i][e] = expf((v[i][e] - m) * a.s); s += v[i][e]; }
    }
    const float inv = 1.0f / lm_cuda_block_sum<T>(s);
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] *= inv;
        lm_st8(a.y, row * a.y.rs + k, v[i]);
    }
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t row = blockIdx.x;
    float m = -INFINITY, s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) m = fmaxf(m, lm_ld1(a.x, row * a.x.rs + k));
    m = lm_cuda_block_max<256>(m);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) s += expf((lm_ld1(a.x, row * a.x.rs + k) - m) * a.s);
    const float inv = 1.0f / lm_cuda_block_sum<256>(s);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.y, row * a.y.rs + k, expf((lm_ld1(a.x, row * a.x.rs + k) - m) * a.s) * inv);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->out[0]), lm_rows(&c->in[0]), lm_cols(&c->in[0]), static_cast<const lm_softmax_p *>(c->p)->scale };
    const lm_cv v[2] = { a.x, a.y };
    const bool wide = lm_cuda_vec8(v, 2, a.d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, a.d, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ONE(softmax, "softmax/cuda", lm_cuda_accepts_any, run)
