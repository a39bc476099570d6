/* xent.cuh — the loss of a head on a CUDA device: logits in chunks of rows, one pass over each row. For the *_cuda.cu files of xent and xent_step.
 *
 * A block has a row: the maximum and the sum of exponentials in one reading (each thread its own, joined by a tree), then, for the
 * gradient, d loss / d logits in a second one, written over the logits. Logits are f32; in xent_step with bf16 products they are bf16, as
 * their gradient is: a row then waits in shared memory (as much of it as fits) between its two readings, so memory is read and written
 * once. */
#ifndef LM_XENT_CUH
#define LM_XENT_CUH
#include "op/matmul/matmul.cuh"
extern "C" {
#include "op/xent/xent.h"
}
enum { LM_XENT_CUDA_ROWS = 4096 };                                     /* rows of logits that exist at a time */
static inline int64_t lm_xent_cuda_rows(const lm_call *c, const lm_xent_p *p) {
    return p->chunk > 0 ? p->chunk : lm_min64(LM_XENT_CUDA_ROWS, lm_max64(1, c->in[0].dim[0]));
}
static inline int64_t lm_xent_cuda_stride(const lm_call *c) { return lm_round_up(c->in[1].dim[0], 64); }
/* z: rows of zs numbers of which V are logits; those after them up to zs are written as zeros with the gradient */
typedef struct {
    void *z;
    int64_t zs, V;
    const int32_t *target;
    const float *weight;
    float *loss, *lse;
    float ls, zl, cap;
    int grad, half;
    int32_t *fault;
} lm_xent_args;
static inline size_t lm_xent_up(size_t n) { return (n + 255) & ~static_cast<size_t>(255); }
/* W as the products take it: rounded once for all chunks where it is f32 and they take bf16. The copy has rows of zeros up to a multiple
 * of 64: odd vocabularies cost the products up to four times as much. So there are lm_xent_cuda_n columns of logits, of which those from V
 * on are looked at by no one and have no gradient. */
static inline bool lm_xent_copies(const lm_call *c, const lm_xent_p *p) { return p->mm == LM_BF16 && c->in[1].dtype == LM_F32; }
static inline int64_t lm_xent_cuda_n(const lm_call *c, const lm_xent_p *p) { return lm_xent_copies(c, p) ? lm_xent_cuda_stride(c) : c->in[1].dim[0]; }
static inline size_t lm_xent_w_bytes(const lm_call *c, const lm_xent_p *p) {
    return lm_xent_copies(c, p) ? lm_xent_up(static_cast<size_t>(lm_xent_cuda_stride(c) * lm_round_up(c->in[1].dim[1], 8)) * 2) : 0;
}
static inline lm_cm lm_xent_operand(const lm_tensor *t, int64_t row0) {
    const lm_cm m = { static_cast<char *>(t->data) + static_cast<size_t>(row0 * lm_row_stride(t)) * (t->dtype == LM_BF16 ? 2 : 4),
                      lm_row_stride(t), 0, t->dtype == LM_BF16 };
    return m;
}
/* logits (rows, V) = x[row0 …] Wᵀ */
static inline lm_cuda_gemm lm_xent_cuda_logits(const lm_call *c, const lm_xent_p *p, int64_t row0, int64_t rows, const lm_cm &w, void *z, bool half) {
    lm_cuda_gemm g = {};
    g.batch = 1;
    g.M = rows;
    g.N = lm_xent_cuda_n(c, p);
    g.K = c->in[0].dim[1];
    g.a = lm_xent_operand(&c->in[0], row0);
    g.b = w;
    g.tb = true;
    g.round = p->mm == LM_BF16;
    g.c = z; g.ldc = lm_xent_cuda_stride(c); g.c_bf16 = half;
    return g;
}
static inline bool lm_xent_cuda_accepts(const lm_call *c, const lm_xent_p *p) {
    const lm_tensor *x = &c->in[0], *w = &c->in[1];
    if ((p->mm != LM_F32 && p->mm != LM_BF16)) return false;
    for (int i = 0; i < c->n_out; i++) if (!lm_cuda_float(&c->out[i]) || (i != 2 && c->out[i].dtype != LM_F32)) return false;
    if (!lm_is_contig(&c->out[0]) || !lm_is_contig(&c->out[1]) || (c->n_out > 3 && !lm_is_contig(&c->out[3]))) return false;
    if (!lm_is_contig(&c->in[2]) || (lm_has(c, 3) && !lm_is_f32_vec(&c->in[3]))) return false;
    return lm_cuda_float(x) && lm_cuda_float(w);
}
lm_err lm_xent_cuda_w(const lm_call *c, const lm_xent_p *p, char **room, lm_cm *w, cudaStream_t s);      /* takes its bytes off *room */
lm_err lm_xent_cuda_chunk(const lm_xent_args *a, int64_t rows, cudaStream_t s);
#endif
