/* rope_table_cuda.cu — frequencies are made on the host (they are constants of the row) and passed by value; the angle is rounded to f32 as the contract says, its cosine
 * and sine taken in double and rounded once. DYNAMIC, whose frequencies depend on positions, has no CUDA row. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rope_table/rope_table.h"
}
struct freqs { float f[LM_ROPE_MAX_D / 2]; };
static __global__ void __launch_bounds__(256) table(const int32_t *pos, float *y, int64_t rows, int n, float factor, const freqs q) {
    const int64_t i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= rows * n) return;
    const int64_t r = i / n; const int k = static_cast<int>(i - r * n);
    const float angle = __fmul_rn(static_cast<float>(pos[r]), q.f[k]);
    double s, c;
    sincos(static_cast<double>(angle), &s, &c);
    y[r * 2 * n + k] = __fmul_rn(static_cast<float>(c), factor); y[r * 2 * n + n + k] = __fmul_rn(static_cast<float>(s), factor);
}
static bool accepts(const lm_call *c) { return static_cast<const lm_rope_table_p *>(c->p)->scaling != LM_ROPE_DYNAMIC && lm_cuda_accepts_f32(c) && lm_is_contig(&c->out[0]); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rope_table_p *p = static_cast<const lm_rope_table_p *>(c->p);
    freqs q = {}; float factor = 1;
    lm_rope_inv_freq(p, 0, q.f, &factor);
    const int64_t rows = c->in[0].dim[0]; const int n = p->d_head / 2;
    if (rows) table<<<LM_CUDA_GRID(rows * n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(static_cast<const int32_t *>(c->in[0].data), static_cast<float *>(c->out[0].data), rows, n, factor, q);
    return lm_cuda_launched();
}
LM_CUDA_ONE(rope_table, "rope_table/cuda", accepts, run)
