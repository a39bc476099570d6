/* xent_step_hopper_cuda.cu — the loss and its gradient without a pass over the logits.
 *
 * The product of a chunk (tiles_hopper.cuh) turns its sums into e = exp(z - c) before they are stored, with c known beforehand: 40 above the
 * target's logit, which a dot product a row gives. A row's sum S over its tiles then gives its lse, and the gradient
 *   dz = a (e - [target] h),   a = slope / S,   h = hit / a
 * is one number away from what is stored: a is left to the rows of x that dW is made of and to the rows of dx. So logits are written once and read
 * twice by the products, where a pass between reads and writes them once more.
 * bf16 has the exponents of f32: this holds for rows whose largest logit is up to about 117 above the target's (a loss of 117). A row beyond that
 * has no finite sum, and a warp makes it again with c its largest logit.
 *
 * Rows: label smoothing and a cap are the other row's. */
#include "op/xent_step/expo.cuh"
#include "op/xent_step/xent_step.cuh"
extern "C" {
#include "op/xent_step/xent_step.h"
}
namespace {
constexpr float ABOVE = 40.0f;
/* A row's dot product with a row of W, by a warp; V of x at a time. */
template <int V> __device__ __forceinline__ float dot(const lm_cv &x, int64_t r, const lm_cv &w, int64_t t, int64_t d) {
    float s = 0;
    for (int64_t k = threadIdx.x % 32 * V; k < d; k += 32 * V) {
        float a[V], b[V];
        lm_ldv<V>(x, r * x.rs + k, a); lm_ldv<V>(w, t * w.rs + k, b);
#pragma unroll
        for (int e = 0; e < V; e++) s = fmaf(a[e], b[e], s);
    }
    return lm_cuda_warp_sum(s);
}
/* The target's logit and c; a row without a target takes another's. */
template <int V> __global__ void __launch_bounds__(256) aims(const lm_cv x, const lm_cv w, const int32_t *target, int64_t n, int64_t d, int64_t vocab, float *aim, float *shift) {
    const int64_t r = static_cast<int64_t>(blockIdx.x) * 8 + threadIdx.x / 32;
    if (r >= n) return;
    const int32_t t = target[r];
    const float z = dot<V>(x, r, w, t >= 0 && t < vocab ? t : 0, d);
    if (threadIdx.x % 32 == 0) { aim[r] = z; shift[r] = (z + ABOVE) * LM_LOG2E; }
}
struct closing {
    lm_cv x, w; __nv_bfloat16 *z, *ax; int64_t zs, axs, n, d, V;
    const int32_t *target; const float *weight, *part, *aim; float *shift, *scale, *loss, *lse; int tiles; float zl; int32_t *fault;
};
/* A row again with its largest logit as c: its sum, or what is not finite. */
template <int V> __device__ __noinline__ float again(const closing &a, int64_t r, float *c) {
    __nv_bfloat16 *z = a.z + r * a.zs;
    const int lane = threadIdx.x % 32;
    float top = -INFINITY;
    for (int64_t v = 0; v < a.V; v++) {
        const float y = dot<V>(a.x, r, a.w, v, a.d);
        if (lane == 0) z[v] = __float2bfloat16_rn(y);
        top = fmaxf(top, y);
        if (isnan(y)) return y;
    }
    __syncwarp();
    float s = 0;
    *c = top * LM_LOG2E;
    for (int64_t v = lane; v < a.V; v += 32) { const float e = lm_exp2(fmaf(__bfloat162float(z[v]), LM_LOG2E, -*c)); s += e; z[v] = __float2bfloat16_rn(e); }
    __syncwarp();
    return lm_cuda_warp_sum(s);
}
/* A warp has a row: S, loss, lse, a; h off the target's number; a x for dW. */
template <int V> __global__ void __launch_bounds__(256) close_rows(const closing a) {
    const int64_t r = static_cast<int64_t>(blockIdx.x) * 8 + threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (r >= a.n) return;
    float s = 0, c = a.shift[r];
    for (int i = lane; i < a.tiles; i += 32) s += a.part[r * a.tiles + i];
    s = lm_cuda_warp_sum(s);
    if (!(s > 0 && s < INFINITY)) s = again<V>(a, r, &c);
    const int32_t t = a.target[r];
    const bool has = t >= 0 && t < a.V;
    const float w = has ? (a.weight ? a.weight[r] : 1.0f) : 0.0f, lse = c / LM_LOG2E + logf(s);
    float up = 1.0f + 2.0f * a.zl * lse;
    if (fabsf(up) < 1e-6f) up = 1e-6f;
    const float scale = w * up / s;
    if (lane == 0) {
        a.lse[r] = lse;
        a.loss[r] = t >= a.V ? NAN : has ? w * (lse - a.aim[r] + a.zl * lse * lse) : 0.0f;
        if (t >= a.V && a.fault) *a.fault = LM_E_RANGE;
        if (has) { __nv_bfloat16 *p = a.z + r * a.zs + t; *p = __float2bfloat16_rn(__bfloat162float(*p) - s / up); }
        a.scale[r] = scale;
    }
    const lm_cv to = { a.ax, a.axs, 1 };
    for (int64_t k = lane * V; k < a.d; k += 32 * V) {
        float f[V];
        lm_ldv<V>(a.x, r * a.x.rs + k, f);
#pragma unroll
        for (int e = 0; e < V; e++) f[e] *= scale;
        lm_stv<V>(to, r * a.axs + k, f);
    }
}
/* dx = a (…) */
template <int V> __global__ void __launch_bounds__(256) scaled(const float *from, const lm_cv to, const float *scale, int64_t n, int64_t d) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V, r = i / d, k = i - r * d;
    if (r >= n) return;
    const lm_cv v = { const_cast<float *>(from), d, 0 };
    float f[V];
    lm_ldv<V>(v, i, f);
    const float s = scale[r];
#pragma unroll
    for (int e = 0; e < V; e++) f[e] *= s;
    lm_stv<V>(to, r * to.rs + k, f);
}
const lm_xent_p *params(const lm_call *c) { return &static_cast<const lm_xent_step_p *>(c->p)->xent; }
struct plan : lm_xent_step_plan { int tiles; size_t ax, dx, part, row; };
plan plan_of(const lm_call *c) {
    plan q = {};
    static_cast<lm_xent_step_plan &>(q) = lm_xent_step_plan_of(c, params(c));
    q.tiles = static_cast<int>(lm_ceil_div(q.N, LM_TILE_N));
    q.ax = lm_xent_up(static_cast<size_t>(q.per * lm_round_up(q.d, 8)) * 2); q.dx = lm_xent_up(static_cast<size_t>(q.per * q.d) * 4);
    q.part = lm_xent_up(static_cast<size_t>(q.per * q.tiles) * 4); q.row = lm_xent_up(static_cast<size_t>(q.per) * 4);
    return q;
}
size_t shared(const lm_call *c) { const plan q = plan_of(c); return lm_xent_w_bytes(c, params(c)) + q.z + q.x + q.ax + q.dx + q.part + 3 * q.row; }
template <int V> lm_err rows_of(const lm_call *c, const plan &q, const lm_cm &w, char *at, cudaStream_t s) {
    const lm_xent_p *p = params(c);
    const auto take = [&](size_t n) { char *was = at; at += n; return was; };
    __nv_bfloat16 *z = reinterpret_cast<__nv_bfloat16 *>(take(q.z)), *ax = reinterpret_cast<__nv_bfloat16 *>(take(q.ax));
    float *dx = reinterpret_cast<float *>(take(q.dx)), *part = reinterpret_cast<float *>(take(q.part)), *aim = reinterpret_cast<float *>(take(q.row)),
          *shift = reinterpret_cast<float *>(take(q.row)), *scale = reinterpret_cast<float *>(take(q.row)), *dw = static_cast<float *>(c->out[3].data);
    const int64_t axs = lm_round_up(q.d, 8);
    const lm_cv wv = { const_cast<void *>(w.p), w.ld, w.bf16 };
    bool acc = c->acc >> 3 & 1;
    for (int64_t r = 0; r < q.n; r += q.per, acc = true) {
        const int64_t rows = lm_min64(q.per, q.n - r);
        lm_cm x;
        LM_TRY(lm_xent_step_x(c, &q, r, rows, at, &x, s));
        const lm_cv xv = { const_cast<void *>(x.p), x.ld, 1 };
        const int32_t *target = static_cast<const int32_t *>(c->in[2].data) + r;
        aims<V><<<LM_CUDA_GRID(rows, 8), 256, 0, s>>>(xv, wv, target, rows, q.d, q.V, aim, shift);
        lm_xent_expo e = { {}, shift, part, q.tiles, static_cast<int>(rows), static_cast<int>(q.V) };
        LM_TRY(lm_tile_map(&e.z, z, rows, q.zs, q.zs));
        const lm_tiles g = { x.p, w.p, x.ld, w.ld, rows, q.N, q.d, 0, NULL };
        LM_TRY(lm_tiles_run(&g, e, c->dev->units, s));
        const closing a = { xv, wv, z, ax, q.zs, axs, rows, q.d, q.V, target, lm_has(c, 3) ? static_cast<const float *>(c->in[3].data) + r : NULL, part, aim, shift, scale,
                            static_cast<float *>(c->out[0].data) + r, static_cast<float *>(c->out[1].data) + r, q.tiles, p->z_loss, c->fault };
        close_rows<V><<<LM_CUDA_GRID(rows, 8), 256, 0, s>>>(a);
        const lm_cm dz = { z, q.zs, 0, true }, by = { ax, axs, 0, true };
        const lm_cv sums = { dx, q.d, 0 };
        const lm_cuda_gemm gx = lm_xent_dx(rows, q.d, q.N, dz, w, true, sums), gw = lm_xent_dw(rows, q.d, q.V, dz, by, true, dw, acc);
        LM_TRY(lm_cuda_gemm_run(c->dev, &gx, NULL, s));
        scaled<V><<<LM_CUDA_GRID(rows * q.d, 256 * V), 256, 0, s>>>(dx, lm_xent_step_dx(c, r), scale, rows, q.d);
        LM_TRY(lm_cuda_gemm_run(c->dev, &gw, NULL, s));
    }
    return lm_cuda_launched();
}
lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const cudaStream_t s = LM_CUDA_STREAM(scratch);
    const plan q = plan_of(c);
    char *at = static_cast<char *>(c->shared);
    lm_cm w;
    LM_TRY(lm_xent_cuda_w(c, params(c), &at, &w, s));
    if (!q.n) return c->acc >> 3 & 1 || cudaMemsetAsync(c->out[3].data, 0, static_cast<size_t>(q.V * q.d) * 4, s) == cudaSuccess ? LM_OK : LM_E_DEVICE;
    const lm_cv out = lm_cv_of(&c->out[2]), ww = { const_cast<void *>(w.p), w.ld, 1 };
    const lm_cv all[2] = { out, ww };
    return lm_cuda_vec8(all, 2, q.d) ? rows_of<8>(c, q, w, at, s) : rows_of<1>(c, q, w, at, s);
}
bool accepts(const lm_call *c) {
    const lm_xent_p *p = params(c);
    const lm_tensor *x = &c->in[0], *w = &c->in[1];
    if (!lm_xent_cuda_accepts(c, p) || p->mm != LM_BF16 || p->label_smoothing != 0 || p->cap > 0 || (c->dev && c->dev->features & LM_CUDA_ROW_ALONE)) return false;
    if (lm_xent_cuda_rows(c, p) > INT32_MAX / 2 || w->dim[0] > INT32_MAX / 4 || !x->dim[1] || !w->dim[0]) return false;
    for (const lm_tensor *t : { x, w }) if (t->dtype == LM_BF16 && lm_row_stride(t) % 8) return false;               /* rows that the copy engine takes */
    return true;
}
}
extern "C" {
extern const lm_kernel lm_k_xent_step_hopper_cuda[];
const lm_kernel lm_k_xent_step_hopper_cuda[] = { { "xent_step.hopper", LM_DEV_CUDA, LM_CUDA_WGMMA, "xent_step/hopper", accepts, shared, NULL, 1, { { lm_cuda_one, run } }, NULL }, {} };
}
