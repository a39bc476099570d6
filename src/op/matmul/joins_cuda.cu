/* joins_cuda.cu — what a decoder does around its products, in one kernel each where there are few rows (skinny.cuh):
 *   norm → q, k, v → rotation → pages;   norm → gate, up → silu(gate)·up;   product → sum with the residual;   head → its largest;
 * and in two kernels, where rows.cuh has both products: product → residual → norm → one of the first two. */
#include "op/matmul/matmul.cuh"
#include "op/matmul/rows.cuh"
#include "op/peak/peak.cuh"
extern "C" {
#include "op/join.h"
#include "op/kv_write/kv_write.h"
#include "op/matmul/matmul.h"
#include "op/rmsnorm/rmsnorm.h"
#include "op/rope/rope.h"
}
/* x Wᵀ in bf16 with W as it lies in memory; normed: x is what the join's norm makes, and is bf16. */
static bool product(const lm_call *c, bool normed = false) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    if (p->ta || !p->tb || p->fold || p->mm != LM_BF16 || c->acc || c->in[0].rank != 2 || c->in[1].rank != 2) return false;
    if (c->in[1].layout != LM_PLAIN || c->in[1].dtype != LM_BF16 || !lm_cuda_float(&c->in[0]) || (lm_has(c, 2) && !lm_is_contig(&c->in[2]))) return false;
    lm_cv x = lm_cv_of(&c->in[0]); const lm_cv w = lm_cv_of(&c->in[1]);
    if (normed) x.bf16 = 1;
    return lm_skinny_takes(c->dev, &x, c->in[0].dim[0], c->in[0].dim[1], &w);
}
static lm_skinny_part part(const lm_call *c) {
    lm_skinny_part w = {};
    w.w = c->in[1].data; w.ld = lm_row_stride(&c->in[1]); w.rows = c->in[1].dim[0]; w.mid_bf16 = c->out[0].dtype == LM_BF16;
    if (lm_has(c, 2)) { w.bias = c->in[2].data; w.bias_bf16 = c->in[2].dtype == LM_BF16; }
    return w;
}
static bool fixed(const lm_call *c) { return c->fixed >> 1 & 1; }
static bool norm_ok(const lm_call *c) {
    const lm_cv v[2] = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]) };
    return c->in[0].rank == 2 && c->in[1].rank == 1 && c->in[0].dim[1] <= LM_SKINNY_NORM && c->in[1].dim[0] == c->in[0].dim[1] && lm_cuda_float(&c->in[0]) && lm_cuda_float(&c->in[1]) && lm_cuda_vec8(v, 2, c->in[0].dim[1]);
}
static void with_norm(lm_skinny *s, const lm_call *n) {
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(n->p);
    s->M = static_cast<int>(n->in[0].dim[0]); s->K = n->in[0].dim[1]; s->x = lm_cv_of(&n->in[0]); s->norm = lm_cv_of(&n->in[1]); s->eps = p->eps; s->offset = p->offset;
    s->room = n->out[0].data;                                            /* nobody else reads it; f32 or bf16, it is large enough */
}

/* ---- 0 y=rmsnorm(x,w) 1 q=matmul(y,a) 2 k=matmul(y,b) 3 v=matmul(y,c) 4 s=rope(k,t) 5 r=rope(q,t) 6 kv_write(m,n,s,v,i) ---- */
static bool qkv_ok(const lm_call *const *c) {
    const lm_rope_p *rk = static_cast<const lm_rope_p *>(c[4]->p), *rq = static_cast<const lm_rope_p *>(c[5]->p);
    const lm_kv_write_p *w = static_cast<const lm_kv_write_p *>(c[6]->p);
    const int d = w->d_head;
    if (!norm_ok(c[0]) || !product(c[1], true) || !product(c[2], true) || !product(c[3], true) || d % 8) return false;
    if ((c[0]->in[0].dim[0] > LM_SKINNY_ROWS || c[1]->dev->features & LM_CUDA_ROW_ALONE) && d % 64) return false;
    for (const lm_rope_p *r : { rk, rq }) if (r->d_head != d || r->rotary != d || r->interleaved || r->inverse) return false;
    if (c[1]->in[1].dim[0] % d || c[2]->in[1].dim[0] != static_cast<int64_t>(w->n_kv) * d || c[3]->in[1].dim[0] != c[2]->in[1].dim[0]) return false;
    for (int i = 0; i < 2; i++) if ((c[6]->in[i].dtype != LM_F32 && c[6]->in[i].dtype != LM_BF16) || c[6]->in[i].dtype != c[6]->in[0].dtype || !lm_is_contig(&c[6]->in[i])) return false;
    return lm_is_contig(&c[6]->in[4]) && lm_cuda_float(&c[5]->out[0]) && lm_cuda_float(&c[4]->in[1]);
}
static lm_skinny qkv_of(const lm_call *const *c) {
    lm_skinny s = {};
    with_norm(&s, c[0]);
    s.kind = LM_SKINNY_QKV; s.n_part = 3;
    for (int i = 0; i < 3; i++) s.part[i] = part(c[1 + i]);
    s.out = lm_cv_of(&c[5]->out[0]); s.turn = lm_cv_of(&c[4]->in[1]); s.d = static_cast<const lm_kv_write_p *>(c[6]->p)->d_head; s.k_bf16 = c[4]->out[0].dtype == LM_BF16;
    s.kv_bf16 = c[6]->out[0].dtype == LM_BF16; s.kp = c[6]->out[0].data; s.vp = c[6]->out[1].data; s.slot = static_cast<const int32_t *>(c[6]->in[4].data); s.pages = c[6]->out[0].dim[0]; s.fault = c[6]->fault;
    s.fixed = fixed(c[0]) && fixed(c[1]) && fixed(c[2]) && fixed(c[3]);
    return s;
}
static lm_err qkv(const lm_call *const *c, void *scratch) {
    const lm_skinny s = qkv_of(c);
    return lm_skinny_run(c[1]->dev, &s, LM_CUDA_STREAM(scratch));
}
/* ---- 0 y=rmsnorm(x,w) 1 g=matmul(y,a) 2 u=matmul(y,b) 3 swiglu(g,u) ---- */
static bool gated_ok(const lm_call *const *c) {
    return norm_ok(c[0]) && product(c[1], true) && product(c[2], true) && c[1]->in[1].dim[0] % 4 == 0 && lm_cuda_float(&c[3]->out[0]);
}
static lm_skinny gated_of(const lm_call *const *c) {
    lm_skinny s = {};
    with_norm(&s, c[0]);
    s.kind = LM_SKINNY_GATED; s.n_part = 2; s.part[0] = part(c[1]); s.part[1] = part(c[2]); s.out = lm_cv_of(&c[3]->out[0]); s.fixed = fixed(c[0]) && fixed(c[1]) && fixed(c[2]);
    return s;
}
static lm_err gated(const lm_call *const *c, void *scratch) {
    const lm_skinny s = gated_of(c);
    return lm_skinny_run(c[1]->dev, &s, LM_CUDA_STREAM(scratch));
}
/* ---- 0 a=matmul(x,w) 1 add(r,a): of many rows the library's product with something to add; the product is not rounded before that ---- */
static lm_cuda_gemm many_of(const lm_call *const *c) {
    lm_cuda_gemm g = lm_matmul_cuda_problem(c[0]);
    const lm_tensor *r = &c[1]->in[0], *o = &c[1]->out[0];
    g.add = r->data; g.c = o->data; g.ldc = lm_row_stride(o); g.c_bf16 = o->dtype == LM_BF16; g.acc = true;
    return g;
}
static bool many_ok(const lm_call *const *c) {
    const lm_tensor *r = &c[1]->in[0], *a = &c[1]->in[1], *o = &c[1]->out[0];
    if (c[0]->acc || !lm_matmul_cuda_accepts(c[0]) || c[0]->in[0].rank != 2 || c[0]->in[1].rank != 2 || lm_has(c[0], 2) || r->rank != 2 ||
        a->rank != 2 || o->rank != 2)
        return false;
    if (!lm_cuda_float(r) || !lm_cuda_float(o) || r->dtype != o->dtype || lm_row_stride(r) != lm_row_stride(o) || r->dim[0] != o->dim[0] ||
        r->dim[1] != o->dim[1])
        return false;
    const lm_cuda_gemm g = many_of(c);
    return g.M > LM_ROWS && g.N >= 8 && g.K >= 8 && lm_cuda_gemm_room(&g) == 0 && lm_cuda_gemm_adds(c[0]->dev, &g);
}
static bool residual_ok(const lm_call *const *c) {
    if (many_ok(c)) return true;
    return product(c[0]) && c[1]->in[0].rank == 2 && c[1]->in[1].rank == 2 && lm_cuda_float(&c[1]->in[0]) && lm_cuda_float(&c[1]->out[0]);
}
static lm_skinny residual_of(const lm_call *const *c) {
    lm_skinny s = {};
    s.M = static_cast<int>(c[0]->in[0].dim[0]); s.K = c[0]->in[0].dim[1]; s.x = lm_cv_of(&c[0]->in[0]);
    s.kind = LM_SKINNY_ADD; s.n_part = 1; s.part[0] = part(c[0]); s.res = lm_cv_of(&c[1]->in[0]); s.out = lm_cv_of(&c[1]->out[0]); s.fixed = fixed(c[0]);
    return s;
}
static lm_err residual(const lm_call *const *c, void *scratch) {
    if (many_ok(c)) { const lm_cuda_gemm g = many_of(c); return lm_cuda_gemm_run(c[0]->dev, &g, NULL, LM_CUDA_STREAM(scratch)); }
    const lm_skinny s = residual_of(c);
    return lm_skinny_run(c[0]->dev, &s, LM_CUDA_STREAM(scratch));
}
/* ---- 0 a=matmul(x,w) 1 o=add(r,a) and then one of the first two: the norm between is half in each product's kernel (skinny.cuh) ---- */
static void halves(const lm_call *const *c, lm_skinny *first, lm_skinny *second) {
    first->norm_next = second->norm; first->offset_next = second->offset; first->next = second->room;
    first->squares =
        static_cast<float *>(c[0]->out[0].data); /* the product itself, which nobody reads; 8 numbers to 128 columns are less */
    first->fixed = first->fixed && c[2]->fixed >> 1 & 1;
    second->norm.p = NULL; second->x.p = second->room; second->x.rs = second->K; second->x.bf16 = 1; second->parts = first->squares;
}
static bool both(const lm_call *const *c, bool (*ok)(const lm_call *const *), lm_skinny (*of)(const lm_call *const *)) {
    if (!residual_ok(c) || !ok(c + 2) || c[0]->out[0].dim[1] != c[2]->in[0].dim[1]) return false;
    lm_skinny first = residual_of(c), second = of(c + 2);
    halves(c, &first, &second);
    return lm_rows_takes(c[0]->dev, &first) && lm_rows_takes(c[0]->dev, &second);
}
static lm_err run_both(const lm_call *const *c, lm_skinny (*of)(const lm_call *const *), void *scratch) {
    lm_skinny first = residual_of(c), second = of(c + 2);
    halves(c, &first, &second);
    LM_TRY(lm_rows_run(c[0]->dev, &first, LM_CUDA_STREAM(scratch)));
    return lm_rows_run(c[0]->dev, &second, LM_CUDA_STREAM(scratch));
}
static bool residual_qkv_ok(const lm_call *const *c) { return both(c, qkv_ok, qkv_of); }
static lm_err residual_qkv(const lm_call *const *c, void *scratch) { return run_both(c, qkv_of, scratch); }
static bool residual_gated_ok(const lm_call *const *c) { return both(c, gated_ok, gated_of); }
static lm_err residual_gated(const lm_call *const *c, void *scratch) { return run_both(c, gated_of, scratch); }
/* ---- 0 z=matmul(x,w) 1 peak(z,h,b) where only the best is wanted (h has no rows): the head's tiles tell their largest, and logits are not stored; whoever
 * runs a plan so does not ask for them ---- */
static lm_skinny head_of(const lm_call *const *c) {
    lm_skinny s = {};
    s.M = static_cast<int>(c[0]->in[0].dim[0]); s.K = c[0]->in[0].dim[1]; s.x = lm_cv_of(&c[0]->in[0]);
    s.kind = LM_SKINNY_PLAIN; s.n_part = 1; s.part[0] = part(c[0]); s.out = lm_cv_of(&c[0]->out[0]); s.fixed = fixed(c[0]); s.tops = static_cast<float2 *>(c[1]->shared);
    return s;
}
static bool head_peak_ok(const lm_call *const *c) {
    if (c[1]->in[1].dim[0] || !product(c[0]) || !lm_peak_accepts(c[1]) || c[0]->out[0].dtype != LM_F32) return false;
    const lm_skinny s = head_of(c);
    return s.tops && lm_rows_takes(c[0]->dev, &s);
}
static lm_err head_peak(const lm_call *const *c, void *scratch) {
    const lm_skinny s = head_of(c);
    LM_TRY(lm_rows_run(c[0]->dev, &s, LM_CUDA_STREAM(scratch)));
    return lm_peak_best(c[1], s.tops, LM_CUDA_STREAM(scratch));
}
extern "C" {
extern const lm_join lm_join_head_peak_cuda;
const lm_join lm_join_head_peak_cuda = { "product, its largest", "z=matmul(x,w); y=peak(z,h,b)", LM_DEV_CUDA, LM_CUDA_WGMMA, 3, head_peak_ok, head_peak };
extern const lm_join lm_join_residual_qkv_cuda, lm_join_residual_gated_cuda, lm_join_qkv_cuda, lm_join_gated_cuda, lm_join_residual_cuda;
#define TO_QKV "q=matmul(y,a); k=matmul(y,b); v=matmul(y,c); s=rope(k,t); r=rope(q,t); o=kv_write(m,n,s,v,i)"
#define TO_GATED "g=matmul(y,a); u=matmul(y,b); o=swiglu(g,u)"
#define SUM "p=matmul(d,e); x=add(f,p); "
const lm_join lm_join_residual_qkv_cuda = { "product, residual; norm, q, k, v, turned, to pages",
                                            SUM "y=rmsnorm(x,w); " TO_QKV,
                                            LM_DEV_CUDA,
                                            LM_CUDA_WGMMA,
                                            1 << 1 | 1 << 7 | 1 << 8,
                                            residual_qkv_ok,
                                            residual_qkv };
const lm_join lm_join_residual_gated_cuda = { "product, residual; norm, gate, up, swiglu",
                                              SUM "y=rmsnorm(x,w); " TO_GATED,
                                              LM_DEV_CUDA,
                                              LM_CUDA_WGMMA,
                                              1 << 1 | 1 << 5,
                                              residual_gated_ok,
                                              residual_gated };
const lm_join lm_join_qkv_cuda = {
    "norm, q, k, v, turned, to pages", "y=rmsnorm(x,w); " TO_QKV, LM_DEV_CUDA, LM_CUDA_SM90, 1 << 5 | 1 << 6, qkv_ok, qkv
};
const lm_join lm_join_gated_cuda = { "norm, gate, up, swiglu", "y=rmsnorm(x,w); " TO_GATED, LM_DEV_CUDA, LM_CUDA_SM90, 1 << 3, gated_ok, gated };
const lm_join lm_join_residual_cuda = { "product, residual", "a=matmul(x,w); o=add(r,a)", LM_DEV_CUDA, LM_CUDA_SM90, 1 << 1, residual_ok, residual };
}
