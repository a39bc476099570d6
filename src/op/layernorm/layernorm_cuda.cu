/* layernorm_cuda.cu — memory bound: read once, written once. The variance is of x - mean, so nothing cancels. */
#include "op/rows.cuh"
extern "C" {
#include "op/layernorm/layernorm.h"
}
struct args { lm_cv x, w, b, y; float *mean, *rstd; int64_t rows, d; float eps; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    float v[LM_ROW_V][8], s = 0, q = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        lm_ld8(a.x, row * a.x.rs + k, v[i]);
#pragma unroll
        for (int e = 0; e < 8; e++) s += v[i][e];
    }
    const float m = lm_cuda_block_sum<T>(s) / static_cast<float>(a.d);
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) { v[i][e] -= m; q += v[i][e] * v[i][e]; }
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<T>(q) / static_cast<float>(a.d) + a.eps);
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8], b[8] = {};
        lm_ld8(a.w, k, w);
        if (a.b.p) lm_ld8(a.b, k, b);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = v[i][e] * r * w[e] + b[e];
        lm_st8(a.y, row * a.y.rs + k, v[i]);
    }
    if (threadIdx.x == 0) { a.mean[row] = m; a.rstd[row] = r; }
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t row = blockIdx.x;
    float s = 0, q = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) s += lm_ld1(a.x, row * a.x.rs + k);
    const float m = lm_cuda_block_sum<256>(s) / static_cast<float>(a.d);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.x, row * a.x.rs + k) - m; q += v * v; }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<256>(q) / static_cast<float>(a.d) + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.y, row * a.y.rs + k, (lm_ld1(a.x, row * a.x.rs + k) - m) * r * lm_ld1(a.w, k) + (a.b.p ? lm_ld1(a.b, k) : 0.0f));
    if (threadIdx.x == 0) { a.mean[row] = m; a.rstd[row] = r; }
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data), lm_rows(&c->in[0]),
               lm_cols(&c->in[0]), static_cast<const lm_layernorm_p *>(c->p)->eps };
    if (lm_has(c, 2)) a.b = lm_cv_of(&c->in[2]); else a.b.p = NULL;
    const lm_cv v[4] = { a.x, a.w, a.b, a.y };
    const bool wide = lm_cuda_vec8(v, 4, a.d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, a.d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 7, 1) && lm_is_contig(&c->out[1]) && lm_is_contig(&c->out[2]); }
LM_CUDA_ALONE(layernorm, "layernorm/cuda", accepts, run, NULL, NULL)
