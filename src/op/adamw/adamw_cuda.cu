/* adamw_cuda.cu — memory bound: 16 bytes read and 16 written per parameter. */
#include "op/adamw/adamw.cuh"
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 6; i++) if (!lm_is_f32_vec(&c->in[i])) return false;
    return true;
}
static lm_adamw_args args_of(const lm_call *c) {
    const lm_adamw_args a = { lm_cv_of(&c->out[1]), static_cast<float *>(c->out[0].data), static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data), static_cast<float *>(c->out[3].data),
                              NULL, static_cast<const float *>(c->in[4].data), static_cast<const float *>(c->in[5].data), lm_numel(&c->in[0]) };
    return a;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return lm_adamw_run(args_of(c), LM_CUDA_STREAM(scratch)); }
static lm_err run_many(const lm_call *const *c, int n, void *scratch) {
    lm_adamw_table t = {};
    t.n = n;
    for (int i = 0; i < n; i++) t.a[i] = args_of(c[i]);
    return lm_adamw_run_many(&t, LM_CUDA_STREAM(scratch));
}
LM_CUDA_MANY(adamw, "adamw/cuda", accepts, run, NULL, run_many)
