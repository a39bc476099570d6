/* rope_cuda.cu — both numbers of a pair are read before either is written, so y may be x. Memory bound: where whole heads turn by halves a thread has
 * eight pairs of several heads and reads their angles once; else one pair, or one number that does not turn. */
#include "op/cuda.cuh"
extern "C" {
#include "op/rope/rope.h"
}
struct args { lm_cv x, t, y; int64_t rows, heads; int d, n, interleaved; float sign; };
static __global__ void __launch_bounds__(256) turn(const args a) {
    const int64_t per = a.heads * (a.d - a.n), i = static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x;       /* pairs, then what does not turn */
    if (i >= a.rows * per) return;
    const int64_t r = i / per, q = i - r * per, h = q / (a.d - a.n); const int k = static_cast<int>(q - h * (a.d - a.n));
    const int64_t x = r * a.x.rs + h * a.d, y = r * a.y.rs + h * a.d;
    if (k >= a.n) { lm_st1(a.y, y + a.n + k, lm_ld1(a.x, x + a.n + k)); return; }
    const int p0 = a.interleaved ? 2 * k : k, p1 = a.interleaved ? 2 * k + 1 : k + a.n;
    const float u = lm_ld1(a.x, x + p0), v = lm_ld1(a.x, x + p1), c = lm_ld1(a.t, r * a.t.rs + k), s = lm_ld1(a.t, r * a.t.rs + a.n + k) * a.sign;
    lm_st1(a.y, y + p0, fmaf(u, c, -(v * s))); lm_st1(a.y, y + p1, fmaf(v, c, u * s));
}
/* HEADS heads a thread, asked for before any is used. BF16: known when compiled, or each load would look and wait. */
template <bool BF16, int HEADS> __global__ void __launch_bounds__(256) turn8(const args a) {
    const unsigned per = static_cast<unsigned>(a.n) / 8, all = per * ((static_cast<unsigned>(a.heads) + HEADS - 1) / HEADS);      /* threads of a row, which is read in one go */
    const unsigned i = blockIdx.x * 256 + threadIdx.x, row = i / all;
    if (row >= a.rows) return;
    const int q = static_cast<int>(i - row * all), k = q % static_cast<int>(per) * 8, h0 = q / static_cast<int>(per) * HEADS;
    const int64_t r = row;
    lm_cv x = a.x, y = a.y;
    if (BF16) x.bf16 = y.bf16 = 1;
    lm_raw8 u[HEADS], v[HEADS];
    float c[8], s[8];
#pragma unroll
    for (int h = 0; h < HEADS; h++) if (h0 + h < a.heads) { const int64_t at = r * x.rs + static_cast<int64_t>(h0 + h) * a.d + k; u[h] = lm_ldraw(x, at); v[h] = lm_ldraw(x, at + a.n); }
    lm_ld8(a.t, r * a.t.rs + k, c); lm_ld8(a.t, r * a.t.rs + a.n + k, s);
#pragma unroll
    for (int h = 0; h < HEADS; h++) if (h0 + h < a.heads) {
        const int64_t at = r * y.rs + static_cast<int64_t>(h0 + h) * a.d + k;
        float p[8], w[8], f[8], g[8];
        lm_unraw(x, u[h], p); lm_unraw(x, v[h], w);
#pragma unroll
        for (int e = 0; e < 8; e++) { const float z = s[e] * a.sign; f[e] = fmaf(p[e], c[e], -(w[e] * z)); g[e] = fmaf(w[e], c[e], p[e] * z); }
        lm_st8(y, at, f); lm_st8(y, at + a.n, g);
    }
}
template <bool BF16, int HEADS> static void launch8(const args &a, cudaStream_t s) {
    turn8<BF16, HEADS><<<LM_CUDA_GRID(a.rows * (a.n / 8) * lm_ceil_div(a.heads, HEADS), 256), 256, 0, s>>>(a);
}
static bool accepts(const lm_call *c) { return lm_cuda_accepts(c, 1, 1); }
static lm_err run(const lm_call *c, int64_t tile, void *scratch) {
    (void)tile;
    const lm_rope_p *p = static_cast<const lm_rope_p *>(c->p);
    const args a = { lm_cv_of(&c->in[0]), lm_cv_of(&c->in[1]), lm_cv_of(&c->out[0]), c->in[0].dim[0], c->in[0].dim[1] / p->d_head, p->d_head, p->rotary / 2, p->interleaved, p->inverse ? -1.0f : 1.0f };
    const int64_t n = a.rows * a.heads * (a.d - a.n);
    const lm_cv all[3] = { a.x, a.t, a.y };
    if (n && !a.interleaved && 2 * a.n == a.d && a.n % 8 == 0 && n < INT32_MAX && lm_cuda_vec8(all, 3, a.n)) {
        if (a.x.bf16 && a.y.bf16) launch8<true, 6>(a, LM_CUDA_STREAM(scratch)); else launch8<false, 4>(a, LM_CUDA_STREAM(scratch));
    } else if (n) turn<<<LM_CUDA_GRID(n, 256), 256, 0, LM_CUDA_STREAM(scratch)>>>(a);
    return lm_cuda_launched();
}
LM_CUDA_ALONE(rope, "rope/cuda", accepts, run, NULL, NULL)
