/* rope_table_cuda.cu — frequencies are made on the host (they are constants of the row) and passed by value; the angle is rounded to f32
 * as the contract says, its cosine and sine taken in double and rounded once. DYNAMIC's depend on the longest position: one block finds it
 * and makes them, by the f32 steps of lm_rope_inv_freq. */
#include "op/rope_table/rope_table.cuh"
static __global__ void __launch_bounds__(256) dynamic(const int32_t *pos, int64_t rows, int n, float base, float factor, float max_pos, float factor_1, float *f) {
    __shared__ int longest[256];
    int most = 0;
    for (int64_t i = threadIdx.x; i < rows; i += 256) most = max(most, pos[i]);
    longest[threadIdx.x] = most;
    __syncthreads();
    for (int h = 128; h; h /= 2) { if (threadIdx.x < h) longest[threadIdx.x] = max(longest[threadIdx.x], longest[threadIdx.x + h]); __syncthreads(); }
    const float len = static_cast<float>(longest[0] + 1);
    if (len > max_pos) {
        const float t = __fsub_rn(__fdiv_rn(__fmul_rn(len, factor), max_pos), factor_1);
        base = __fmul_rn(base, static_cast<float>(pow(static_cast<double>(t), 2.0 * n / (2.0 * n - 2.0))));
    }
    const int i = threadIdx.x;
    if (i < n) f[i] = __fdiv_rn(1.0f, static_cast<float>(pow(static_cast<double>(base), static_cast<double>(__fdiv_rn(static_cast<float>(2 * i), static_cast<float>(2 * n))))));
}
static __global__ void __launch_bounds__(256) table(const __grid_constant__ lm_rope_args a) {
    lm_let_next_begin();
    lm_rope_entry(a, static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts_f32(c) && lm_is_contig(&c->out[0]); }
static size_t shared(const lm_call *c) { (void)c; return LM_ROPE_MAX_D / 2 * sizeof(float); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rope_table_p *p = static_cast<const lm_rope_table_p *>(c->p);
    lm_rope_args a = lm_rope_args_of(c);
    if (!a.rows) return LM_OK;
    if (p->scaling == LM_ROPE_DYNAMIC) {
        float *made = static_cast<float *>(c->shared);
        a.made = made; a.wait = 1;
        dynamic<<<1, 256, 0, LM_CUDA_STREAM(scratch)>>>(a.pos, a.rows, a.n, static_cast<float>(p->base), static_cast<float>(p->factor), static_cast<float>(p->max_pos), static_cast<float>(p->factor - 1), made);
        LM_TRY(lm_cuda_launched());
    }
    return lm_launch_early(table, a, dim3(LM_CUDA_GRID(a.rows * a.n, 256)), 256, 0, 1, c->dev && c->dev->features & LM_CUDA_SM90, LM_CUDA_STREAM(scratch));
}
LM_CUDA_ALONE(rope_table, "rope_table/cuda", accepts, run, shared, NULL)
