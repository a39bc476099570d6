/* rmsnorm_grad_w_cuda.cu — memory bound: two inputs read once. Groups of a row are rows here. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rmsnorm_grad_w/rmsnorm_grad_w.h"
}
struct body {
    lm_cv g, x; const float *rstd; int64_t groups; int wide;
    __device__ void operator()(int64_t i, int64_t j, int64_t d, float *s) const {
        const int64_t r = i / groups, at = (i - r * groups) * d;
        float v[8], w[8]; lm_cv gg = g, xx = x;
        gg.p = g.bf16 ? static_cast<void *>(static_cast<lm_h16 *>(g.p) + at) : static_cast<void *>(static_cast<float *>(g.p) + at);
        xx.p = x.bf16 ? static_cast<void *>(static_cast<lm_h16 *>(x.p) + at) : static_cast<void *>(static_cast<float *>(x.p) + at);
        lm_ld_to(gg, r, j, d, wide, v); lm_ld_to(xx, r, j, d, wide, w);
        const float k = rstd[i];
#pragma unroll
        for (int e = 0; e < 8; e++) s[e] += w[e] * k * v[e];
    }
};
static size_t shared(const lm_call *c) { return lm_colsum_bytes(static_cast<const lm_rmsnorm_grad_w_p *>(c->p)->d); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const int64_t d = static_cast<const lm_rmsnorm_grad_w_p *>(c->p)->d, groups = lm_cols(&c->in[0]) / d;
    body f = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), static_cast<const float *>(c->in[2].data), groups, 0 };
    const lm_cv v[2] = { f.g, f.x };
    f.wide = lm_cuda_vec8(v, 2, d);
    return lm_colsum(c, scratch, f, lm_rows(&c->in[0]) * groups, d);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 3, 0) && lm_is_contig(&c->in[2]) && lm_is_contig(&c->out[0]); }
LM_CUDA_ONE_SHARED(rmsnorm_grad_w, "rmsnorm_grad_w/cuda", accepts, run, shared)
