/* broadcast.cuh — add and mul on a CUDA device: b is as a is, a row vector, or one number. For *_cuda.cu files. */
#ifndef LM_BROADCAST_CUH
#define LM_BROADCAST_CUH
#include "op/cuda.cuh"
typedef struct { lm_cv a, b, y; int64_t n, cols; int kind; } lm_bc_args;
template <int V, class F> __global__ void __launch_bounds__(256) lm_bc_kernel(const lm_bc_args a, const F f) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    if (i >= a.n) return;
    const int64_t r = i / a.cols, col = i - r * a.cols;
    float x[V], b[V], y[V];
    lm_ldv<V>(a.a, r * a.a.rs + col, x);
    if (a.kind == LM_B_SAME) lm_ldv<V>(a.b, r * a.b.rs + col, b);
    else if (a.kind == LM_B_ROW) lm_ldv<V>(a.b, col, b);
    else { b[0] = lm_ld1(a.b, 0); for (int e = 1; e < V; e++) b[e] = b[0]; }
#pragma unroll
    for (int e = 0; e < V; e++) y[e] = f(x[e], b[e]);
    lm_stv<V>(a.y, r * a.y.rs + col, y);
}
template <class F> static lm_err lm_bc_run(const lm_call *c, void *scratch, const F f) {
    lm_bc_args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), lm_numel(&c->out[0]), lm_cols(&c->out[0]), lm_broadcast_of(&c->in[0], &c->in[1]) };
    if (!a.n) return LM_OK;
    const lm_cv v[3] = { a.a, a.y, a.b };
    const bool wide = lm_cuda_vec8(v, a.kind == LM_B_SCALAR ? 2 : 3, a.cols);
    if (wide) lm_bc_kernel<8, F><<<LM_CUDA_GRID(a.n, 256 * 8), 256, 0, LM_CUDA_STREAM(scratch)>>>(a, f);
    else lm_bc_kernel<1, F><<<LM_CUDA_GRID(a.n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(a, f);
    return lm_cuda_launched();
}
#endif
