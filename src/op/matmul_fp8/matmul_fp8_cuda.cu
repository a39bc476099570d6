/* matmul_fp8_cuda.cu — the row: fp8_gemm.cuh's kernel, which only Hopper has. */
#include "op/matmul_fp8/fp8_gemm.cuh"
extern "C" {
#include "op/matmul_fp8/matmul_fp8.h"
}
static lm_fp8_gemm problem(const lm_call *c) {
    const lm_tensor *a = &c->in[0], *b = &c->in[2], *o = &c->out[0];
    lm_fp8_gemm g = {};
    g.M = a->dim[0]; g.K = a->dim[1]; g.N = b->dim[0]; g.a = a->data; g.b = b->data;
    g.sa = static_cast<const float *>(c->in[1].data); g.sb = static_cast<const float *>(c->in[3].data);
    g.sa_ld = c->in[1].dim[1]; g.sb_ld = c->in[3].dim[1]; g.b_blocks = static_cast<const lm_matmul_fp8_p *>(c->p)->b_blocks;
    if (lm_has(c, 4)) { g.add = c->in[4].data; g.ld_add = lm_row_stride(&c->in[4]); g.add_bf16 = c->in[4].dtype == LM_BF16; }
    g.c = o->data; g.ldc = lm_row_stride(o); g.c_bf16 = o->dtype == LM_BF16; g.acc = c->acc & 1;
    return g;
}
static bool accepts(const lm_call *c) {
    const lm_tensor *o = &c->out[0];
    for (int i = 0; i < 4; i++) if (!lm_is_contig(&c->in[i]) || c->in[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3)) return false;
    if (lm_has(c, 4) && (!lm_cuda_float(&c->in[4]) || lm_row_stride(&c->in[4]) % 8)) return false;
    return lm_cuda_float(o) && lm_row_stride(o) % 8 == 0 && !(o->dtype == LM_BF16 && c->acc);
}
static size_t shared(const lm_call *c) { const lm_fp8_gemm g = problem(c); return lm_fp8_gemm_room(&g); }
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    const lm_fp8_gemm g = problem(c);
    return lm_fp8_gemm_run(&g, c->dev->units, c->shared, LM_CUDA_STREAM(st));
}
extern "C" {
extern const lm_kernel lm_k_matmul_fp8_cuda[];
const lm_kernel lm_k_matmul_fp8_cuda[] = { { "matmul_fp8.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "matmul_fp8/hopper", accepts, shared, NULL, 1,
    { { lm_cuda_one, run } }, NULL }, {} };
}
