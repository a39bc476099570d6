/* adamw_cuda.cu — memory bound: 16 bytes read and 16 written per parameter; the order of operations of adamw_simd.c. */
#include "op/cuda.cuh"
extern "C" {
#include "op/hyper.h"
}
struct args { float *p, *g, *m, *v; const float *h, *scale; int64_t n; };
/* Eight neighbours from element i, or one where the tensor has no whole eights. */
template <int V> static __device__ __forceinline__ void step(const args &a, int64_t i) {
    const float *h = a.h; const float s = *a.scale, b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob1 = 1.0f - b1, ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1.0f - b2;
    const float keep = static_cast<float>(1.0 - static_cast<double>(h[LM_HYPER_LR]) * static_cast<double>(h[LM_HYPER_WD]));
    const float lr = static_cast<float>(static_cast<double>(h[LM_HYPER_LR]) / static_cast<double>(h[LM_HYPER_BIAS1])), sb2 = static_cast<float>(sqrt(static_cast<double>(h[LM_HYPER_BIAS2])));
    const float eps = h[LM_HYPER_EPS];
    float p[V], g[V], m[V], v[V];
    const lm_cv vp = { a.p, 0, 0 }, vg = { a.g, 0, 0 }, vm = { a.m, 0, 0 }, vv = { a.v, 0, 0 };
    lm_ldv<V>(vp, i, p); lm_ldv<V>(vg, i, g); lm_ldv<V>(vm, i, m); lm_ldv<V>(vv, i, v);
#pragma unroll
    for (int e = 0; e < V; e++) {
        const float gr = __fmul_rn(g[e], s);
        m[e] = m[e] + (gr - m[e]) * ob1;
        v[e] = v[e] * b2 + __fmul_rn(gr, gr) * ob2;
        p[e] = p[e] * keep - m[e] / (sqrtf(v[e]) / sb2 + eps) * lr;
        g[e] = 0;
    }
    lm_stv<V>(vp, i, p); lm_stv<V>(vg, i, g); lm_stv<V>(vm, i, m); lm_stv<V>(vv, i, v);
}
template <int V> __global__ void __launch_bounds__(256) one(const args a) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    if (i < a.n) step<V>(a, i);
}
/* Several tensors: a block has 2048 elements of the one whose blocks it is among. */
enum { PER = 2048 };
struct table { args a[LM_MANY]; unsigned end[LM_MANY]; int n; };
static __global__ void __launch_bounds__(256) many(const __grid_constant__ table t) {
    unsigned block;
    const args &a = t.a[lm_cuda_among(t.end, t.n, &block)];
    const int64_t base = static_cast<int64_t>(block) * PER;
    if (a.n % 8 == 0) { const int64_t i = base + threadIdx.x * 8; if (i < a.n) step<8>(a, i); }
    else for (int64_t i = base + threadIdx.x; i < base + PER && i < a.n; i += 256) step<1>(a, i);
}
static bool accepts(const lm_call *c) {
    for (int i = 0; i < 6; i++) if (!lm_is_f32_vec(&c->in[i])) return false;
    return true;
}
static args args_of(const lm_call *c) {
    const args a = { static_cast<float *>(c->out[0].data), static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data), static_cast<float *>(c->out[3].data),
                     static_cast<const float *>(c->in[4].data), static_cast<const float *>(c->in[5].data), lm_numel(&c->in[0]) };
    return a;
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const args a = args_of(c);
    if (!a.n) return LM_OK;
    if (a.n % 8 == 0) one<8><<<LM_CUDA_GRID(a.n, 256 * 8), 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    else one<1><<<LM_CUDA_GRID(a.n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
static lm_err run_many(const lm_call *const *c, int n, void *scratch) {
    table t = {};
    int64_t blocks = 0;
    t.n = n;
    for (int i = 0; i < n; i++) { t.a[i] = args_of(c[i]); blocks += lm_ceil_div(t.a[i].n, PER); if (blocks > INT32_MAX) return LM_E_RANGE; t.end[i] = static_cast<unsigned>(blocks); }
    if (blocks) many<<<static_cast<unsigned>(blocks), 256, 0, LM_CUDA_STREAM(scratch)>>>(t);
    return lm_cuda_launched();
}
LM_CUDA_MANY(adamw, "adamw/cuda", accepts, run, NULL, run_many)
