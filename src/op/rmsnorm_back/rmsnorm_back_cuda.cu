/* rmsnorm_back_cuda.cu — memory bound: see norm.cuh. */
#include "op/norm.cuh"
extern "C" {
#include "op/rmsnorm_back/rmsnorm_back.h"
}
static size_t shared(const lm_call *c) { return lm_norm_back_bytes(lm_rows(&c->in[0]), lm_cols(&c->in[0])); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rmsnorm_back_p *p = static_cast<const lm_rmsnorm_back_p *>(c->p); const bool again = p->outs & LM_RMSNORM_BACK_Y;
    lm_norm_back_args a = {};
    a.g = lm_cv_of(&c->in[0]);
    a.x = lm_cv_of(&c->in[1]);
    a.w = lm_cv_of(&c->in[2]);
    a.s = lm_cv_of(&c->out[0]);
    a.rows = lm_rows(&c->in[0]);
    a.d = lm_cols(&c->in[0]);
    a.eps = p->eps; a.offset = p->offset;
    if (!again) a.rstd = static_cast<const float *>(c->in[3].data);
    if (lm_has(c, 4)) a.h = lm_cv_of(&c->in[4]);
    if (again) a.y = lm_cv_of(&c->out[4]);
    return lm_norm_back_run<false>(c, a, scratch);
}
static bool accepts(const lm_call *c) { return lm_norm_back_accepts(c, 1u << 4); }
LM_CUDA_ONE_SHARED(rmsnorm_back, "rmsnorm_back/cuda", accepts, run, shared)
