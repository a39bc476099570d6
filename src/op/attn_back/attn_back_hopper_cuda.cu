/* attn_back_hopper_cuda.cu — the kernels of attn_grad (hopper.cuh), which write dq, dk and dv where they stand side by side and a row of column sums
 * for 128 tokens; then those rows are added. */
#include "op/attn_grad/hopper.cuh"
extern "C" {
#include "op/attn_back/attn_back.h"
}
static const lm_attn_p *params(const lm_call *c) { return static_cast<const lm_attn_p *>(c->p); }
static int64_t cols(const lm_call *c) { return static_cast<int64_t>(params(c)->n_head + 2 * params(c)->n_kv) * params(c)->d_head; }
static int64_t parts(const lm_call *c) { return lm_ceil_div(c->in[0].dim[0], static_cast<int64_t>(bn_of(64))); }
/* scratch: what lm_colsum wants, the rows of sums, attn_grad's */
static size_t parts_at(const lm_call *c) { return up(lm_colsum_bytes(cols(c))); }
static size_t bwd_at(const lm_call *c) { return parts_at(c) + up(static_cast<size_t>(parts(c) * cols(c)) * 4); }
static size_t shared(const lm_call *c) {
    args a;
    return bwd_at(c) + lay(&a, c->in[0].dim[0], params(c)->n_head, params(c)->d_head, NULL);
}
static bool accepts(const lm_call *c) { return params(c)->d_head == 64 && takes(c, 1) && lm_is_contig(&c->out[1]); }
struct parts_row {
    const float *p;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        const float4 *x = reinterpret_cast<const float4 *>(p + r * d + j), u = x[0], v = x[1];
        s[0] += u.x; s[1] += u.y; s[2] += u.z; s[3] += u.w; s[4] += v.x; s[5] += v.y; s[6] += v.z; s[7] += v.w;
    }
};
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_attn_p *p = params(c);
    char *mem = static_cast<char *>(c->shared);
    args a = {};
    a.dq = a.dk = a.dv = lm_cv_of(&c->out[0]);
    a.dk.p = static_cast<__nv_bfloat16 *>(a.dq.p) + static_cast<int64_t>(p->n_head) * p->d_head;
    a.dv.p = static_cast<__nv_bfloat16 *>(a.dk.p) + static_cast<int64_t>(p->n_kv) * p->d_head;
    a.part = reinterpret_cast<float *>(mem + parts_at(c));
    LM_TRY(run_bwd<true>(c, a, mem + bwd_at(c), LM_CUDA_STREAM(scratch)));
    return lm_colsum(c, scratch, parts_row{ a.part }, parts(c), cols(c), 1);
}
LM_HOPPER_ONE(attn_back, "attn_back/hopper", accepts, run, shared)
