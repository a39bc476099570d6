/* attn_back_hopper_cuda.cu — the kernels of attn_grad (hopper.cuh) with what is done where dq, dk and dv are finished; then the parts of the columns'
 * sums, one for 128 tokens, are added. */
#include "op/attn_grad/hopper.cuh"
extern "C" {
#include "op/attn_back/attn_back.h"
}
static const lm_attn_back_p *params(const lm_call *c) { return static_cast<const lm_attn_back_p *>(c->p); }
static int64_t columns_of(const lm_attn_p *p) { return static_cast<int64_t>(p->n_head + 2 * p->n_kv) * p->d_head; }
/* scratch: what lm_colsum wants, a row of sums for 128 tokens, attn_grad's */
static size_t parts_at(const lm_call *c) { return params(c)->sums ? up(lm_colsum_bytes(columns_of(&params(c)->attn))) : 0; }
static size_t bwd_at(const lm_call *c) {
    return parts_at(c) + (params(c)->sums ? up(static_cast<size_t>(lm_ceil_div(c->in[0].dim[0], BN) * columns_of(&params(c)->attn)) * 4) : 0);
}
static size_t shared(const lm_call *c) {
    args a;
    return bwd_at(c) + lay(&a, c->in[0].dim[0], params(c)->attn.n_head, params(c)->attn.d_head, NULL);
}
static bool accepts(const lm_call *c) {
    const lm_attn_back_p *p = params(c);
    uint32_t out = 0;
    for (int o = 0; o < 3; o++) if (c->out[o].rank) out |= 1u << o;
    return takes(c, out) && (!p->sums || (p->attn.d_head == 64 && lm_is_contig(&c->out[3]))) &&
           (!p->rope.d_head || (p->rope.rotary == p->rope.d_head && !p->rope.interleaved && lm_row_stride(&c->in[8]) % 4 == 0));
}
struct parts_row {
    const float *p;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        const float4 *x = reinterpret_cast<const float4 *>(p + r * d + j), u = x[0], v = x[1];
        s[0] += u.x; s[1] += u.y; s[2] += u.z; s[3] += u.w; s[4] += v.x; s[5] += v.y; s[6] += v.z; s[7] += v.w;
    }
};
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_attn_back_p *p = params(c);
    char *mem = static_cast<char *>(c->shared);
    args a = {};
    a.dq = lm_cv_of(&c->out[0]); a.dk = a.dv = a.dq;
    if (p->joined) {
        const int64_t q = static_cast<int64_t>(p->attn.n_head) * p->attn.d_head, k = static_cast<int64_t>(p->attn.n_kv) * p->attn.d_head;
        a.dk.p = static_cast<__nv_bfloat16 *>(a.dq.p) + q; a.dv.p = static_cast<__nv_bfloat16 *>(a.dq.p) + q + k;
    } else { a.dk = lm_cv_of(&c->out[1]); a.dv = lm_cv_of(&c->out[2]); }
    if (p->rope.d_head) { a.table = static_cast<const float *>(c->in[8].data); a.table_rs = lm_row_stride(&c->in[8]); a.sign = p->rope.inverse ? -1.0f : 1.0f; }
    if (p->sums) a.part = reinterpret_cast<float *>(mem + parts_at(c));
    LM_TRY(run_bwd<2>(c, a, mem + bwd_at(c), LM_CUDA_STREAM(scratch)));
    return p->sums ? lm_colsum(c, scratch, parts_row{ a.part }, lm_ceil_div(c->in[0].dim[0], BN), columns_of(&p->attn), 3) : LM_OK;
}
LM_HOPPER_ONE(attn_back, "attn_back/hopper", accepts, run, shared)
