/* sinks_gpu.cu — what attention sinks cost beside the attention they belong to: `bench/gpu.sh sinks`.
 *
 * Rows of kernels as a plan would run them, in bf16: over four texts of 4096 tokens attention without and with sinks, its gradient, attn_sinks_grad and the sum for
 * ds; over pages one token of 1, 8 and 64 sequences of 2048, without sinks and with them. Numbers are random; what is right is the driver's and test_attn_sinks' matter. */
#include <cmath>
#include <cstring>
#include "gpu.cuh"
extern "C" {
#include "op/attn_grad/attn_grad.h"
#include "op/attn_paged/attn_paged.h"
#include "op/attn_sinks/attn_sinks.h"
#include "op/attn_sinks_grad/attn_sinks_grad.h"
#include "op/sum_rows/sum_rows.h"
}
typedef __nv_bfloat16 bf;
enum { T = 4096, N = 4 * T };
static lm_dev *dev;
static cudaStream_t str;
static void *room(size_t bytes) { void *p; CK(cudaMalloc(&p, bytes)); CK(cudaMemset(p, 0, bytes)); return p; }
static lm_tensor rows(lm_dtype t, int64_t n, int64_t m, unsigned seed) {
    const int64_t dim[2] = { n, m };
    const size_t all = static_cast<size_t>(n * m);
    void *p = room(all * 4);
    if (t == LM_BF16) fill<<<1024, 256>>>(static_cast<bf *>(p), all, 1.0f, seed); else fill<<<1024, 256>>>(static_cast<float *>(p), all, 1.0f, seed);
    return lm_tensor_of(p, t, 2, dim);
}
static lm_tensor vec(lm_dtype t, int64_t n) { return lm_tensor_of(room(static_cast<size_t>(n) * 4), t, 1, &n); }
/* Milliseconds of one of twenty, the best of three times. */
static float timed(const lm_op *op, const char *name, lm_call *c) {
    const lm_kernel *k = lm_kernel_choose(op, c, LM_DEV_CUDA, dev->features);
    if (!k || std::strcmp(k->name, name)) { std::printf("%s: %s serves\n", name, k ? k->name : "nothing"); std::exit(1); }
    c->op = op; c->dev = dev;
    c->shared = k->shared_bytes && k->shared_bytes(c) ? room(k->shared_bytes(c)) : NULL;
    cudaEvent_t a, b;
    CK(cudaEventCreate(&a)); CK(cudaEventCreate(&b));
    for (int i = 0; i < 3; i++) OK(k->phase[0].run(c, 0, str));
    float best = 1e9f;
    for (int r = 0; r < 3; r++) {
        float ms;
        CK(cudaEventRecord(a, str));
        for (int i = 0; i < 20; i++) OK(k->phase[0].run(c, 0, str));
        CK(cudaEventRecord(b, str)); CK(cudaEventSynchronize(b)); CK(cudaEventElapsedTime(&ms, a, b));
        if (ms / 20 < best) best = ms / 20;
    }
    cudaFree(c->shared);
    return best;
}
struct shape { int heads, kv, d; int64_t window; };
static void one(const shape &s) {
    const lm_attn_p p = { s.heads, s.kv, s.d, s.window, 1.0f / std::sqrt(static_cast<float>(s.d)), LM_BF16, 0, false };
    const int64_t wq = static_cast<int64_t>(s.heads) * s.d, wk = static_cast<int64_t>(s.kv) * s.d;
    const lm_tensor q = rows(LM_BF16, N, wq, 1), k = rows(LM_BF16, N, wk, 2), v = rows(LM_BF16, N, wk, 3), o = rows(LM_BF16, N, wq, 4), dy = rows(LM_BF16, N, wq, 5), dq = rows(LM_BF16, N, wq, 8),
                    dk = rows(LM_BF16, N, wk, 9), dv = rows(LM_BF16, N, wk, 10), lse = rows(LM_F32, N, s.heads, 11), each = rows(LM_F32, N, s.heads, 14), start = vec(LM_I32, N),
                    sink = vec(LM_F32, s.heads), ds = vec(LM_F32, s.heads);
    int32_t *st = static_cast<int32_t *>(std::malloc(N * 4));
    for (int i = 0; i < N; i++) st[i] = i / T * T;
    CK(cudaMemcpy(start.data, st, N * 4, cudaMemcpyHostToDevice));
    std::free(st);
    lm_call f = {}, g = {}, b = {}, r = {};
    f.p = &p; f.n_in = 4; f.n_out = 2; f.in[0] = q; f.in[1] = k; f.in[2] = v; f.in[3] = start; f.in[4] = sink; f.out[0] = o; f.out[1] = lse;
    g.n_in = 4; g.n_out = 1; g.in[0] = o; g.in[1] = lse; g.in[2] = sink; g.in[3] = dy; g.out[0] = each;
    r.n_in = 1; r.n_out = 1; r.in[0] = each; r.out[0] = ds;
    float plain[3], with[3], back[3], weight[3], sum[3];
    for (int i = 0; i < 3; i++) {                                         /* by turns */
        f.n_in = 4; plain[i] = timed(&lm_op_attn, "attn.hopper", &f);
        f.n_in = 5; with[i] = timed(&lm_op_attn_sinks, "attn_sinks.hopper", &f);
        b = f; b.n_in = 7; b.n_out = 3; b.in[4] = o; b.in[5] = lse; b.in[6] = dy; b.out[0] = dq; b.out[1] = dk; b.out[2] = dv;
        back[i] = timed(&lm_op_attn_grad, "attn_grad.hopper", &b); weight[i] = timed(&lm_op_attn_sinks_grad, "attn_sinks_grad.cuda", &g); sum[i] = timed(&lm_op_sum_rows, "sum_rows.cuda", &r);
    }
    const double big = static_cast<double>(N) * static_cast<double>(wq) * 2e-6;
    std::printf("%d:%d heads of %d, window %ld:", s.heads, s.kv, s.d, static_cast<long>(s.window));
    for (int i = 0; i < 3; i++)
        std::printf("%s attn %.3f ms, with sinks %.3f | attn_grad %.3f, attn_sinks_grad %.3f (%.0f GB/s), sum %.4f", i ? ";" : "", plain[i], with[i], back[i], weight[i], 2 * big / weight[i], sum[i]);
    std::printf("\n");
    for (const lm_tensor &t : { q, k, v, o, dy, dq, dk, dv, lse, each, start, sink, ds }) cudaFree(t.data);
}
static void pages(const shape &s, int n) {
    enum { PER = 32 };
    const lm_attn_p p = { s.heads, s.kv, s.d, s.window, 1.0f / std::sqrt(static_cast<float>(s.d)), LM_BF16, 0, false };
    const int64_t all = static_cast<int64_t>(n) * PER, dim[4] = { all, s.kv, LM_KV_PAGE, s.d }, two[2] = { n, PER };
    lm_tensor k = rows(LM_BF16, all * LM_KV_PAGE, static_cast<int64_t>(s.kv) * s.d, 1), v = rows(LM_BF16, all * LM_KV_PAGE, static_cast<int64_t>(s.kv) * s.d, 2);
    lm_call c = {};
    c.p = &p; c.n_in = 6; c.n_out = 1;
    c.in[0] = rows(LM_BF16, n, static_cast<int64_t>(s.heads) * s.d, 3); c.in[1] = lm_tensor_of(k.data, LM_BF16, 4, dim); c.in[2] = lm_tensor_of(v.data, LM_BF16, 4, dim);
    c.in[3] = vec(LM_I32, all); c.in[3] = lm_tensor_of(c.in[3].data, LM_I32, 2, two); c.in[4] = vec(LM_I32, n); c.in[5] = vec(LM_I32, n); c.in[6] = vec(LM_F32, s.heads);
    c.out[0] = rows(LM_BF16, n, static_cast<int64_t>(s.heads) * s.d, 4); c.fixed = 7 << 3;
    int32_t *x = static_cast<int32_t *>(std::malloc(static_cast<size_t>(all) * 4));
    for (int i = 0; i < all; i++) x[i] = i;
    CK(cudaMemcpy(c.in[3].data, x, static_cast<size_t>(all) * 4, cudaMemcpyHostToDevice)); CK(cudaMemcpy(c.in[4].data, x, static_cast<size_t>(n) * 4, cudaMemcpyHostToDevice));
    for (int i = 0; i < n; i++) x[i] = PER * LM_KV_PAGE - 1;
    CK(cudaMemcpy(c.in[5].data, x, static_cast<size_t>(n) * 4, cudaMemcpyHostToDevice));
    std::free(x);
    std::printf("%d sequences of %d over pages, %d:%d heads of %d, window %ld:", n, PER * LM_KV_PAGE, s.heads, s.kv, s.d, static_cast<long>(s.window));
    for (int i = 0; i < 3; i++) {
        c.n_in = 6; const float plain = timed(&lm_op_attn_paged, "attn_paged.cuda", &c);
        c.n_in = 7; const float with = timed(&lm_op_attn_paged, "attn_paged.cuda", &c);
        std::printf("%s %.4f ms, with sinks %.4f", i ? ";" : "", plain, with);
    }
    std::printf("\n");
    for (int i = 0; i < 7; i++) cudaFree(c.in[i].data);
    cudaFree(c.out[0].data);
}
int main() {
    lm_ctx *ctx;
    OK(lm_ctx_new(&ctx, NULL));
    OK(lm_dev_open(&dev, ctx, "cuda"));
    str = static_cast<cudaStream_t>(dev->stream);
    for (const shape &s : { shape{ 64, 8, 64, 0 }, shape{ 64, 8, 64, 128 }, shape{ 16, 8, 128, 0 }, shape{ 16, 16, 96, 0 } }) one(s);
    for (int n : { 1, 8, 64 }) { pages({ 64, 8, 64, 0 }, n); pages({ 64, 8, 64, 128 }, n); }
    return 0;
}
