/* add_rmsnorm_cuda.cu — memory bound: two read, two written, where add and rmsnorm apart move five. */
#include "op/rows.cuh"
extern "C" {
#include "op/add_rmsnorm/add_rmsnorm.h"
}
struct args { lm_cv a, b, w, s, y; float *stat; int64_t rows, d; float eps, offset; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    float v[LM_ROW_V][8], s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        float b[8];
        lm_ld8(a.a, row * a.a.rs + k, v[i]);
        lm_ld8(a.b, row * a.b.rs + k, b);
#pragma unroll
        for (int e = 0; e < 8; e++) { v[i][e] += b[e]; s += v[i][e] * v[i][e]; }
        lm_st8(a.s, row * a.s.rs + k, v[i]);
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<T>(s) / static_cast<float>(a.d) + a.eps);
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8];
        lm_ld8(a.w, k, w);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = v[i][e] * r * (w[e] + a.offset);
        lm_st8(a.y, row * a.y.rs + k, v[i]);
    }
    if (threadIdx.x == 0) a.stat[row] = r;
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t row = blockIdx.x;
    float s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) {
        const float v = lm_ld1(a.a, row * a.a.rs + k) + lm_ld1(a.b, row * a.b.rs + k);
        lm_st1(a.s, row * a.s.rs + k, v);
        s += v * v;
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<256>(s) / static_cast<float>(a.d) + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.y, row * a.y.rs + k, lm_ld1(a.s, row * a.s.rs + k) * r * (lm_ld1(a.w, k) + a.offset));
    if (threadIdx.x == 0) a.stat[row] = r;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c->p);
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]), lm_cv_of(&c->out[0]), lm_cv_of(&c->out[1]), static_cast<float *>(c->out[2].data), lm_rows(&c->in[0]), lm_cols(&c->in[0]),
                     p->eps, p->offset };
    const lm_cv v[5] = { a.a, a.b, a.w, a.s, a.y };
    const bool wide = lm_cuda_vec8(v, 5, a.d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, a.d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 7, 2) && lm_is_contig(&c->out[2]); }
LM_CUDA_ONE(add_rmsnorm, "add_rmsnorm/cuda", accepts, run)
