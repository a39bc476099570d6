/* xent_cuda.cu — a product and a pass over the logits per chunk of rows. */
#include "op/cast/cast.cuh"
#include "op/xent/xent.cuh"

lm_err lm_xent_cuda_w(const lm_call *c, const lm_xent_p *p, char **room, lm_cm *w, cudaStream_t s) {
    *w = lm_xent_operand(&c->in[1], 0);
    if (!lm_xent_w_bytes(c, p)) return LM_OK;
    lm_tensor y = lm_tensor_of(*room, LM_BF16, 2, c->in[1].dim);
    y.stride[0] = lm_round_up(c->in[1].dim[1], 8);
    w->p = y.data; w->ld = y.stride[0]; w->bf16 = true;
    *room += lm_xent_w_bytes(c, p);
    return lm_cast_cuda(&c->in[1], &y, s);
}
lm_err lm_xent_cuda_chunk(const lm_xent_args *a, int64_t rows, cudaStream_t s) {
    lm_xent_rows_kernel<<<static_cast<unsigned>(rows), 512, 0, s>>>(*a);
    return lm_cuda_launched();
}
static const lm_xent_p *params(const lm_call *c) { return static_cast<const lm_xent_p *>(c->p); }
static size_t shared(const lm_call *c) {
    const int64_t rows = lm_min64(lm_xent_cuda_rows(c, params(c)), lm_max64(1, c->in[0].dim[0]));
    const lm_cm w = { NULL, c->in[1].dim[1], 0, params(c)->mm == LM_BF16 || c->in[1].dtype == LM_BF16 };
    const lm_cuda_gemm g = lm_xent_cuda_logits(c, params(c), 0, rows, w, NULL);
    return lm_xent_w_bytes(c, params(c)) + lm_xent_up(static_cast<size_t>(rows * lm_xent_cuda_stride(c)) * 4) + lm_cuda_gemm_room(&g);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const cudaStream_t s = LM_CUDA_STREAM(scratch); const lm_xent_p *p = params(c);
    const int64_t n = c->in[0].dim[0], per = lm_xent_cuda_rows(c, p);
    char *at = static_cast<char *>(c->shared);
    lm_cm w;
    LM_TRY(lm_xent_cuda_w(c, p, &at, &w, s));
    float *z = reinterpret_cast<float *>(at);
    at += lm_xent_up(static_cast<size_t>(lm_min64(per, lm_max64(1, n)) * lm_xent_cuda_stride(c)) * 4);
    for (int64_t r = 0; r < n; r += per) {
        const int64_t rows = lm_min64(per, n - r);
        const lm_cuda_gemm g = lm_xent_cuda_logits(c, p, r, rows, w, z);
        LM_TRY(lm_cuda_gemm_run(c->dev, &g, at, s));
        const lm_xent_args a = { z, NULL, lm_xent_cuda_stride(c), 0, c->in[1].dim[0], static_cast<const int32_t *>(c->in[2].data) + r, lm_has(c, 3) ? static_cast<const float *>(c->in[3].data) + r : NULL,
                                 static_cast<float *>(c->out[0].data) + r, static_cast<float *>(c->out[1].data) + r, p->label_smoothing, p->z_loss, 0, 0, c->fault };
        LM_TRY(lm_xent_cuda_chunk(&a, rows, s));
    }
    return LM_OK;
}
static bool accepts(const lm_call *c) { return lm_xent_cuda_accepts(c, params(c)); }
LM_CUDA_ONE_SHARED(xent, "xent/cuda", accepts, run, shared)
