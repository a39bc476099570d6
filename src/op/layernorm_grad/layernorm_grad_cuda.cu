/* layernorm_grad_cuda.cu — memory bound: two read, one written. */
#include "op/rows.cuh"
struct args { lm_cv g, x, w, y; const float *mean, *rstd; int64_t rows, d; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    const int64_t row = lm_row_index<T>();
    if (row >= a.rows) return;
    const float m = a.mean[row], r = a.rstd[row];
    float g[LM_ROW_V][8], h[LM_ROW_V][8], s = 0, q = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8];
        lm_ld8(a.g, row * a.g.rs + k, g[i]); lm_ld8(a.x, row * a.x.rs + k, h[i]); lm_ld8(a.w, k, w);
#pragma unroll
        for (int e = 0; e < 8; e++) { g[i][e] *= w[e]; h[i][e] = (h[i][e] - m) * r; s += g[i][e]; q += g[i][e] * h[i][e]; }
    }
    const float sg = lm_cuda_block_sum<T>(s) / static_cast<float>(a.d), sgh = lm_cuda_block_sum<T>(q) / static_cast<float>(a.d);
    LM_ROW_EACH(T, i, k, a.d) {
#pragma unroll
        for (int e = 0; e < 8; e++) g[i][e] = (g[i][e] - sg - h[i][e] * sgh) * r;
        lm_st8(a.y, row * a.y.rs + k, g[i]);
    }
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t row = blockIdx.x;
    const float m = a.mean[row], r = a.rstd[row];
    float s = 0, q = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float g = lm_ld1(a.g, row * a.g.rs + k) * lm_ld1(a.w, k); s += g; q += g * ((lm_ld1(a.x, row * a.x.rs + k) - m) * r); }
    const float sg = lm_cuda_block_sum<256>(s) / static_cast<float>(a.d), sgh = lm_cuda_block_sum<256>(q) / static_cast<float>(a.d);
    for (int64_t k = threadIdx.x; k < a.d; k += 256)
        lm_st1(a.y, row * a.y.rs + k, (lm_ld1(a.g, row * a.g.rs + k) * lm_ld1(a.w, k) - sg - (lm_ld1(a.x, row * a.x.rs + k) - m) * r * sgh) * r);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->in[2]), lm_cv_of(&c->out[0]), static_cast<const float *>(c->in[3].data), static_cast<const float *>(c->in[4].data),
                     lm_rows(&c->in[0]), lm_cols(&c->in[0]) };
    const lm_cv v[4] = { a.g, a.x, a.w, a.y };
    const bool wide = lm_cuda_vec8(v, 4, a.d);
    LM_ROW_LAUNCH(in_regs, plain, a, wide, a.d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 7, 1) && lm_is_contig(&c->in[3]) && lm_is_contig(&c->in[4]); }
LM_CUDA_ONE(layernorm_grad, "layernorm_grad/cuda", accepts, run)
