/* cast_cuda.cu — memory bound. */
#include "op/cast/cast.cuh"
/* Several tensors: a block has 2048 elements of the one whose blocks it is among. */
enum { PER = 2048 };
struct table { lm_cv x[LM_MANY], y[LM_MANY]; int64_t n[LM_MANY]; unsigned end[LM_MANY]; int count; };
static __global__ void __launch_bounds__(256) many(const __grid_constant__ table t) {
    unsigned block;
    const int k = lm_cuda_among(t.end, t.count, &block);
    const int64_t i = static_cast<int64_t>(block) * PER + threadIdx.x * 8;
    if (i >= t.n[k]) return;
    float f[8];
    lm_ld8(t.x[k], i, f); lm_st8(t.y[k], i, f);
}
static bool accepts(const lm_call *c) { return lm_cast_cuda_ok(&c->in[0]) && lm_cast_cuda_ok(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return lm_cast_cuda(&c->in[0], &c->out[0], LM_CUDA_STREAM(scratch)); }
static bool plain(const lm_call *c) {
    const lm_cv v[2] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->out[0]) };
    return lm_is_contig(&c->in[0]) && lm_is_contig(&c->out[0]) && c->in[0].dtype != LM_F16 && c->out[0].dtype != LM_F16 && lm_cuda_vec8(v, 2, lm_numel(&c->in[0]));
}
static lm_err run_many(const lm_call *const *c, int n, void *scratch) {
    table t = {};
    int64_t blocks = 0;
    for (int i = 0; i < n; i++) {
        if (!plain(c[i])) { LM_TRY(run(c[i], 0, scratch)); continue; }
        const int k = t.count++;
        t.x[k] = lm_cv_of(&c[i]->in[0]); t.y[k] = lm_cv_of(&c[i]->out[0]); t.n[k] = lm_numel(&c[i]->in[0]);
        blocks += lm_ceil_div(t.n[k], PER);
        if (blocks > INT32_MAX) return LM_E_RANGE;
        t.end[k] = static_cast<unsigned>(blocks);
    }
    if (blocks) many<<<static_cast<unsigned>(blocks), 256, 0, LM_CUDA_STREAM(scratch)>>>(t);
    return lm_cuda_launched();
}
LM_CUDA_ALONE(cast, "cast", accepts, run, NULL, run_many)
