/* adamw_stochastic_cuda.cu — memory bound: 14 bytes read and 10 to 14 written per parameter. Eight neighbours a thread are the eight draws of one block
 * of Philox. Each rounding is said, none is fused away: the processor's bits. */
#include "op/cuda.cuh"
#include "op/philox.cuh"
extern "C" {
#include "op/adamw_stochastic/adamw_stochastic.h"
}
typedef struct { uint16_t *p; float *g, *m, *v; const float *h, *scale; const int64_t *rng; uint64_t stream; int64_t n; bool clear, wide; } args;
typedef struct { args a[LM_MANY]; unsigned end[LM_MANY]; int n; } table;
enum { PER = 2048 };                                                     /* numbers of a block */

template <int V> static __device__ __forceinline__ void step(const args &a, int64_t i, int first, const uint32_t *w) {
    const float *h = a.h;
    const float s = *a.scale, b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob1 = 1.0f - b1, ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1.0f - b2;
    const float keep = static_cast<float>(1.0 - static_cast<double>(h[LM_HYPER_LR]) * static_cast<double>(h[LM_HYPER_WD]));
    const float lr = static_cast<float>(static_cast<double>(h[LM_HYPER_LR]) / static_cast<double>(h[LM_HYPER_BIAS1])), sb2 = static_cast<float>(sqrt(static_cast<double>(h[LM_HYPER_BIAS2])));
    const float eps = h[LM_HYPER_EPS];
    float p[V], g[V], m[V], v[V];
    uint32_t out[V];
    const lm_cv vp = { a.p, 0, 1 }, vg = { a.g, 0, 0 }, vm = { a.m, 0, 0 }, vv = { a.v, 0, 0 };
    lm_ldv<V>(vp, i, p); lm_ldv<V>(vg, i, g); lm_ldv<V>(vm, i, m); lm_ldv<V>(vv, i, v);
#pragma unroll
    for (int e = 0; e < V; e++) {
        const float gr = __fmul_rn(g[e], s);
        m[e] = __fadd_rn(m[e], __fmul_rn(__fsub_rn(gr, m[e]), ob1));
        v[e] = __fadd_rn(__fmul_rn(v[e], b2), __fmul_rn(__fmul_rn(gr, gr), ob2));
        p[e] = __fsub_rn(__fmul_rn(p[e], keep), __fmul_rn(__fdiv_rn(m[e], __fadd_rn(__fdiv_rn(__fsqrt_rn(v[e]), sb2), eps)), lr));
        const int d = first + e;
        const uint32_t x = __float_as_uint(p[e]), r = w[d / 2] >> 16 * (d % 2) & 0xffff;
        out[e] = ((x & 0x7fffffffu) > 0x7f800000u ? x | 0x400000u : x + r) >> 16;
        g[e] = 0;
    }
    lm_stv<V>(vm, i, m); lm_stv<V>(vv, i, v);
    if (a.clear) lm_stv<V>(vg, i, g);
    if constexpr (V == 8) *reinterpret_cast<uint4 *>(a.p + i) = make_uint4(out[0] | out[1] << 16, out[2] | out[3] << 16, out[4] | out[5] << 16, out[6] | out[7] << 16);
    else a.p[i] = static_cast<uint16_t>(out[0]);
}
/* A block has 2048 numbers of the tensor whose blocks it is among. */
static __global__ void __launch_bounds__(256) many(const __grid_constant__ table t) {
    unsigned block;
    const args &a = t.a[lm_cuda_among(t.end, t.n, &block)];
    const int64_t i = static_cast<int64_t>(block) * PER + threadIdx.x * 8;
    if (i >= a.n) return;
    uint32_t w[4];
    lm_philox(static_cast<uint64_t>(a.rng[0]), a.stream ^ static_cast<uint64_t>(a.rng[1]) * 0x9E3779B97F4A7C15u, static_cast<uint64_t>(i / 8), w);
    if (a.wide && i + 8 <= a.n) { step<8>(a, i, 0, w); return; }
#pragma unroll
    for (int e = 0; e < 8; e++) if (i + e < a.n) step<1>(a, i + e, e, w);
}
static bool accepts(const lm_call *c) {
    for (int i = 1; i < 6; i++) if (!lm_is_f32_vec(&c->in[i])) return false;
    return c->in[0].dtype == LM_BF16 && c->in[0].layout == LM_PLAIN && lm_is_contig(&c->in[0]);
}
static args args_of(const lm_call *c) {
    const lm_adamw_stochastic_p *o = static_cast<const lm_adamw_stochastic_p *>(c->p);
    args a = { static_cast<uint16_t *>(c->out[0].data), static_cast<float *>(c->out[1].data), static_cast<float *>(c->out[2].data), static_cast<float *>(c->out[3].data),
               static_cast<const float *>(c->in[4].data), static_cast<const float *>(c->in[5].data), static_cast<const int64_t *>(c->in[6].data), o->stream, lm_numel(&c->in[0]), o->clear, true };
    const void *at[4] = { a.p, a.g, a.m, a.v };
    for (int i = 0; i < 4; i++) if (reinterpret_cast<uintptr_t>(at[i]) % 16) a.wide = false;
    return a;
}
static lm_err run_many(const lm_call *const *c, int n, void *scratch) {
    table t = {};
    int64_t blocks = 0;
    t.n = n;
    for (int i = 0; i < n; i++) {
        t.a[i] = args_of(c[i]);
        blocks += lm_ceil_div(t.a[i].n, PER);
        if (blocks > INT32_MAX) return LM_E_RANGE;
        t.end[i] = static_cast<unsigned>(blocks);
    }
    if (blocks) many<<<static_cast<unsigned>(blocks), 256, 0, LM_CUDA_STREAM(scratch)>>>(t);
    return lm_cuda_launched();
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) { (void)tile; return run_many(&c, 1, scratch); }
LM_CUDA_MANY(adamw_stochastic, "adamw_stochastic", accepts, run, NULL, run_many)
