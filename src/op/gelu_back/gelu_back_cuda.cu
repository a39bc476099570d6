/* gelu_back_cuda.cu — memory bound: two read, two written, where apart seven move. Rows are walked as sums over rows are: the sums are of dx before
 * it is rounded. */
#include "op/cuda.cuh"
extern "C" {
#include "op/gelu_back/gelu_back.h"
}
/* WIDE 2: eight bf16 at a time, everywhere; a quick exponential and division are exact enough for those, and plain ones cost more than memory. */
template <bool TANH, int WIDE> struct body {
    lm_cv g, x, dx, y;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        float v[8], u[8], z[8];
        if (WIDE == 2) {
            lm_unpack8(*reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(g.p) + r * g.rs + j), v);
            lm_unpack8(*reinterpret_cast<const uint4 *>(static_cast<const lm_h16 *>(x.p) + r * x.rs + j), u);
        } else if (WIDE) {
            const lm_raw8 a = lm_ldraw(g, r * g.rs + j), b = lm_ldraw(x, r * x.rs + j);
            lm_unraw(g, a, v); lm_unraw(x, b, u);
        } else { lm_ld_to(g, r, j, d, 0, v); lm_ld_to(x, r, j, d, 0, u); }
#pragma unroll
        for (int e = 0; e < 8; e++) {
            const float t = u[e], q = t * t;
            if (TANH) {
                const float a = t * (q * 0.0713548162726f + 1.59576912161f), p = WIDE == 2 ? __fdividef(1.0f, 1.0f + __expf(-a)) : lm_cuda_sigmoid(a);
                z[e] = t * p;
                v[e] *= p + p * (1.0f - p) * t * (q * 0.2140644488178f + 1.59576912161f);
            } else {
                const float p = normcdff(t);
                z[e] = t * p;
                v[e] *= p + t * expf(q * -0.5f) * 0.398942280401432678f;
            }
            s[e] += j + e < d ? v[e] : 0.0f;
        }
        if (WIDE) {
            lm_cv dx = this->dx, y = this->y;
            if (WIDE == 2) dx.bf16 = y.bf16 = 1;
            lm_st8(dx, r * dx.rs + j, v);
            if (y.p) lm_st8(y, r * y.rs + j, z);
        } else {
#pragma unroll
            for (int e = 0; e < 8; e++) if (j + e < d) {
                lm_st1(dx, r * dx.rs + j + e, v[e]);
                if (y.p) lm_st1(y, r * y.rs + j + e, z[e]);
            }
        }
    }
};
static size_t shared(const lm_call *c) { return lm_colsum_bytes(lm_cols(&c->in[0])); }
template <bool TANH, int WIDE> static lm_err as(const lm_call *c, const lm_cv *v, void *scratch) {
    const body<TANH, WIDE> f = { v[0], v[1], v[2], v[3] };
    return lm_colsum<body<TANH, WIDE>, 2>(c, scratch, f, lm_rows(&c->in[0]), lm_cols(&c->in[0]), 1);
}
template <bool TANH> static lm_err with(const lm_call *c, void *scratch) {
    const lm_gelu_back_p *p = static_cast<const lm_gelu_back_p *>(c->p);
    lm_cv v[4] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), {} };
    if (p->outs & LM_GELU_BACK_Y) v[3] = lm_cv_of(&c->out[2]);
    if (!lm_cuda_vec8(v, 4, lm_cols(&c->in[0]))) return as<TANH, 0>(c, v, scratch);
    return v[0].bf16 && v[1].bf16 && v[2].bf16 && (!v[3].p || v[3].bf16) ? as<TANH, 2>(c, v, scratch) : as<TANH, 1>(c, v, scratch);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    return static_cast<const lm_gelu_back_p *>(c->p)->tanh ? with<true>(c, scratch) : with<false>(c, scratch);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 3, 5) && (!c->out[1].rank || lm_is_contig(&c->out[1])); }
LM_CUDA_ONE_SHARED(gelu_back, "gelu_back/cuda", accepts, run, shared)
