/* rmsnorm_cuda.cu — a row is a group of d columns (a whole row where w is as long). Memory bound: read once, written once. Of few rows it lets the
 * kernel behind it begin, which has weights to ask for. A join has the norm of the rows that a gather takes, and of no others. */
#include "op/rows.cuh"
#include "op/overlap.cuh"
extern "C" {
#include "op/join.h"
#include "op/rmsnorm/rmsnorm.h"
}
enum { FEW = 64 };                                                       /* rows of a decode step */
/* pick: the row of x of each row of y, of `from`; NULL: the same */
struct args { lm_cv x, w, y; float *stat; int64_t rows, groups, d; float eps, offset; const int32_t *pick; int64_t from; int32_t *fault; };

template <int T> __global__ void __launch_bounds__(T == 32 ? 128 : T) in_regs(const args a) {
    lm_let_next_begin();
    lm_wait_before();
    const int64_t g = lm_row_index<T>();
    if (g >= a.rows) return;
    const int64_t to = g / a.groups, at = (g - to * a.groups) * a.d;
    int64_t row = a.pick ? a.pick[to] : to;
    if (a.pick && (row < 0 || row >= a.from)) { if (a.fault) *a.fault = LM_E_RANGE; row = 0; }
    float v[LM_ROW_V][8], s = 0;
    LM_ROW_EACH(T, i, k, a.d) {
        lm_ld8(a.x, row * a.x.rs + at + k, v[i]);
#pragma unroll
        for (int e = 0; e < 8; e++) s += v[i][e] * v[i][e];
    }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<T>(s) / static_cast<float>(a.d) + a.eps);
    LM_ROW_EACH(T, i, k, a.d) {
        float w[8];
        lm_ld8(a.w, k, w);
#pragma unroll
        for (int e = 0; e < 8; e++) v[i][e] = v[i][e] * r * (w[e] + a.offset);
        lm_st8(a.y, to * a.y.rs + at + k, v[i]);
    }
    if (threadIdx.x == 0 && a.stat) a.stat[g] = r;
}
static __global__ void __launch_bounds__(256) plain(const args a) {
    const int64_t g = blockIdx.x, row = g / a.groups, at = (g - row * a.groups) * a.d;
    float s = 0;
    for (int64_t k = threadIdx.x; k < a.d; k += 256) { const float v = lm_ld1(a.x, row * a.x.rs + at + k); s += v * v; }
    const float r = 1.0f / sqrtf(lm_cuda_block_sum<256>(s) / static_cast<float>(a.d) + a.eps);
    for (int64_t k = threadIdx.x; k < a.d; k += 256) lm_st1(a.y, row * a.y.rs + at + k, lm_ld1(a.x, row * a.x.rs + at + k) * r * (lm_ld1(a.w, k) + a.offset));
    if (threadIdx.x == 0) a.stat[g] = r;
}
static bool few(const lm_call *c, int64_t d, int64_t rows) {
    return d > 32 * 8 * LM_ROW_V && d <= 512 * 8 * LM_ROW_V && rows <= FEW && c->dev && c->dev->features & LM_CUDA_SM90;
}
static lm_err run_few(const args &a, cudaStream_t s) {
    const dim3 grid(static_cast<unsigned>(a.rows));
    return a.d <= 128 * 8 * LM_ROW_V ? lm_launch_early(in_regs<128>, a, grid, 128, 0, 1, true, s) : lm_launch_early(in_regs<512>, a, grid, 512, 0, 1, true, s);
}
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c->p);
    const int64_t d = c->in[1].dim[0], groups = lm_cols(&c->in[0]) / d;
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), static_cast<float *>(c->out[1].data), lm_rows(&c->in[0]) * groups, groups, d, p->eps, p->offset, NULL, 0, NULL };
    const lm_cv v[3] = { a.x, a.w, a.y };
    const bool wide = lm_cuda_vec8(v, 3, d);
    if (wide && a.rows && few(c, d, a.rows)) return run_few(a, LM_CUDA_STREAM(scratch));
    LM_ROW_LAUNCH(in_regs, plain, a, wide, d, LM_CUDA_STREAM(scratch));
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1 | 2, 1) && lm_is_contig(&c->out[1]); }
LM_CUDA_ALONE(rmsnorm, "rmsnorm/cuda", accepts, run, NULL, NULL)
#ifndef LM_F16_ROWS
/* ---- 0 y=rmsnorm(x,w) 1 z=gather(y,i) ---- */
static args picked_of(const lm_call *const *c) {
    const lm_rmsnorm_p *p = static_cast<const lm_rmsnorm_p *>(c[0]->p);
    return { lm_cv_of(&c[0]->in[0]), lm_cv_of(&c[0]->in[1]), lm_cv_of(&c[1]->out[0]), NULL, c[1]->in[1].dim[0], 1, c[0]->in[1].dim[0], p->eps, p->offset,
             static_cast<const int32_t *>(c[1]->in[1].data), c[0]->in[0].dim[0], c[1]->fault };
}
static bool picked_ok(const lm_call *const *c) {
    if (!accepts(c[0]) || c[0]->in[0].rank != 2 || c[0]->in[1].dim[0] != c[0]->in[0].dim[1] || c[0]->out[0].dtype != c[1]->out[0].dtype || !lm_is_contig(&c[1]->in[1]) ||
        !lm_cuda_float(&c[1]->out[0]))
        return false;
    const args a = picked_of(c);
    const lm_cv v[3] = { a.x, a.w, a.y };
    return a.rows > 0 && a.from > 0 && few(c[0], a.d, a.rows) && lm_cuda_vec8(v, 3, a.d);
}
static lm_err picked(const lm_call *const *c, void *scratch) { return run_few(picked_of(c), LM_CUDA_STREAM(scratch)); }
extern "C" {
extern const lm_join lm_join_picked_norm_cuda;
const lm_join lm_join_picked_norm_cuda = { "norm of some rows", "y=rmsnorm(x,w); z=gather(y,i)", LM_DEV_CUDA, LM_CUDA_SM90, 2, picked_ok, picked };
}
#endif
