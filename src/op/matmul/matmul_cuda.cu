/* matmul_cuda.cu — see matmul.cuh. Each output of the own kernels adds over k in one fixed order; cuBLASLt's order belongs to the shape. */
#include "op/cast/cast.cuh"
#include "op/matmul/own.cuh"
#include "op/matmul/rows.cuh"
extern "C" {
#include "op/matmul/matmul.h"
}

/* ---- few rows against bf16 weights ---- */
static bool skinny_ok(const lm_dev *d, const lm_cuda_gemm *g) {
    const lm_cv x = { const_cast<void *>(g->a.p), g->a.ld, g->a.bf16 }, w = { const_cast<void *>(g->b.p), g->b.ld, g->b.bf16 };
    return g->round && g->batch == 1 && g->tb && !g->ta && lm_skinny_takes(d, &x, g->M, g->K, &w);
}
static lm_err skinny(const lm_dev *d, const lm_cuda_gemm *g, cudaStream_t s) {
    lm_skinny k = {};
    k.kind = g->acc ? LM_SKINNY_ADD : LM_SKINNY_PLAIN; k.M = static_cast<int>(g->M); k.K = g->K;
    k.x.p = const_cast<void *>(g->a.p); k.x.rs = g->a.ld; k.x.bf16 = g->a.bf16; k.out.p = g->c; k.out.rs = g->ldc; k.out.bf16 = g->c_bf16; k.res = k.out;
    if (g->add) k.res.p = const_cast<void *>(g->add);
    k.n_part = 1; k.part[0].w = g->b.p; k.part[0].ld = g->b.ld; k.part[0].rows = g->N; k.part[0].bias = g->bias; k.part[0].bias_bf16 = g->bias_bf16;
    k.fixed = g->b_fixed;
    return lm_skinny_run(d, &k, s);
}

/* ---- cuBLASLt ---- */
static size_t up256(size_t n) { return (n + 255) & ~static_cast<size_t>(255); }
static int64_t rows_a(const lm_cuda_gemm *g) { return g->ta ? g->K : g->M; }
static int64_t cols_a(const lm_cuda_gemm *g) { return g->ta ? g->M : g->K; }
static int64_t rows_b(const lm_cuda_gemm *g) { return g->tb ? g->N : g->K; }
static int64_t cols_b(const lm_cuda_gemm *g) { return g->tb ? g->K : g->N; }
static size_t rounded(int64_t batch, int64_t rows, int64_t cols) { return up256(static_cast<size_t>(batch * rows * lm_round_up(cols, 8)) * 2); }
size_t lm_cuda_gemm_room(const lm_cuda_gemm *g) {
    size_t n = 0;
    if (g->round && !g->a.bf16) n += rounded(g->batch, rows_a(g), cols_a(g));
    if (g->round && !g->b.bf16) n += rounded(g->batch, rows_b(g), cols_b(g));
    if (g->bias && g->bias_bf16 != g->c_bf16) n += up256(static_cast<size_t>(g->N) * 4);
    return n;
}
static lm_err round_to(lm_cm *m, int64_t batch, int64_t rows, int64_t cols, char **room, cudaStream_t s) {
    const int64_t ld = lm_round_up(cols, 8);
    for (int64_t q = 0; q < batch; q++) {
        const int64_t dim[2] = { rows, cols };
        lm_tensor x = lm_tensor_of(const_cast<float *>(static_cast<const float *>(m->p) + q * m->bs), LM_F32, 2, dim), y = lm_tensor_of(*room + q * rows * ld * 2, LM_BF16, 2, dim);
        x.stride[0] = m->ld; y.stride[0] = ld;
        LM_TRY(lm_cast_cuda(&x, &y, s));
    }
    m->p = *room; m->ld = ld; m->bs = rows * ld; m->bf16 = true;
    *room += rounded(batch, rows, cols);
    return LM_OK;
}
/* 16-byte rows throughout: such a product the library always has */
bool lm_cuda_gemm_adds(lm_dev *d, const lm_cuda_gemm *g) {
    const lm_cv v[4] = { { const_cast<void *>(g->a.p), g->a.ld, g->a.bf16 },
                         { const_cast<void *>(g->b.p), g->b.ld, g->b.bf16 },
                         { g->c, g->ldc, g->c_bf16 },
                         { const_cast<void *>(g->add), g->ldc, g->c_bf16 } };
    return d && d->features & LM_CUDA_BLASLT && !(d->features & LM_CUDA_ROW_ALONE) && g->round && g->acc && g->batch == 1 && g->a.bf16 && g->b.bf16 && !g->ta && g->tb &&
           g->N % 8 == 0 && lm_cuda_vec8(v, 4, g->K) && !few_ok(g);
}
/* No row's bits may depend on M: by the kernels whose order belongs to the weights, where they take them, else by the one that adds over k in order. */
static lm_err row_alone(lm_dev *d, const lm_cuda_gemm *o, char *room, cudaStream_t s) {
    lm_cuda_gemm g = *o;
    if (g.aux || g.add) return LM_E_UNSUPPORTED;
    if (!g.round || g.batch != 1 || !g.tb || g.ta || !g.b.bf16) return any(o, s);
    if (!g.a.bf16) LM_TRY(round_to(&g.a, 1, g.M, g.K, &room, s));
    return skinny_ok(d, &g) ? skinny(d, &g, s) : any(o, s);
}
lm_err lm_cuda_gemm_run(lm_dev *d, const lm_cuda_gemm *o, void *room, cudaStream_t s) {
    lm_cuda_gemm g = *o;
    char *at = static_cast<char *>(room);
    if (!g.M || !g.N || !g.batch) return LM_OK;
    if (d && d->features & LM_CUDA_ROW_ALONE) return row_alone(d, o, at, s);
    if (g.aux && (few_ok(&g) || skinny_ok(d, &g) || !g.K || !d || !(d->features & LM_CUDA_BLASLT) || !g.round || !g.c_bf16 || !g.bias || g.batch != 1 || g.acc || g.ldaux % 8 ||
                  reinterpret_cast<uintptr_t>(g.aux) % 16))
        return LM_E_UNSUPPORTED;
    if (skinny_ok(d, &g)) return skinny(d, &g, s);
    if (g.add && !lm_cuda_gemm_adds(d, &g)) return LM_E_UNSUPPORTED;
    if (few_ok(&g)) return g.b.bf16 ? few<true>(&g, s) : few<false>(&g, s);
    if (!g.K || !d || !(d->features & LM_CUDA_BLASLT) || (!g.round && g.a.bf16 != g.b.bf16) || (g.c_bf16 && !g.round && !g.a.bf16)) return any(&g, s);
    if (g.round && !g.a.bf16) LM_TRY(round_to(&g.a, g.batch, rows_a(&g), cols_a(&g), &at, s));
    if (g.round && !g.b.bf16) LM_TRY(round_to(&g.b, g.batch, rows_b(&g), cols_b(&g), &at, s));
    if (g.bias && g.bias_bf16 != g.c_bf16) {
        const int64_t n[1] = { g.N };
        const lm_tensor x = lm_tensor_of(const_cast<void *>(g.bias), g.bias_bf16 ? LM_BF16 : LM_F32, 1, n), y = lm_tensor_of(at, g.c_bf16 ? LM_BF16 : LM_F32, 1, n);
        LM_TRY(lm_cast_cuda(&x, &y, s));
        g.bias = at; g.bias_bf16 = g.c_bf16;
    }
    lm_dev_gemm t = {};
    t.M = g.M; t.N = g.N; t.K = g.K; t.batch = g.batch; t.lda = g.a.ld; t.ldb = g.b.ld; t.ldc = g.ldc; t.sa = g.a.bs; t.sb = g.b.bs; t.sc = g.sc;
    t.a = g.a.p;
    t.b = g.b.p;
    t.bias = g.bias;
    t.c = g.c;
    t.ab_bf16 = g.a.bf16;
    t.c_bf16 = g.c_bf16;
    t.bias_bf16 = g.bias_bf16;
    t.ta = g.ta;
    t.tb = g.tb;
    t.acc = g.acc;
    t.aux = g.aux;
    t.ldaux = g.ldaux;
    t.add = g.add;
    const lm_err e = lm_dev_matmul(d, &t);
    return e == LM_E_UNSUPPORTED && !g.aux && !g.add ? any(o, s)
                                                     : e; /* a shape that the library has no algorithm for: odd and small ones */
}

/* ---- the row ---- */
static lm_cm operand(const lm_tensor *t, bool batched) { const lm_cm m = { t->data, lm_row_stride(t), batched ? t->stride[0] : 0, t->dtype == LM_BF16 }; return m; }
lm_cuda_gemm lm_matmul_cuda_problem(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    const lm_tensor *a = &c->in[0], *b = &c->in[1], *o = &c->out[0];
    const bool batched = a->rank == 3 && b->rank == 3 && !p->fold;
    const int64_t ar = batched ? a->dim[1] : lm_rows(a), br = batched ? b->dim[1] : lm_rows(b);
    lm_cuda_gemm g = {};
    g.batch = batched ? a->dim[0] : 1; g.M = p->ta ? lm_cols(a) : ar; g.K = p->ta ? ar : lm_cols(a); g.N = p->tb ? br : lm_cols(b);
    g.a = operand(a, batched); g.b = operand(b, batched); g.ta = p->ta; g.tb = p->tb; g.acc = c->acc & 1; g.round = p->mm == LM_BF16;
    if (lm_has(c, 2)) { g.bias = c->in[2].data; g.bias_bf16 = c->in[2].dtype == LM_BF16; if (!g.bias) g.bias = &g; }
    g.b_fixed = c->fixed >> 1 & 1;
    g.c = o->data; g.ldc = lm_row_stride(o); g.sc = batched ? o->stride[0] : 0; g.c_bf16 = o->dtype == LM_BF16;
    return g;
}
static bool rows_ok(const lm_tensor *t, bool batched) {
    if ((t->dtype != LM_F32 && t->dtype != LM_BF16) || t->layout != LM_PLAIN) return false;
    return batched ? lm_cols(t) <= 1 || t->stride[t->rank - 1] == 1 : lm_rows_fold(t);
}
bool lm_matmul_cuda_accepts(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    const bool batched = c->in[0].rank == 3 && c->in[1].rank == 3 && !p->fold;
    if (p->mm != LM_F32 && p->mm != LM_BF16) return false;
    if (c->out[0].dtype == LM_BF16 && p->mm != LM_BF16) return false;
    if (lm_has(c, 2) && (!rows_ok(&c->in[2], false) || !lm_is_contig(&c->in[2]))) return false;
    return rows_ok(&c->in[0], batched) && rows_ok(&c->in[1], batched) && rows_ok(&c->out[0], batched);
}
static size_t shared(const lm_call *c) {
    const lm_cuda_gemm g = lm_matmul_cuda_problem(c);
    return lm_cuda_gemm_shares(c->dev, &g) ? lm_cuda_gemm_share_room(c->dev) : lm_cuda_gemm_room(&g);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_cuda_gemm g = lm_matmul_cuda_problem(c);
    if (!g.acc && c->shared && lm_cuda_gemm_shares(c->dev, &g)) return lm_cuda_gemm_share(c->dev, &g, NULL, c->shared, LM_CUDA_STREAM(scratch));
    return lm_cuda_gemm_run(c->dev, &g, c->shared, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ALONE(matmul, "matmul/cuda", lm_matmul_cuda_accepts, run, shared, NULL)
