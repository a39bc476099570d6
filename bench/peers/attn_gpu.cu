/* attn_gpu.cu — the attention rows of a CUDA device behind two plain functions, for bench/peers/torch_attn_gpu.py: tensors by address,
 * joined or not.
 * Build: nvcc -shared -Xcompiler -fPIC -Isrc -o attn_gpu.so bench/peers/attn_gpu.cu build-cuda/libloam.a
 *
 * Lifetime, Threads, Errors: as the rows'; 0 or an lm_err. */
#include <cstring>
#include "op/cuda.cuh"
extern "C" {
#include "op/attn_grad/attn_grad.h"
}
static lm_tensor rows(void *p, lm_dtype t, int64_t n, int64_t m, int64_t stride) {
    lm_tensor x = {};
    x.data = p; x.rank = 2; x.dtype = static_cast<int8_t>(t); x.layout = LM_PLAIN; x.dim[0] = n; x.dim[1] = m; x.stride[0] = stride; x.stride[1] = 1;
    for (int i = 2; i < LM_MAX_RANK; i++) x.dim[i] = x.stride[i] = 1;
    return x;
}
static const lm_kernel *row_of(const lm_op *op, const char *name) {
    for (int i = 0; op->kernels[i]; i++) for (const lm_kernel *k = op->kernels[i]; k->name; k++) if (!std::strcmp(k->name, name)) return k;
    return NULL;
}
struct problem { const char *row; int64_t n, stride; int heads, kv, d; int64_t window; float scale; void *scratch; size_t room; void *stream; };
static lm_call call(const problem *p, lm_attn_p *par, lm_dev *dev, void *q, void *k, void *v, int32_t *start) {
    lm_call c = {};
    *par = { p->heads, p->kv, p->d, p->window, p->scale, LM_BF16 };
    int at = 0;
    cudaGetDevice(&at);
    cudaDeviceGetAttribute(&dev->units, cudaDevAttrMultiProcessorCount, at);
    const int64_t dq = static_cast<int64_t>(p->heads) * p->d, dk = static_cast<int64_t>(p->kv) * p->d;
    c.p = par; c.dev = dev; c.n_in = 4; c.shared = p->scratch;
    c.in[0] = rows(q, LM_BF16, p->n, dq, p->stride ? p->stride : dq);
    c.in[1] = rows(k, LM_BF16, p->n, dk, p->stride ? p->stride : dk);
    c.in[2] = rows(v, LM_BF16, p->n, dk, p->stride ? p->stride : dk);
    c.in[3] = rows(start, LM_I32, p->n, 1, 1); c.in[3].rank = 1; c.in[3].stride[0] = 1;
    return c;
}
static int go(const lm_op *op, const problem *p, lm_call *c) {
    const lm_kernel *k = row_of(op, p->row);
    if (!k || !k->accepts(c)) return LM_E_UNSUPPORTED;
    if (k->shared_bytes && k->shared_bytes(c) > p->room) return LM_E_NOMEM;
    return k->phase[0].run(c, 0, p->stream);
}
extern "C" int loam_attn(const problem *p, void *q, void *k, void *v, int32_t *start, void *o, float *lse) {
    lm_attn_p par; lm_dev dev = {};
    lm_call c = call(p, &par, &dev, q, k, v, start);
    c.op = &lm_op_attn; c.n_out = 2;
    c.out[0] = rows(o, LM_BF16, p->n, c.in[0].dim[1], c.in[0].dim[1]); c.out[1] = rows(lse, LM_F32, p->n, p->heads, p->heads);
    return go(&lm_op_attn, p, &c);
}
extern "C" int loam_attn_grad(const problem *p, void *q, void *k, void *v, int32_t *start, void *o, float *lse, void *go_, void *dq, void *dk,
                              void *dv) {
    lm_attn_p par; lm_dev dev = {};
    lm_call c = call(p, &par, &dev, q, k, v, start);
    c.op = &lm_op_attn_grad; c.n_in = 7; c.n_out = 3;
    c.in[4] = rows(o, LM_BF16, p->n, c.in[0].dim[1], c.in[0].dim[1]);
    c.in[5] = rows(lse, LM_F32, p->n, p->heads, p->heads);
    c.in[6] = rows(go_, LM_BF16, p->n, c.in[0].dim[1], c.in[0].dim[1]);
    void *out[3] = { dq, dk, dv };
    for (int i = 0; i < 3; i++) c.out[i] = rows(out[i], LM_BF16, p->n, c.in[i].dim[1], p->stride ? p->stride : c.in[i].dim[1]);
    return go(&lm_op_attn_grad, p, &c);
}
