/* adamw_round_cuda.cu — memory bound: 16 bytes read and 14 written per parameter, 2 fewer with gradients in bf16. */
#include "op/adamw/adamw.cuh"
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 6; i++) if (i != 1 && !lm_is_f32_vec(&c->in[i])) return false;
    if (!lm_cuda_float(&c->in[1]) || !lm_is_contig(&c->in[1])) return false;
    return !lm_has(c, 6) || (c->in[6].dtype == LM_BF16 && c->in[6].layout == LM_PLAIN && lm_is_contig(&c->in[6]));
}
static lm_adamw_args args_of(const lm_call *c) {
    const lm_adamw_args a = { lm_cv_of(&c->in[1]), static_cast<float *>(c->out[0].data), NULL, static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data),
                              lm_has(c, 6) ? static_cast<__nv_bfloat16 *>(c->out[3].data) : NULL, static_cast<const float *>(c->in[4].data), static_cast<const float *>(c->in[5].data), lm_numel(&c->in[0]) };
    return a;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return lm_adamw_run(args_of(c), LM_CUDA_STREAM(scratch)); }
static lm_err run_many(const lm_call *const *c, int n, void *scratch) {
    lm_adamw_table t = {};
    t.n = n;
    for (int i = 0; i < n; i++) t.a[i] = args_of(c[i]);
    return lm_adamw_run_many(&t, LM_CUDA_STREAM(scratch));
}
LM_CUDA_MANY(adamw_round, "adamw_round/cuda", accepts, run, NULL, run_many)
