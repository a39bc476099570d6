/* embed_cuda.cu — whole rows by number (embed and gather): memory bound. */
#include <cuda_fp16.h>
#include "op/overlap.cuh"
struct args { lm_cv w, y; const int32_t *ids; int64_t rows, d, n; int f16, wait; int32_t *fault; };
/* wait: a step of the plan makes what is read */
template <int V> __global__ void __launch_bounds__(256) pick(const __grid_constant__ args a) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    lm_let_next_begin();
    if (a.wait) lm_wait_before();
    const int64_t r = i < a.n ? i / a.d : 0, k = i < a.n ? i - r * a.d : 0, id = a.ids[r];
    float f[V] = {};
    if (id < 0 || id >= a.rows) { if (a.fault) *a.fault = LM_E_RANGE; }
    else if (a.f16) for (int e = 0; e < V; e++) f[e] = __half2float(static_cast<const __half *>(a.w.p)[id * a.w.rs + k + e]);
    else lm_ldv<V>(a.w, id * a.w.rs + k, f);
    if (!a.wait) lm_wait_before();
    if (i < a.n) lm_stv<V>(a.y, r * a.y.rs + k, f);
}
static bool accepts(const lm_call *c) {
    const lm_tensor *w = &c->in[0];
    const bool f16 = w->dtype == LM_F16 && w->layout == LM_PLAIN && lm_rows_fold(w);
    return lm_cuda_ours(c) && (f16 || lm_cuda_float(w)) && c->in[1].dtype == LM_I32 && lm_is_contig(&c->in[1]) && lm_cuda_float(&c->out[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_tensor *w = &c->in[0]; const int64_t d = w->dim[1], n = c->in[1].dim[0] * d;
    const args a = { lm_cv_of(w), lm_cv_of(&c->out[0]), static_cast<const int32_t *>(c->in[1].data), w->dim[0], d, n, w->dtype == LM_F16 && LM_H16 != LM_F16, (c->fixed & 3) != 3, c->fault };
    const lm_cv v[2] = { a.w, a.y };
    const bool early = c->dev && c->dev->features & LM_CUDA_SM90;
    if (!n) return LM_OK;
    if (!a.f16 && lm_cuda_vec8(v, 2, d)) return lm_launch_early(pick<8>, a, dim3(LM_CUDA_GRID(n, 256 * 8)), 256, 0, 1, early, LM_CUDA_STREAM(scratch));
    return lm_launch_early(pick<1>, a, dim3(LM_CUDA_GRID(n, 256)), 256, 0, 1, early, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ALONE(rows, "rows", accepts, run, NULL, NULL)
