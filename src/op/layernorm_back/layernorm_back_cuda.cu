/* layernorm_back_cuda.cu — memory bound: see norm.cuh. */
#include "op/norm.cuh"
extern "C" {
#include "op/layernorm_back/layernorm_back.h"
}
static size_t shared(const lm_call *c) { return lm_norm_back_bytes(lm_rows(&c->in[0]), lm_cols(&c->in[0])); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_layernorm_back_p *p = static_cast<const lm_layernorm_back_p *>(c->p); const bool again = p->outs & LM_NORM_BACK_Y;
    lm_norm_back_args a = {};
    a.g = lm_cv_of(&c->in[0]);
    a.x = lm_cv_of(&c->in[1]);
    a.w = lm_cv_of(&c->in[2]);
    a.s = lm_cv_of(&c->out[0]);
    a.rows = lm_rows(&c->in[0]);
    a.d = lm_cols(&c->in[0]);
    a.eps = p->eps;
    if (!again) { a.mean = static_cast<const float *>(c->in[3].data); a.rstd = static_cast<const float *>(c->in[4].data); }
    if (lm_has(c, 5)) a.h = lm_cv_of(&c->in[5]);
    if (lm_has(c, 6)) a.bias = lm_cv_of(&c->in[6]);
    if (again) a.y = lm_cv_of(&c->out[4]);
    return lm_norm_back_run<true>(c, a, scratch);
}
static bool accepts(const lm_call *c) { return lm_norm_back_accepts(c, 1u << 5); }
LM_CUDA_ONE_SHARED(layernorm_back, "layernorm_back/cuda", accepts, run, shared)
