/* tiles_joins_hopper_cuda.cu — for many rows: gate and up as one product and silu(gate)·up beside it, all three kept; q, k, v as one product
 * with q and k rotated before they are stored. Passes over such rows are bound by memory, which the products leave idle. Numbers are rounded to
 * bf16 where the steps round them. (The same for the gradient of the layer's inner rows and swiglu's or gelu's backward gains nothing:
 * docs/benchmarks/cuda.md.) */
#include "op/matmul/gated.cuh"
#include "op/matmul/matmul.cuh"
#include "op/matmul/rows.cuh"
#include "op/matmul/turned.cuh"
extern "C" {
#include "op/join.h"
#include "op/matmul/matmul.h"
#include "op/rope/rope.h"
}
namespace {
/* ---- which products: plain rows × a weight, all bf16, rows at 16 bytes ---- */
bool aligned(const lm_tensor *t) { return t->rank == 2 && t->dtype == LM_BF16 && t->layout == LM_PLAIN && t->stride[1] == 1 && t->stride[0] % 8 == 0 && reinterpret_cast<uintptr_t>(t->data) % 16 == 0; }
bool product(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    if (p->ta || p->fold || p->mm != LM_BF16 || c->acc || lm_has(c, 2) || (c->dev && c->dev->features & LM_CUDA_ROW_ALONE)) return false;
    return aligned(&c->in[0]) && aligned(&c->in[1]) && c->in[0].dim[0] > LM_ROWS && c->in[0].dim[1] > 0 && c->out[0].rank == 2;
}
lm_tiles tiles_of(const lm_call *c) {
    const lm_cuda_gemm g = lm_matmul_cuda_problem(c);
    const lm_tiles t = { g.a.p, g.b.p, g.a.ld, g.b.ld, g.M, g.N, g.K, 0, NULL };
    return t;
}
bool alike(const lm_tensor *a, const lm_tensor *b) { return a->rank == 2 && b->rank == 2 && a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1]; }
lm_err map(CUtensorMap *m, const lm_tensor *t) { return lm_tile_map(m, t->data, t->dim[0], t->dim[1], t->stride[0]); }
/* 0 m=matmul(x,w) 1 swiglu(g,u): g and u are the halves of m */
bool gated_ok(const lm_call *const *c) {
    const lm_tensor *m = &c[0]->out[0], *g = &c[1]->in[0], *u = &c[1]->in[1];
    if (!product(c[0]) || !static_cast<const lm_matmul_p *>(c[0]->p)->tb || !aligned(m) || !aligned(g) || !aligned(u) || !aligned(&c[1]->out[0])) return false;
    if (!alike(g, u) || !alike(g, &c[1]->out[0]) || 2 * g->dim[1] != m->dim[1] || g->dim[0] != m->dim[0] || g->stride[0] != m->stride[0] || u->stride[0] != m->stride[0]) return false;
    return g->data == m->data && u->data == static_cast<const __nv_bfloat16 *>(m->data) + g->dim[1];
}
lm_err run_gated(const lm_call *const *c, void *scratch) {
    lm_tile_gated e = {};
    lm_tiles t = tiles_of(c[0]);
    t.N = t.half = c[1]->in[0].dim[1];
    LM_TRY(map(&e.g, &c[1]->in[0])); LM_TRY(map(&e.u, &c[1]->in[1])); LM_TRY(map(&e.y, &c[1]->out[0]));
    return lm_tiles_run(&t, e, c[0]->dev->units, LM_CUDA_STREAM(scratch));
}
/* 0 m=matmul(x,w) 1 r=rope(q,t): q is m's first columns, and r is made over it. Fewer than four rounds of tiles the library cuts smaller. */
bool turned_ok(const lm_call *const *c) {
    const lm_tensor *m = &c[0]->out[0], *q = &c[1]->in[0], *t = &c[1]->in[1], *r = &c[1]->out[0];
    const lm_rope_p *p = static_cast<const lm_rope_p *>(c[1]->p);
    if (!product(c[0]) || !static_cast<const lm_matmul_p *>(c[0]->p)->tb || !aligned(m) || !aligned(q) || !aligned(r) || !alike(q, r)) return false;
    if (q->data != m->data || r->data != m->data || q->dim[0] != m->dim[0] || q->dim[1] > m->dim[1]) return false;
    if (q->stride[0] != m->stride[0] || r->stride[0] != m->stride[0]) return false;
    if ((p->d_head != 64 && p->d_head != 128) || p->rotary != p->d_head || p->interleaved || p->inverse || q->dim[1] % p->d_head) return false;
    if (t->rank != 2 || t->dtype != LM_F32 || t->layout != LM_PLAIN || t->stride[1] != 1 || t->dim[0] * t->stride[0] > INT32_MAX) return false;
    if (t->stride[0] % 2 || reinterpret_cast<uintptr_t>(t->data) % 8) return false;
    return lm_ceil_div(m->dim[0], LM_TILE_M) * lm_ceil_div(m->dim[1], LM_TILE_N) >= 4 * c[0]->dev->units;
}
template <int D> lm_err turn(const lm_call *const *c, void *scratch) {
    const lm_tensor *t = &c[1]->in[1];
    lm_tile_turned<D> e = {};
    const lm_tiles g = tiles_of(c[0]);
    LM_TRY(map(&e.y, &c[0]->out[0]));
    e.t = static_cast<const float *>(t->data); e.ld = static_cast<int>(t->stride[0]); e.rows = static_cast<int>(t->dim[0]);
    e.turned = static_cast<int>(c[1]->in[0].dim[1]);
    return lm_tiles_run(&g, e, c[0]->dev->units, LM_CUDA_STREAM(scratch));
}
lm_err run_turned(const lm_call *const *c, void *scratch) {
    return static_cast<const lm_rope_p *>(c[1]->p)->d_head == 64 ? turn<64>(c, scratch) : turn<128>(c, scratch);
}
}
extern "C" {
extern const lm_join lm_join_many_gated_cuda, lm_join_many_turned_cuda;
const lm_join lm_join_many_gated_cuda = { "gate and up, swiglu", "m=matmul(x,w); o=swiglu(g,u)", LM_DEV_CUDA, LM_CUDA_WGMMA, 1 << 0 | 1 << 1, gated_ok, run_gated };
const lm_join lm_join_many_turned_cuda = {
    "q, k and v, turned", "m=matmul(x,w); r=rope(q,t)", LM_DEV_CUDA, LM_CUDA_WGMMA, 1 << 0 | 1 << 1, turned_ok, run_turned
};
}
