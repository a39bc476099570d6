/* attn_grad_hopper_cuda.cu — the row; the kernels are hopper.cuh's. */
#include "op/attn_grad/hopper.cuh"
static size_t shared(const lm_call *c) {
    const lm_attn_p *p = static_cast<const lm_attn_p *>(c->p);
    args a;
    return lay(&a, c->in[0].dim[0], p->n_head, p->d_head, NULL);
}
static bool accepts(const lm_call *c) { return takes(c, 7); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    args a = {};
    a.dq = lm_cv_of(&c->out[0]); a.dk = lm_cv_of(&c->out[1]); a.dv = lm_cv_of(&c->out[2]);
    return run_bwd<false>(c, a, static_cast<char *>(c->shared), LM_CUDA_STREAM(scratch));
}
LM_HOPPER_ONE(attn_grad, "attn_grad/hopper", accepts, run, shared)
