/* adamw.cuh — one AdamW step on a CUDA device, for the rows that are one: for *_cuda.cu files. The order of operations of adamw_simd.c.
 *
 * Where `zero` is set the gradient is cleared there; where `copy` is set it gets the new parameter, rounded. Eight neighbours a thread, or one where
 * a tensor has no whole eights or does not begin at 16 bytes.
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: LM_E_DEVICE, LM_E_RANGE. */
#ifndef LM_ADAMW_CUH
#define LM_ADAMW_CUH
#include "op/cuda.cuh"
extern "C" {
#include "op/hyper.h"
}
typedef struct { lm_cv g; float *p, *zero, *m, *v; __nv_bfloat16 *copy; const float *h, *scale; int64_t n; } lm_adamw_args;
enum { LM_ADAMW_PER = 2048 };                 /* numbers of a block */
typedef struct { lm_adamw_args a[LM_MANY]; unsigned end[LM_MANY]; int n; unsigned long long wide; } lm_adamw_table;

static inline bool lm_adamw_wide(const lm_adamw_args *a) {
    const void *p[6] = { a->g.p, a->p, a->zero, a->m, a->v, a->copy };
    for (int i = 0; i < 6; i++) if (reinterpret_cast<uintptr_t>(p[i]) % 16) return false;
    return a->n % 8 == 0;
}
template <int V> static __device__ __forceinline__ void lm_adamw_step(const lm_adamw_args &a, int64_t i) {
    const float *h = a.h; const float s = *a.scale, b1 = h[LM_HYPER_BETA1], b2 = h[LM_HYPER_BETA2], ob1 = 1.0f - b1, ob2 = h[LM_HYPER_ONE_MINUS_BETA2] != 0 ? h[LM_HYPER_ONE_MINUS_BETA2] : 1.0f - b2;
    const float keep = static_cast<float>(1.0 - static_cast<double>(h[LM_HYPER_LR]) * static_cast<double>(h[LM_HYPER_WD]));
    const float lr = static_cast<float>(static_cast<double>(h[LM_HYPER_LR]) / static_cast<double>(h[LM_HYPER_BIAS1])), sb2 = static_cast<float>(sqrt(static_cast<double>(h[LM_HYPER_BIAS2])));
    const float eps = h[LM_HYPER_EPS];
    float p[V], g[V], m[V], v[V];
    const lm_cv vp = { a.p, 0, 0 }, vm = { a.m, 0, 0 }, vv = { a.v, 0, 0 };
    lm_ldv<V>(vp, i, p); lm_ldv<V>(a.g, i, g); lm_ldv<V>(vm, i, m); lm_ldv<V>(vv, i, v);
#pragma unroll
    for (int e = 0; e < V; e++) {
        /* each rounding is said, so that all kernels made of this give the same bits whatever the compiler would contract */
        const float gr = __fmul_rn(g[e], s);
        m[e] = __fmaf_rn(__fsub_rn(gr, m[e]), ob1, m[e]);
        v[e] = __fmaf_rn(v[e], b2, __fmul_rn(__fmul_rn(gr, gr), ob2));
        p[e] = __fmaf_rn(p[e], keep, -__fmul_rn(__fdiv_rn(m[e], __fadd_rn(__fdiv_rn(__fsqrt_rn(v[e]), sb2), eps)), lr));
        g[e] = 0;
    }
    lm_stv<V>(vp, i, p); lm_stv<V>(vm, i, m); lm_stv<V>(vv, i, v);
    if (a.zero) { const lm_cv z = { a.zero, 0, 0 }; lm_stv<V>(z, i, g); }
    if (a.copy) { const lm_cv c = { a.copy, 0, 1 }; lm_stv<V>(c, i, p); }
}
template <int V> __global__ void __launch_bounds__(256) lm_adamw_one(const lm_adamw_args a) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    if (i < a.n) lm_adamw_step<V>(a, i);
}
/* Several tensors: a block has 2048 elements of the one whose blocks it is among. */
static __global__ void __launch_bounds__(256) lm_adamw_many(const __grid_constant__ lm_adamw_table t) {
    unsigned block;
    const int k = lm_cuda_among(t.end, t.n, &block);
    const lm_adamw_args &a = t.a[k];
    const int64_t base = static_cast<int64_t>(block) * LM_ADAMW_PER;
    if (t.wide >> k & 1) { const int64_t i = base + threadIdx.x * 8; if (i < a.n) lm_adamw_step<8>(a, i); }
    else for (int64_t i = base + threadIdx.x; i < base + LM_ADAMW_PER && i < a.n; i += 256) lm_adamw_step<1>(a, i);
}
static inline lm_err lm_adamw_run(const lm_adamw_args a, cudaStream_t s) {
    if (!a.n) return LM_OK;
    if (lm_adamw_wide(&a)) lm_adamw_one<8><<<LM_CUDA_GRID(a.n, 256 * 8), 256, 0, s>>>(a);
    else lm_adamw_one<1><<<LM_CUDA_GRID(a.n, 256), 256, 0, s>>>(a);
    return lm_cuda_launched();
}
/* a[0..n) are set */
static inline lm_err lm_adamw_run_many(lm_adamw_table *t, cudaStream_t s) {
    int64_t blocks = 0;
    for (int i = 0; i < t->n; i++) {
        blocks += lm_ceil_div(t->a[i].n, LM_ADAMW_PER);
        if (blocks > INT32_MAX) return LM_E_RANGE;
        t->end[i] = static_cast<unsigned>(blocks);
        if (lm_adamw_wide(&t->a[i])) t->wide |= 1ull << i;
    }
    if (blocks) lm_adamw_many<<<static_cast<unsigned>(blocks), 256, 0, s>>>(*t);
    return lm_cuda_launched();
}
#endif
