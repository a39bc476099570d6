/* add_layernorm_cuda.cu — memory bound: two read, two written, where add and layernorm apart move five. */
#include "op/norm.cuh"
extern "C" {
#include "op/add_layernorm/add_layernorm.h"
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    lm_add_norm_args a = { lm_cv_of(&c->in[0]),
                           lm_cv_of(&c->in[1]),
                           lm_cv_of(&c->in[2]),
                           lm_cv_of(&c->in[2]),
                           lm_cv_of(&c->out[0]),
                           lm_cv_of(&c->out[1]),
                           static_cast<float *>(c->out[2].data),
                           static_cast<float *>(c->out[3].data),
                           lm_rows(&c->in[0]),
                           lm_cols(&c->in[0]),
                           static_cast<const lm_layernorm_p *>(c->p)->eps,
                           0 };
    if (lm_has(c, 3)) a.bias = lm_cv_of(&c->in[3]); else a.bias.p = NULL;
    return lm_add_norm_run<true>(a, scratch);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 15, 2) && lm_is_contig(&c->out[2]) && lm_is_contig(&c->out[3]); }
LM_CUDA_ONE(add_layernorm, "add_layernorm/cuda", accepts, run)
