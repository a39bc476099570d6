/* rope_table.cuh — an entry of the table, for its own kernel and for one that does what begins a step besides (follow/begin_cuda.cu).
 *
 * Lifetime: none.  Threads: as CUDA's.  Errors: none. */
#ifndef LM_ROPE_TABLE_CUH
#define LM_ROPE_TABLE_CUH
#include "op/overlap.cuh"
extern "C" {
#include "op/rope_table/rope_table.h"
}
struct lm_rope_freqs { float f[LM_ROPE_MAX_D / 2]; };
/* made: frequencies that are made on the device; wait: a step of the plan makes what is read */
struct lm_rope_args { const int32_t *pos; float *y; int64_t rows; int n, wait; float factor; const float *made; lm_rope_freqs q; };
static inline lm_rope_args lm_rope_args_of(const lm_call *c) {
    const lm_rope_table_p *p = static_cast<const lm_rope_table_p *>(c->p);
    lm_rope_args a = {};
    a.factor = 1;
    lm_rope_inv_freq(p, 0, a.q.f, &a.factor);
    a.pos = static_cast<const int32_t *>(c->in[0].data); a.y = static_cast<float *>(c->out[0].data); a.rows = c->in[0].dim[0]; a.n = p->d_head / 2; a.wait = !(c->fixed & 1);
    return a;
}
/* Waits for the kernel before; unless a step makes what is read, cosines are taken while that still runs. */
__device__ __forceinline__ void lm_rope_entry(const lm_rope_args &a, int64_t i) {
    if (a.wait) lm_wait_before();
    const bool on = i < a.rows * a.n;
    const int64_t r = on ? i / a.n : 0; const int k = on ? static_cast<int>(i - r * a.n) : 0;
    const float angle = __fmul_rn(static_cast<float>(a.pos[r]), a.made ? a.made[k] : a.q.f[k]);
    double s, c;
    sincos(static_cast<double>(angle), &s, &c);
    if (!a.wait) lm_wait_before();
    if (on) { a.y[r * 2 * a.n + k] = __fmul_rn(static_cast<float>(c), a.factor); a.y[r * 2 * a.n + a.n + k] = __fmul_rn(static_cast<float>(s), a.factor); }
}
#endif
