/* sum_rows_cuda.cu — memory bound: the input read once. The dtype is known when this is compiled, so that rows in flight do not wait for each
 * other. */
#include "op/cuda.cuh"
template <int KIND> struct body {                      /* 0: one at a time; 1: eight f32; 2: eight bf16 */
    lm_cv x;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        float v[8];
        if (KIND == 2) lm_unpack8(*reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(x.p) + r * x.rs + j), v);
        else if (KIND == 1) {
            const float4 *p = reinterpret_cast<const float4 *>(static_cast<const float *>(x.p) + r * x.rs + j), a = p[0], b = p[1];
            v[0] = a.x; v[1] = a.y; v[2] = a.z; v[3] = a.w; v[4] = b.x; v[5] = b.y; v[6] = b.z; v[7] = b.w;
        } else lm_ld_to(x, r, j, d, 0, v);
#pragma unroll
        for (int e = 0; e < 8; e++) s[e] += v[e];
    }
};
static size_t shared(const lm_call *c) { return lm_colsum_bytes(lm_cols(&c->in[0])); }
template <int KIND> static lm_err with(const lm_call *c, void *scratch) {
    const body<KIND> f = { lm_cv_of(&c->in[0]) };
    return lm_colsum(c, scratch, f, lm_rows(&c->in[0]), lm_cols(&c->in[0]));
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_cv x = lm_cv_of(&c->in[0]);
    return !lm_cuda_vec8(&x, 1, lm_cols(&c->in[0])) ? with<0>(c, scratch) : x.bf16 ? with<2>(c, scratch) : with<1>(c, scratch);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 0) && lm_is_contig(&c->out[0]); }
LM_CUDA_ONE_SHARED(sum_rows, "sum_rows/cuda", accepts, run, shared)
