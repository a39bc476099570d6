/* matmul_fp8_cuda.cu — the row: cuBLASLt's kernel where it is there and takes the problem, else fp8_gemm.cuh's, which only Hopper has. On a card that
 * is warm the library's is 3 % faster where b has blocks (and has the same bits, as far as seen) and a quarter where it has not. */
#include "op/matmul_fp8/fp8_gemm.cuh"
extern "C" {
#include "device/blas_fp8.h"
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
    if (g.acc && g.c_bf16) { g.add = g.c; g.ld_add = g.ldc; g.add_bf16 = true; g.acc = false; }
    return g;
}
static bool accepts(const lm_call *c) {
    const lm_tensor *o = &c->out[0];
    for (int i = 0; i < 4; i++) if (!lm_is_contig(&c->in[i]) || c->in[i].dtype != (i % 2 ? LM_F32 : LM_F8_E4M3)) return false;
    if (lm_has(c, 4) && (!lm_cuda_float(&c->in[4]) || lm_row_stride(&c->in[4]) % 8)) return false;
    return lm_cuda_float(o) && lm_row_stride(o) % 8 == 0 && !(o->dtype == LM_BF16 && c->acc && lm_has(c, 4));
}
static size_t shared(const lm_call *c) { const lm_fp8_gemm g = problem(c); return lm_fp8_gemm_room(&g); }
/* By the problem alone, so that a problem keeps its bits. */
static bool library(const lm_dev *d, const lm_fp8_gemm *g) {
    const bool beside = !g->add || (!g->acc && g->add_bf16 == g->c_bf16 && g->ld_add == g->ldc);
    return d->features & LM_CUDA_BLASLT && g->M == g->sa_ld && (g->b_blocks ? g->K % 512 == 0 : g->N == g->sb_ld) && beside &&
           2.0 * static_cast<double>(g->M) * static_cast<double>(g->N) * static_cast<double>(g->K) >= 2.5e8;
}
static lm_err run(const lm_call *c, int64_t t, void *st) {
    (void)t;
    const lm_fp8_gemm g = problem(c);
    if (library(c->dev, &g)) {
        lm_dev_gemm_fp8 x = {};
        x.M = g.M; x.N = g.N; x.K = g.K; x.ldc = g.ldc; x.a = g.a; x.b = g.b; x.sa = g.sa; x.sb = g.sb; x.b_blocks = g.b_blocks;
        x.c = g.c; x.c_bf16 = g.c_bf16;
        x.add = g.acc ? g.c : g.add;
        const lm_err e = lm_dev_matmul_fp8(c->dev, &x);
        if (e != LM_E_UNSUPPORTED) return e;
    }
    return lm_fp8_gemm_run(&g, c->dev->units, c->shared, LM_CUDA_STREAM(st));
}
extern "C" {
extern const lm_kernel lm_k_matmul_fp8_cuda[];
const lm_kernel lm_k_matmul_fp8_cuda[] = { { "matmul_fp8.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "matmul_fp8/hopper", accepts, shared, NULL, 1,
    { { lm_cuda_one, run } }, NULL }, {} };
}
