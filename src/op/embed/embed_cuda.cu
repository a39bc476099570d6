/* embed_cuda.cu — whole rows by number (embed and gather): memory bound. */
#include <cuda_fp16.h>
#include "op/cuda.cuh"
template <int V> __global__ void __launch_bounds__(256) pick(const lm_cv w, int f16, const int32_t *ids, const lm_cv y, int64_t rows, int64_t d, int64_t n, int32_t *fault) {
    const int64_t i = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * V;
    if (i >= n) return;
    const int64_t r = i / d, k = i - r * d, id = ids[r];
    float f[V] = {};
    if (id < 0 || id >= rows) { if (fault) *fault = LM_E_RANGE; }
    else if (f16) for (int e = 0; e < V; e++) f[e] = __half2float(static_cast<const __half *>(w.p)[id * w.rs + k + e]);
    else lm_ldv<V>(w, id * w.rs + k, f);
    lm_stv<V>(y, r * y.rs + k, f);
}
static bool accepts(const lm_call *c) {
    const lm_tensor *w = &c->in[0];
    const bool f16 = w->dtype == LM_F16 && w->layout == LM_PLAIN && lm_rows_fold(w);
    return (f16 || lm_cuda_float(w)) && c->in[1].dtype == LM_I32 && lm_is_contig(&c->in[1]) && lm_cuda_float(&c->out[0]);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_tensor *w = &c->in[0]; const int64_t d = w->dim[1], n = c->in[1].dim[0] * d; const int32_t *ids = static_cast<const int32_t *>(c->in[1].data);
    const lm_cv v[2] = { lm_cv_of(w), lm_cv_of(&c->out[0]) }; const int f16 = w->dtype == LM_F16;
    if (!n) return LM_OK;
    if (!f16 && lm_cuda_vec8(v, 2, d)) pick<8><<<LM_CUDA_GRID(n, 256 * 8), 256, 0, LM_CUDA_STREAM(scratch)>>>(v[0], f16, ids, v[1], w->dim[0], d, n, c->fault);
    else pick<1><<<LM_CUDA_GRID(n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(v[0], f16, ids, v[1], w->dim[0], d, n, c->fault);
    return lm_cuda_launched();
}
extern "C" {
extern const lm_kernel lm_k_rows_cuda[];
const lm_kernel lm_k_rows_cuda[] = { { "rows.cuda", LM_DEV_CUDA, LM_CUDA_SM80, "rows", accepts, NULL, NULL, 1, { { lm_cuda_one, run } }, NULL }, {} };
}
