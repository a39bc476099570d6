/* layernorm_grad_w_cuda.cu — memory bound: two inputs read once. */
#include "op/cuda.cuh"
struct body {
    lm_cv g, x; const float *mean, *rstd; int wide;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        float v[8], w[8];
        lm_ld_to(g, r, j, d, wide, v); lm_ld_to(x, r, j, d, wide, w);
        const float m = mean[r], k = rstd[r];
#pragma unroll
        for (int e = 0; e < 8; e++) s[e] += (w[e] - m) * k * v[e];
    }
};
static size_t shared(const lm_call *c) { return lm_colsum_bytes(lm_cols(&c->in[0])); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    body f = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), static_cast<const float *>(c->in[2].data), static_cast<const float *>(c->in[3].data), 0 };
    const lm_cv v[2] = { f.g, f.x };
    f.wide = lm_cuda_vec8(v, 2, lm_cols(&c->in[0]));
    return lm_colsum(c, scratch, f, lm_rows(&c->in[0]), lm_cols(&c->in[0]));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 3, 0) && lm_is_contig(&c->in[2]) && lm_is_contig(&c->in[3]) && lm_is_contig(&c->out[0]); }
LM_CUDA_ONE_SHARED(layernorm_grad_w, "layernorm_grad_w/cuda", accepts, run, shared)
