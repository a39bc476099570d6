/* half_cuda.cu — matmul with operands, results or a bias in f16: by cuBLASLt where both operands are half, sums in f32; else, and for one
 * to four rows of a weight, own.cuh's kernels. Half has more bits than bf16, so mm BF16 asks no rounding where both are that; a mix is rounded to
 * bf16 as everywhere. */
#define LM_F16_ROWS
#include "op/matmul/own.cuh"
extern "C" {
#include "device/blas_f16.h"
#include "op/matmul/matmul.h"
}
static lm_cm operand(const lm_tensor *t, bool batched) { const lm_cm m = { t->data, lm_row_stride(t), batched ? t->stride[0] : 0, t->dtype == LM_H16 }; return m; }
static bool batched(const lm_call *c) { return c->in[0].rank == 3 && c->in[1].rank == 3 && !static_cast<const lm_matmul_p *>(c->p)->fold; }
static lm_cuda_gemm problem(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    const lm_tensor *a = &c->in[0], *b = &c->in[1], *o = &c->out[0];
    const bool many = batched(c);
    const int64_t ar = many ? a->dim[1] : lm_rows(a), br = many ? b->dim[1] : lm_rows(b);
    lm_cuda_gemm g = {};
    g.batch = many ? a->dim[0] : 1; g.M = p->ta ? lm_cols(a) : ar; g.K = p->ta ? ar : lm_cols(a); g.N = p->tb ? br : lm_cols(b);
    g.a = operand(a, many); g.b = operand(b, many); g.ta = p->ta; g.tb = p->tb; g.acc = c->acc & 1; g.round = p->mm == LM_BF16 && !(g.a.bf16 && g.b.bf16);
    if (lm_has(c, 2)) { g.bias = c->in[2].data; g.bias_bf16 = c->in[2].dtype == LM_H16; }
    g.c = o->data; g.ldc = lm_row_stride(o); g.sc = many ? o->stride[0] : 0; g.c_bf16 = o->dtype == LM_H16;
    return g;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_cuda_gemm g = problem(c);
    if (!g.M || !g.N || !g.batch) return LM_OK;
    if (few_ok(&g)) return g.b.bf16 ? few<true>(&g, LM_CUDA_STREAM(scratch)) : few<false>(&g, LM_CUDA_STREAM(scratch));
    const bool library = c->dev && c->dev->features & LM_CUDA_BLASLT && !(c->dev->features & LM_CUDA_ROW_ALONE);
    if (!library || !g.K || !g.a.bf16 || !g.b.bf16 || (g.bias && g.bias_bf16 != g.c_bf16)) return any(&g, LM_CUDA_STREAM(scratch));
    lm_dev_gemm t = {};
    t.M = g.M; t.N = g.N; t.K = g.K; t.batch = g.batch; t.lda = g.a.ld; t.ldb = g.b.ld; t.ldc = g.ldc; t.sa = g.a.bs; t.sb = g.b.bs; t.sc = g.sc;
    t.a = g.a.p; t.b = g.b.p; t.bias = g.bias; t.c = g.c;
    t.ab_bf16 = true; t.c_bf16 = g.c_bf16; t.bias_bf16 = g.bias_bf16; t.ta = g.ta; t.tb = g.tb; t.acc = g.acc;
    const lm_err e = lm_dev_matmul_f16(c->dev, &t);
    return e == LM_E_UNSUPPORTED ? any(&g, LM_CUDA_STREAM(scratch)) : e;   /* a shape that the library has no algorithm for */
}
static bool rows_ok(const lm_tensor *t, bool many) {
    if ((t->dtype != LM_F32 && t->dtype != LM_H16) || t->layout != LM_PLAIN) return false;
    return many ? lm_cols(t) <= 1 || t->stride[t->rank - 1] == 1 : lm_rows_fold(t);
}
static bool accepts(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    const bool many = batched(c);
    if (!lm_cuda_ours(c) || (p->mm != LM_F32 && p->mm != LM_BF16)) return false;
    if (lm_has(c, 2) && (!rows_ok(&c->in[2], false) || !lm_is_contig(&c->in[2]))) return false;
    return rows_ok(&c->in[0], many) && rows_ok(&c->in[1], many) && rows_ok(&c->out[0], many);
}
extern "C" {
extern const lm_kernel lm_k_matmul_half_cuda[];
const lm_kernel lm_k_matmul_half_cuda[] = { { "matmul.cuda.f16", LM_DEV_CUDA, LM_CUDA_SM80, "matmul/cuda", accepts, NULL, NULL, 1, { { lm_cuda_one, run } }, NULL }, {} };
}
