/* sum_rows_cuda.cu — memory bound: the input read once. */
#include "op/cuda.cuh"
struct body {
    lm_cv x; int wide;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        float v[8];
        lm_ld_to(x, r, j, d, wide, v);
#pragma unroll
        for (int e = 0; e < 8; e++) s[e] += v[e];
    }
};
static size_t shared(const lm_call *c) { return lm_colsum_bytes(lm_cols(&c->in[0])); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    body f = { lm_cv_of(&c->in[0]), 0 };
    f.wide = lm_cuda_vec8(&f.x, 1, lm_cols(&c->in[0]));
    return lm_colsum(c, scratch, f, lm_rows(&c->in[0]), lm_cols(&c->in[0]));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 0) && lm_is_contig(&c->out[0]); }
LM_CUDA_ONE_SHARED(sum_rows, "sum_rows/cuda", accepts, run, shared)
