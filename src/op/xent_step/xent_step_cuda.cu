/* xent_step_cuda.cu — per chunk of rows: logits, d loss / d logits, dx = dz W, dW += dzᵀ x. With bf16 products the logits are
 * bf16 too: 2 bytes written, read, written and read twice by the products, per logit. */
#include "op/xent_step/xent_step.cuh"
extern "C" {
#include "op/xent_step/xent_step.h"
}
static const lm_xent_p *params(const lm_call *c) { return &static_cast<const lm_xent_step_p *>(c->p)->xent; }
static size_t shared(const lm_call *c) { const lm_xent_step_plan q = lm_xent_step_plan_of(c, params(c)); return lm_xent_w_bytes(c, params(c)) + q.z + q.x; }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const cudaStream_t s = LM_CUDA_STREAM(scratch); const lm_xent_p *p = params(c); const lm_xent_step_plan q = lm_xent_step_plan_of(c, p);
    char *at = static_cast<char *>(c->shared);
    lm_cm w;
    LM_TRY(lm_xent_cuda_w(c, p, &at, &w, s));
    void *z = at;
    char *xroom = at + q.z;
    float *dw = static_cast<float *>(c->out[3].data);
    bool acc = c->acc >> 3 & 1;
    if (!acc && !q.n && cudaMemsetAsync(dw, 0, static_cast<size_t>(q.V * q.d) * 4, s) != cudaSuccess) return LM_E_DEVICE;
    for (int64_t r = 0; r < q.n; r += q.per, acc = true) {
        const int64_t rows = lm_min64(q.per, q.n - r);
        lm_cm x;
        LM_TRY(lm_xent_step_x(c, &q, r, rows, xroom, &x, s));
        lm_cuda_gemm g = lm_xent_cuda_logits(c, p, r, rows, w, z, q.half);
        g.a = x;
        LM_TRY(lm_cuda_gemm_run(c->dev, &g, NULL, s));
        const lm_xent_args a = { z,
                                 q.zs,
                                 q.V,
                                 static_cast<const int32_t *>(c->in[2].data) + r,
                                 lm_has(c, 3) ? static_cast<const float *>(c->in[3].data) + r : NULL,
                                 static_cast<float *>(c->out[0].data) + r,
                                 static_cast<float *>(c->out[1].data) + r,
                                 p->label_smoothing,
                                 p->z_loss,
                                 p->cap,
                                 1,
                                 q.half,
                                 c->fault };
        LM_TRY(lm_xent_cuda_chunk(&a, rows, s));
        const lm_cm dzm = { z, q.zs, 0, q.half };
        const lm_cv to = lm_xent_step_dx(c, r);
        const lm_cuda_gemm gx = lm_xent_dx(rows, q.d, q.N, dzm, w, q.half, to), gw = lm_xent_dw(rows, q.d, q.V, dzm, x, q.half, dw, acc);
        LM_TRY(lm_cuda_gemm_run(c->dev, &gx, NULL, s));
        LM_TRY(lm_cuda_gemm_run(c->dev, &gw, NULL, s));
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_xent_cuda_accepts(c, params(c)) && (params(c)->mm == LM_BF16 || c->out[2].dtype == LM_F32); }
LM_CUDA_ONE_SHARED(xent_step, "xent_step/cuda", accepts, run, shared)
