/* tiles_joins_hopper_cuda.cu — what a feed-forward layer does to a product's result, where the product is made (tiles_hopper.cuh), for many rows:
 *   gate and up as one product → silu(gate)·up, both kept;   gradient of the layer's inner rows → swiglu's or gelu's backward, itself kept by no one.
 * Elementwise passes over these rows are bound by memory, which the products leave idle. Numbers are rounded to bf16 where the steps round them. */
#include "op/matmul/matmul.cuh"
#include "op/matmul/rows.cuh"
#include "op/matmul/tiles_hopper.cuh"
extern "C" {
#include "op/gelu_back/gelu_back.h"
#include "op/join.h"
#include "op/matmul/matmul.h"
}
namespace {
__device__ __forceinline__ float sigmoid(float x) { return lm_rcp(1.0f + lm_ex2(-LM_LOG2E * x)); }
/* f of eight bf16 numbers in each of its arguments, two at a time: f(pair a, pair b, …) is a pair */
template <class F, class... T> __device__ __forceinline__ uint4 eight(const F &f, const T &...v) {
    uint4 o;
    o.x = f(lm_two(v.x)...); o.y = f(lm_two(v.y)...); o.z = f(lm_two(v.z)...); o.w = f(lm_two(v.w)...);
    return o;
}
/* ---- silu(gate)·up: columns 0-127 of a tile are gate's, the others up's ---- */
struct gated {
    static constexpr bool PAIRED = true, COLS = false, BIAS = false;
    static constexpr int READS = 0;
    struct seen {};
    lm_tile_rows g, u, y; const float *bias; int M, N;
    __device__ __forceinline__ seen before(int, int) const { return {}; }
#ifdef LM_HOPPER_CODE
    template <int e> __device__ __forceinline__ void half(const uint32_t *w, int row, int col) const {
        const uint4 a = lm_tile_wide<e>(w), b = lm_tile_wide<e>(w + 32);
        const int r = row + 8 * e;
        lm_tile_put(g, r, col, M, N, a); lm_tile_put(u, r, col, M, N, b);
        lm_tile_put(y, r, col, M, N, eight([](float2 p, float2 q) { return lm_pack2(p.x * sigmoid(p.x) * q.x, p.y * sigmoid(p.y) * q.y); }, a, b));
    }
    template <int k> __device__ __forceinline__ void slice(seen &, const uint32_t *w, const uint4 *, int row, int col, int) const {
        half<k % 2>(w + 8 * (k / 2), row, col + 32 * (k / 2));
    }
#endif
};
/* ---- swiglu's backward: da = dy b s (1 + a (1 - s)), db = dy a s, y = a s b with s = sigmoid(a) ---- */
template <bool cols> struct gated_back {
    static constexpr bool PAIRED = false, COLS = cols, BIAS = false;
    static constexpr int READS = 4;
    struct seen {};
    lm_tile_rows a, b, da, db, y; const float *bias; int M, N;
#ifdef LM_HOPPER_CODE
    __device__ __forceinline__ seen before(int row, int n) const { lm_tile_ask(a, row, n, M, N); lm_tile_ask(b, row, n, M, N); return {}; }
    template <int k> __device__ __forceinline__ void read(uint4 *r, int row, int col) const {
#pragma unroll
        for (int e = 0; e < 2; e++) { r[2 * e] = lm_tile_get(a, row + 8 * e, col + 32 * k, M, N); r[2 * e + 1] = lm_tile_get(b, row + 8 * e, col + 32 * k, M, N); }
    }
    template <int e> __device__ __forceinline__ void half(const uint32_t *w, const uint4 &p, const uint4 &q, int row, int col) const {
        const uint4 g = lm_tile_wide<e>(w);
        const int r = row + 8 * e;
        lm_tile_put(da, r, col, M, N, eight([](float2 g, float2 p, float2 q) {
            const float s = sigmoid(p.x), t = sigmoid(p.y);
            return lm_pack2(g.x * q.x * (s + p.x * s * (1.0f - s)), g.y * q.y * (t + p.y * t * (1.0f - t)));
        }, g, p, q));
        lm_tile_put(db, r, col, M, N, eight([](float2 g, float2 p) { return lm_pack2(g.x * (p.x * sigmoid(p.x)), g.y * (p.y * sigmoid(p.y))); }, g, p));
        lm_tile_put(y, r, col, M, N, eight([](float2 p, float2 q) { return lm_pack2(p.x * sigmoid(p.x) * q.x, p.y * sigmoid(p.y) * q.y); }, p, q));
    }
    template <int k> __device__ __forceinline__ void slice(seen &, const uint32_t *w, const uint4 *r, int row, int col, int) const {
        half<0>(w + 8 * k, r[0], r[1], row, col + 32 * k); half<1>(w + 8 * k, r[2], r[3], row, col + 32 * k);
    }
#endif
};
/* ---- gelu's backward (tanh form): dx, its sums over each warp's 16 rows, gelu(x) again ---- */
template <bool cols, bool again> struct gelu_back {
    static constexpr bool PAIRED = false, COLS = cols, BIAS = false;
    static constexpr int READS = 2;
    struct seen {};
    lm_tile_rows x, dx, y; const float *bias; float *sums; int M, N;                        /* sums (M / 16, N), or NULL */
#ifdef LM_HOPPER_CODE
    __device__ __forceinline__ seen before(int row, int n) const { lm_tile_ask(x, row, n, M, N); return {}; }
    template <int k> __device__ __forceinline__ void read(uint4 *r, int row, int col) const {
#pragma unroll
        for (int e = 0; e < 2; e++) r[e] = lm_tile_get(x, row + 8 * e, col + 32 * k, M, N);
    }
    static __device__ __forceinline__ void one(float t, float &g, float &z) {
        const float q = t * t, p = lm_rcp(1.0f + lm_ex2(t * fmaf(q, -0.0713548162726f * LM_LOG2E, -1.59576912161f * LM_LOG2E)));
        z = t * p;
        g *= fmaf(z * (1.0f - p), fmaf(q, 0.2140644488178f, 1.59576912161f), p);
    }
    template <int e> __device__ __forceinline__ void half(const uint32_t *w, const uint4 &t, int row, int col, float *s) const {
        const uint4 g = lm_tile_wide<e>(w);
        const uint32_t gi[4] = { g.x, g.y, g.z, g.w }, ti[4] = { t.x, t.y, t.z, t.w };
        uint32_t d[4], a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float2 v = lm_two(gi[i]), z; const float2 h = lm_two(ti[i]);
            one(h.x, v.x, z.x); one(h.y, v.y, z.y);
            if (e) { s[2 * i] += v.x; s[2 * i + 1] += v.y; } else { s[2 * i] = v.x; s[2 * i + 1] = v.y; }
            d[i] = lm_pack2(v.x, v.y); a[i] = lm_pack2(z.x, z.y);
        }
        lm_tile_put(dx, row + 8 * e, col, M, N, make_uint4(d[0], d[1], d[2], d[3]));
        if (again) lm_tile_put(y, row + 8 * e, col, M, N, make_uint4(a[0], a[1], a[2], a[3]));
    }
    template <int k> __device__ __forceinline__ void slice(seen &, const uint32_t *w, const uint4 *r, int row, int col, int) const {
        const int at = col + 32 * k;
        float s[8];
        half<0>(w + 8 * k, r[0], row, at, s); half<1>(w + 8 * k, r[1], row, at, s);
        if (!sums) return;
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int h = 4; h < 32; h *= 2) s[i] += __shfl_xor_sync(0xffffffffu, s[i], h);
        const int c = lm_tile_col(at), first = row - static_cast<int>(threadIdx.x % 32 / 4);
        if (threadIdx.x % 32 >= 4 || first >= M || c >= N) return;
        float4 *to = reinterpret_cast<float4 *>(sums + static_cast<int64_t>(first / 16) * N + c);
        to[0] = make_float4(s[0], s[1], s[2], s[3]); to[1] = make_float4(s[4], s[5], s[6], s[7]);
    }
#endif
};
/* ---- which products: plain rows × a weight, all bf16, rows at 16 bytes ---- */
bool aligned(const lm_tensor *t) { return t->rank == 2 && t->dtype == LM_BF16 && t->layout == LM_PLAIN && t->stride[1] == 1 && t->stride[0] % 8 == 0 && reinterpret_cast<uintptr_t>(t->data) % 16 == 0; }
bool product(const lm_call *c) {
    const lm_matmul_p *p = static_cast<const lm_matmul_p *>(c->p);
    if (p->ta || p->fold || p->mm != LM_BF16 || c->acc || lm_has(c, 2) || (c->dev && c->dev->features & LM_CUDA_ROW_ALONE)) return false;
    return aligned(&c->in[0]) && aligned(&c->in[1]) && c->in[0].dim[0] > LM_ROWS && c->in[0].dim[1] > 0 && c->out[0].rank == 2 && c->out[0].dim[1] % 8 == 0;
}
lm_tiles tiles_of(const lm_call *c) {
    const lm_cuda_gemm g = lm_matmul_cuda_problem(c);
    const lm_tiles t = { g.a.p, g.b.p, g.a.ld, g.b.ld, g.M, g.N, g.K, 0 };
    return t;
}
bool alike(const lm_tensor *a, const lm_tensor *b) { return a->rank == 2 && b->rank == 2 && a->dim[0] == b->dim[0] && a->dim[1] == b->dim[1]; }
lm_tile_rows rows(const lm_tensor *t) { const lm_tile_rows m = { static_cast<__nv_bfloat16 *>(t->data), t->stride[0] }; return m; }
/* 0 m=matmul(x,w) 1 swiglu(g,u): g and u are the halves of m */
bool gated_ok(const lm_call *const *c) {
    const lm_tensor *m = &c[0]->out[0], *g = &c[1]->in[0], *u = &c[1]->in[1];
    if (!product(c[0]) || !static_cast<const lm_matmul_p *>(c[0]->p)->tb || !aligned(m) || !aligned(g) || !aligned(u) || !aligned(&c[1]->out[0])) return false;
    if (g->dim[1] % 8 || !alike(g, u) || !alike(g, &c[1]->out[0]) || 2 * g->dim[1] != m->dim[1] || g->dim[0] != m->dim[0] || g->stride[0] != m->stride[0] || u->stride[0] != m->stride[0]) return false;
    return g->data == m->data && u->data == static_cast<const __nv_bfloat16 *>(m->data) + g->dim[1];
}
lm_err run_gated(const lm_call *const *c, void *scratch) {
    gated e = {};
    lm_tiles t = tiles_of(c[0]);
    t.N = t.half = c[1]->in[0].dim[1];
    e.g = rows(&c[1]->in[0]); e.u = rows(&c[1]->in[1]); e.y = rows(&c[1]->out[0]); e.M = static_cast<int>(t.M); e.N = static_cast<int>(t.N);
    return lm_tiles_run(&t, e, c[0]->dev->units, LM_CUDA_STREAM(scratch));
}
/* 0 h=matmul(d,w) 1 swiglu_back(h,g,u) */
bool gated_back_ok(const lm_call *const *c) {
    if (!product(c[0])) return false;
    for (int i = 1; i < 3; i++) if (!aligned(&c[1]->in[i]) || !alike(&c[1]->in[i], &c[0]->out[0])) return false;
    for (int i = 0; i < 3; i++) if (!aligned(&c[1]->out[i]) || !alike(&c[1]->out[i], &c[0]->out[0])) return false;
    return c[0]->out[0].dtype == LM_BF16;
}
template <bool cols> lm_err gated_back_as(const lm_call *const *c, void *scratch) {
    gated_back<cols> e = {};
    const lm_tiles t = tiles_of(c[0]);
    e.a = rows(&c[1]->in[1]); e.b = rows(&c[1]->in[2]); e.da = rows(&c[1]->out[0]); e.db = rows(&c[1]->out[1]); e.y = rows(&c[1]->out[2]);
    e.M = static_cast<int>(t.M); e.N = static_cast<int>(t.N);
    return lm_tiles_run(&t, e, c[0]->dev->units, LM_CUDA_STREAM(scratch));
}
lm_err run_gated_back(const lm_call *const *c, void *scratch) {
    return static_cast<const lm_matmul_p *>(c[0]->p)->tb ? gated_back_as<false>(c, scratch) : gated_back_as<true>(c, scratch);
}
/* 0 h=matmul(d,w) 1 gelu_back(h,x) */
bool gelu_back_ok(const lm_call *const *c) {
    const lm_gelu_back_p *p = static_cast<const lm_gelu_back_p *>(c[1]->p);
    if (!product(c[0]) || !p->tanh || c[0]->out[0].dtype != LM_BF16 || !aligned(&c[1]->in[1]) || !alike(&c[1]->in[1], &c[0]->out[0])) return false;
    for (int i = 0; i < 3; i += 2) if (c[1]->out[i].rank && (!aligned(&c[1]->out[i]) || !alike(&c[1]->out[i], &c[0]->out[0]))) return false;
    return !c[1]->out[1].rank || lm_is_contig(&c[1]->out[1]);
}
struct add_sums {
    const float *p;
    __device__ void operator()(int64_t r, int64_t j, int64_t d, float *s) const {
        const float4 *v = reinterpret_cast<const float4 *>(p + r * d + j); const float4 a = v[0], b = v[1];
        s[0] += a.x; s[1] += a.y; s[2] += a.z; s[3] += a.w; s[4] += b.x; s[5] += b.y; s[6] += b.z; s[7] += b.w;
    }
};
template <bool cols, bool again> lm_err gelu_back_as(const lm_call *const *c, void *scratch) {
    gelu_back<cols, again> e = {};
    const lm_tiles t = tiles_of(c[0]);
    e.x = rows(&c[1]->in[1]); e.dx = rows(&c[1]->out[0]);
    if (again) e.y = rows(&c[1]->out[2]);
    e.M = static_cast<int>(t.M); e.N = static_cast<int>(t.N);
    if (c[1]->out[1].rank) e.sums = reinterpret_cast<float *>(static_cast<char *>(c[1]->shared) + lm_colsum_bytes(t.N));
    LM_TRY(lm_tiles_run(&t, e, c[0]->dev->units, LM_CUDA_STREAM(scratch)));
    return e.sums ? lm_colsum<add_sums>(c[1], scratch, { e.sums }, lm_ceil_div(t.M, 16), t.N, 1) : LM_OK;
}
lm_err run_gelu_back(const lm_call *const *c, void *scratch) {
    const bool again = c[1]->out[2].rank;
    if (static_cast<const lm_matmul_p *>(c[0]->p)->tb) return again ? gelu_back_as<false, true>(c, scratch) : gelu_back_as<false, false>(c, scratch);
    return again ? gelu_back_as<true, true>(c, scratch) : gelu_back_as<true, false>(c, scratch);
}
}
extern "C" {
extern const lm_join lm_join_many_gated_cuda, lm_join_many_gated_back_cuda, lm_join_many_gelu_back_cuda;
const lm_join lm_join_many_gated_cuda = { "gate and up, swiglu", "m=matmul(x,w); o=swiglu(g,u)", LM_DEV_CUDA, LM_CUDA_WGMMA, 1 << 0 | 1 << 1, gated_ok, run_gated };
const lm_join lm_join_many_gated_back_cuda = { "product, swiglu's backward", "h=matmul(d,w); p=swiglu_back(h,g,u)", LM_DEV_CUDA, LM_CUDA_WGMMA, 1 << 1, gated_back_ok, run_gated_back };
const lm_join lm_join_many_gelu_back_cuda = { "product, gelu's backward", "h=matmul(d,w); p=gelu_back(h,x)", LM_DEV_CUDA, LM_CUDA_WGMMA, 1 << 1, gelu_back_ok, run_gelu_back, 1 << 1 };
}
