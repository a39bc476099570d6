/* xent_step.cuh — a chunk of rows and the two products behind its d loss / d logits: for the *_cuda.cu files of xent_step.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE. */
#ifndef LM_XENT_STEP_CUH
#define LM_XENT_STEP_CUH
#include "op/cast/cast.cuh"
#include "op/xent/xent.cuh"
/* per: rows of a chunk; N: columns of logits, of which V count, zs numbers apart; bytes of a chunk's logits, and of its x where that is rounded */
typedef struct { int64_t per, n, V, N, d, zs; bool half; size_t z, x; } lm_xent_step_plan;
static inline lm_xent_step_plan lm_xent_step_plan_of(const lm_call *c, const lm_xent_p *p) {
    lm_xent_step_plan q = {};
    q.n = c->in[0].dim[0]; q.V = c->in[1].dim[0]; q.N = lm_xent_cuda_n(c, p); q.d = c->in[0].dim[1]; q.zs = lm_xent_cuda_stride(c); q.half = p->mm == LM_BF16;
    q.per = lm_min64(lm_xent_cuda_rows(c, p), lm_max64(1, q.n));
    q.z = lm_xent_up(static_cast<size_t>(q.per * q.zs) * (q.half ? 2 : 4));
    q.x = q.half && c->in[0].dtype == LM_F32 ? lm_xent_up(static_cast<size_t>(q.per * lm_round_up(q.d, 8)) * 2) : 0;
    return q;
}
/* The chunk's x from row r on; where the plan says so rounded once, into room, for two products. */
static inline lm_err lm_xent_step_x(const lm_call *c, const lm_xent_step_plan *q, int64_t r, int64_t rows, void *room, lm_cm *x, cudaStream_t s) {
    *x = lm_xent_operand(&c->in[0], r);
    if (!q->x) return LM_OK;
    const int64_t dim[2] = { rows, q->d };
    lm_tensor from = lm_tensor_of(const_cast<void *>(x->p), LM_F32, 2, dim), to = lm_tensor_of(room, LM_BF16, 2, dim);
    from.stride[0] = x->ld; to.stride[0] = lm_round_up(q->d, 8);
    x->p = room; x->ld = to.stride[0]; x->bf16 = true;
    return lm_cast_cuda(&from, &to, s);
}
/* dx's rows from r on */
static inline lm_cv lm_xent_step_dx(const lm_call *c, int64_t r) {
    lm_cv to = lm_cv_of(&c->out[2]);
    to.p = static_cast<char *>(to.p) + static_cast<size_t>(r * to.rs) * (to.bf16 ? 2 : 4);
    return to;
}
/* dx (rows, d) = dz (rows, N) W */
static inline lm_cuda_gemm lm_xent_dx(int64_t rows, int64_t d, int64_t N, const lm_cm &dz, const lm_cm &w, bool half, const lm_cv &c) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = rows; g.N = d; g.K = N; g.a = dz; g.b = w; g.round = half; g.c = c.p; g.ldc = c.rs; g.c_bf16 = c.bf16;
    return g;
}
/* dW (V, d) = [dW +] dzᵀ x */
static inline lm_cuda_gemm lm_xent_dw(int64_t rows, int64_t d, int64_t V, const lm_cm &dz, const lm_cm &x, bool half, float *dw, bool acc) {
    lm_cuda_gemm g = {};
    g.batch = 1; g.M = V; g.N = d; g.K = rows; g.a = dz; g.ta = true; g.b = x; g.round = half; g.c = dw; g.ldc = d; g.acc = acc;
    return g;
}
#endif
