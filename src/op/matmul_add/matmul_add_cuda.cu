/* matmul_add_cuda.cu — the product with C added in; where h is not the output's own memory (the planner sees to that) it is copied there first. */
#include "op/cast/cast.cuh"
#include "op/matmul/matmul.cuh"
extern "C" {
#include "op/matmul_add/matmul_add.h"
}
static lm_call product(const lm_call *c) {
    lm_call p = *c;
    p.in[0] = c->in[1]; p.in[1] = c->in[2]; p.n_in = 2; p.acc = 1;
    return p;
}
static bool accepts(const lm_call *c) { const lm_call p = product(c); return lm_matmul_cuda_accepts(&p) && lm_cuda_float(&c->in[0]); }
static size_t shared(const lm_call *c) {
    const lm_call p = product(c);
    const lm_cuda_gemm g = lm_matmul_cuda_problem(&p);
    return lm_cuda_gemm_room(&g);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_call p = product(c);
    const lm_cuda_gemm g = lm_matmul_cuda_problem(&p);
    if (c->in[0].data != c->out[0].data) LM_TRY(lm_cast_cuda(&c->in[0], &c->out[0], LM_CUDA_STREAM(scratch)));
    return lm_cuda_gemm_run(c->dev, &g, c->shared, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ONE_SHARED(matmul_add, "matmul_add/cuda", accepts, run, shared)
